"""Read a pickle that holds nothing but dicts and numpy arrays, without running any code of its own."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from facelatent.errors import UnsafeCheckpoint, UnsupportedCheckpoint

_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]

# What rebuilding an array calls, under the module names of old and new numpy. Nothing else may be named.
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only numpy's array constructors."""
        if (module, name) not in _ALLOWED:
            raise UnsafeCheckpoint(f"a pickle of arrays must not refer to {module}.{name}; refused to read it")
        return _ALLOWED[module, name]


def load_numpy_pickle(path: Path) -> dict[str, Any]:
    """Nested dicts of arrays from a pickle file.

    Raises:
        UnsafeCheckpoint: the pickle names anything but numpy's array constructors; it is not called.
        UnsupportedCheckpoint: the file is no pickle of nested dicts of arrays.
    """
    try:
        value = _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
    except UnsafeCheckpoint:
        raise
    except Exception as error:  # a damaged pickle can make the unpickler raise nearly anything
        raise UnsupportedCheckpoint(f"{path} is not a pickle of arrays ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UnsupportedCheckpoint(f"{path} holds a {type(value).__name__}, not a dict of arrays")
    return value

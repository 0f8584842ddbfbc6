"""Arguments of the compiled kernels: ctypes mirrors of the C structs, and the call itself. Knows nothing of torch.

Every launcher takes one pointer to a struct that begins with ``abi`` and ``bytes``, which it checks, and returns 0 or
an error code. Sizes and strides count elements. Field by field, the structs are those of ``sources/*.h``.
"""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p, sizeof
from functools import cache
from typing import Any

from facelatent.cuda_kernels.load import library
from facelatent.cuda_kernels.toolchain import Kind
from facelatent.errors import FacelatentError

#: Version of the structs; FACELATENT_ABI in ``sources/abi.h``.
ABI = 1

#: Codes of the dtypes that kernels take, by the name of the dtype.
DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2, "float64": 3}

#: The longest side of a filter that the CUDA kernels take.
MAX_TAPS = 32


class Upfirdn2dArguments(Structure):
    """``facelatent_upfirdn2d_arguments`` of ``sources/arguments.h``."""

    _fields_ = (
        *((name, c_int32) for name in ("abi", "bytes", "dtype", "device", "threads")),
        *((name, c_int32) for name in ("up_x", "up_y", "down_x", "down_y", "taps_x", "taps_y", "separable")),
        *((name, c_int64) for name in ("pad_left", "pad_top", "n", "c", "in_h", "in_w", "out_h", "out_w")),
        ("x_stride", c_int64 * 4),
        ("y_stride", c_int64 * 4),
        *((name, c_void_p) for name in ("filter", "x", "y", "stream")),
    )


class BiasActArguments(Structure):
    """``facelatent_bias_act_arguments`` of ``sources/arguments.h``."""

    _fields_ = (
        *((name, c_int32) for name in ("abi", "bytes", "dtype", "device")),
        *((name, c_int32) for name in ("threads", "order", "activation", "reserved")),
        *((name, c_int64) for name in ("count", "bias_size", "bias_step")),
        *((name, c_double) for name in ("alpha", "gain", "clamp")),
        *((name, c_void_p) for name in ("x", "b", "g", "h", "y", "stream")),
    )


def launch(kind: Kind, name: str, arguments: Structure) -> None:
    """Call the launcher ``facelatent_NAME_KIND``.

    Raises:
        KernelsUnavailable: the library of that kind cannot be had here.
        FacelatentError: the launcher refused or the device failed; the message says which.
    """
    code = _launcher(kind, name)(byref(arguments))
    if code:
        text = _error(library(kind), code)
        raise FacelatentError(f"the {kind} kernel {name} failed: {text} (error {code})")


def stamped(arguments: Any) -> Any:
    """``arguments`` with its version and size filled in."""
    arguments.abi, arguments.bytes = ABI, sizeof(arguments)
    return arguments


@cache
def _launcher(kind: Kind, name: str) -> Any:
    function = getattr(library(kind), f"facelatent_{name}_{kind}")
    function.argtypes, function.restype = [c_void_p], c_int
    return function


def _error(loaded: CDLL, code: int) -> str:
    loaded.facelatent_error.restype = c_char_p
    text: bytes = loaded.facelatent_error(code)
    return text.decode()

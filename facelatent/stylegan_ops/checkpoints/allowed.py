"""The globals that checkpoints may name, and the plain data that each one becomes."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facelatent.errors import UnsafeCheckpoint, UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints.unpickle import Builder, Global, Record, plain_key

_MAX_RANK = 8
#: Class names of :class:`Record` for what is not a PyTorch module.
TF_NETWORK, NAMESPACE = "dnnlib.tflib.network.Network", "argparse.Namespace"


class Storage:
    """Bytes of one or more tensors inside the file; ``data`` comes later where the file has it later.

    ``dtype`` None means that the bytes are untyped: the tensors over them say what they are.
    """

    __slots__ = ("data", "dtype")

    def __init__(self, dtype: torch.dtype | None, data: memoryview | None = None) -> None:
        self.dtype = dtype
        self.data = data


@dataclass(frozen=True, slots=True)
class StorageType:
    """A storage class of PyTorch, such as ``torch.FloatStorage``; None for untyped bytes."""

    dtype: torch.dtype | None


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor that is still in the file. Nothing about it is trusted until :meth:`load`."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def set_state(self, state: Any) -> None:
        """Drop attributes that were set on a parameter."""

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor claims to have."""
        return math.prod(self.shape) * self.dtype.itemsize

    def load(self) -> Tensor:
        """A copy in memory.

        Raises:
            UnsupportedCheckpoint: it claims more than the file holds.
        """
        data = self.storage.data
        if data is None:
            raise UnsupportedCheckpoint("its values are not in the file")
        count = math.prod(self.shape)
        extent = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)) + 1 if count else 0
        size = self.dtype.itemsize
        held = len(data) // size
        # Strides of 0 repeat values: refused, or a few bytes could stand for any amount of memory.
        if self.offset + extent > held or count > held:
            raise UnsupportedCheckpoint(
                f"it declares shape {self.shape} from element {self.offset}, the file holds {held}"
            )
        if not count:
            return torch.zeros(self.shape, dtype=self.dtype)
        # Bytes of a pickle are not aligned: copy first, then see them as numbers.
        block = data[self.offset * size : (self.offset + extent) * size]
        values = torch.frombuffer(bytearray(block), dtype=self.dtype)
        return values.as_strided(self.shape, self.stride).contiguous()


class ArrayType:
    """numpy.dtype: only plain little-endian numbers."""

    __slots__ = ("code",)

    def __init__(self, code: str, *_: Any) -> None:
        if type(code) is not str or code not in _NUMPY_TYPES:
            shown = code[:20] if type(code) is str else type(code).__name__
            raise UnsafeCheckpoint(f"it has numpy values of type {shown!r}, which are not plain numbers")
        self.code = code

    def set_state(self, state: Any) -> None:
        """Check the byte order."""
        if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise UnsupportedCheckpoint("numpy values in big-endian byte order")


class Array:
    """numpy.ndarray, before and after its state has come."""

    __slots__ = ("stored",)

    def __init__(self, *_: Any) -> None:
        self.stored: Stored | None = None

    def set_state(self, state: Any) -> None:
        """State as numpy pickles it: (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, ArrayType):
            raise TypeError("an array without a dtype")
        shape = _sizes(shape)
        # Steps from the first or the last dimension on, by its memory order.
        order = range(len(shape)) if fortran else range(len(shape) - 1, -1, -1)
        strides, step = [0] * len(shape), 1
        for dimension in order:
            strides[dimension], step = step, step * shape[dimension]
        kind = _NUMPY_TYPES[dtype.code]
        self.stored = Stored(Storage(kind, memoryview(_as_bytes(data))), kind, 0, shape, tuple(strides))


def _as_bytes(data: Any) -> bytes | memoryview:
    if isinstance(data, str):
        return data.encode("latin-1")
    if not isinstance(data, (bytes, memoryview)):
        raise TypeError("array values are not bytes")
    return data


_NUMPY_TYPES: dict[str, torch.dtype] = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}
_SCALAR_FORMATS = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "b1": "?"}


def _numpy_scalar(dtype: Any, data: Any = b"") -> int | float:
    if not isinstance(dtype, ArrayType):
        raise TypeError("a scalar without a dtype")
    value: int | float = struct.unpack("<" + _SCALAR_FORMATS[dtype.code], _as_bytes(data))[0]
    return value


def _sizes(sizes: Any) -> tuple[int, ...]:
    """A shape or stride: a short tuple of whole numbers."""
    if type(sizes) not in (tuple, list) or len(sizes) > _MAX_RANK:
        raise TypeError("a shape or stride is not a short tuple")
    if any(type(size) is not int or not 0 <= size < 1 << 62 for size in sizes):
        raise ValueError("a shape or stride holds something else than whole numbers")
    return tuple(sizes)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any, dtype: torch.dtype | None = None) -> Stored:
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    (offset,) = _sizes((offset,))
    shape, stride = _sizes(shape), _sizes(stride)
    if len(shape) != len(stride):
        raise ValueError("shape and stride differ in length")
    return Stored(storage, dtype or storage.dtype or torch.uint8, offset, shape, stride)


def _tensor_v3(storage: Any, offset: Any, shape: Any, stride: Any, _: Any, __: Any, dtype: Any, *___: Any) -> Stored:
    if not isinstance(dtype, torch.dtype):
        raise TypeError("a tensor without a dtype")
    return _tensor(storage, offset, shape, stride, dtype=dtype)


def _parameter(data: Any, *_: Any) -> Stored:
    if not isinstance(data, Stored):
        raise TypeError("a parameter without a tensor")
    return data


def _dict(items: Any = ()) -> dict[Any, Any]:
    pairs = list(items.items()) if type(items) is dict else list(items)
    if any(type(pair) not in (tuple, list) or len(pair) != 2 for pair in pairs):
        raise TypeError("a dict of something else than pairs")
    return {plain_key(key): value for key, value in pairs}


def _persistent_object(meta: Any) -> Record:
    """StyleGAN2-ADA's self-describing objects: ``meta['module_src']`` is Python source, and is dropped unread."""
    if type(meta) is not dict or meta.get("type") != "class" or type(meta.get("class_name")) is not str:
        raise UnsupportedCheckpoint("a persistent object that is not a class")
    return Record(meta["class_name"], meta.get("state"))


class TensorFlowNetwork(Record):
    """dnnlib's network of the TensorFlow era: its weights and settings, without the source it carries."""

    __slots__ = ()

    def set_state(self, state: Any) -> None:
        """Keep the data of the state."""
        if type(state) is not dict:
            raise TypeError("a network's state is not a dict")
        self.state = {key: state.get(key) for key in ("version", "name", "static_kwargs", "components", "variables")}


def _encoded(text: Any, encoding: Any = "latin-1") -> bytes:
    """``_codecs.encode``: how protocol 2 writes bytes."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError("encoding something else than text to latin-1")
    return text.encode("latin-1")


def _path(*parts: Any) -> str:
    """A path among training options, as text."""
    if any(type(part) is not str for part in parts):
        raise TypeError("a path of something else than text")
    return "/".join(parts)


def _plain(*_: Any) -> None:
    """Something that tells nothing about weights, such as a device."""


_DTYPES = {
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Double": torch.float64,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}

#: Storage classes, all that the header of a stored tensor may name.
STORAGE_TYPES: dict[Global, Any] = {
    **{("torch", f"{name}Storage"): StorageType(dtype) for name, dtype in _DTYPES.items()},
    ("torch.storage", "UntypedStorage"): StorageType(None),
}


def allowed_globals(load_from_bytes: Callable[[Any], Storage]) -> dict[Global, Any]:
    """The exact list; ``load_from_bytes`` reads PyTorch's nested storages under :data:`STORAGE_TYPES` alone."""
    builders: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": _dict,
        "dnnlib.util.EasyDict": _dict,
        "argparse.Namespace": lambda: Record(NAMESPACE, {}),
        "builtins.set": lambda items=(): {plain_key(item) for item in items},
        "_codecs.encode": _encoded,
        "pathlib.PosixPath": _path,
        "pathlib.WindowsPath": _path,
        "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        "dnnlib.tflib.network.Network": lambda: TensorFlowNetwork(TF_NETWORK),
        "torch.storage._load_from_bytes": load_from_bytes,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor_v3,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch.Size": lambda sizes=(): _sizes(sizes),
        "torch.device": _plain,
        "numpy.ndarray": Array,
        "numpy.dtype": ArrayType,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        builders[f"{module}._reconstruct"] = Array
        builders[f"{module}.scalar"] = _numpy_scalar
    table: dict[Global, Any] = dict(STORAGE_TYPES)
    table |= {("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES.values()}
    for name, build in builders.items():
        module, _, attribute = name.rpartition(".")
        table[module, attribute] = Builder(name, build)
    return table

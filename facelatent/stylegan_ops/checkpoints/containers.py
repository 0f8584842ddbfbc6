"""Files that hold checkpoints: which kind one is by its first bytes, and what is in it as plain data.

Pickles, PyTorch's zip files and its older stream format are all read by :mod:`.unpickle`; tensors stay in the file
(mapped into memory) until they are asked for. Safetensors are read by the library of that name.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facelatent.errors import FacelatentError, UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints.allowed import STORAGE_TYPES, Storage, StorageType, allowed_globals
from facelatent.stylegan_ops.checkpoints.unpickle import Interpreter, Truncated

#: The pickled integer 0x1950a86a20f9469cfc6c that PyTorch's stream format starts with (protocol 2).
_TORCH_STREAM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STREAM_VERSION = 1001
#: First bytes of pickles: protocols 2 to 5, and what a protocol 0 or 1 pickle of a dict, tuple or object begins with.
_PICKLE_STARTS = b"\x80(}]c"
#: Files that are not checkpoints but come in their place, by what they begin with.
_FOREIGN = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; fetch it with 'git lfs pull'"),
    (b"\x1f\x8b", "gzip-compressed; decompress it first"),
    (b"7z\xbc\xaf", "a 7z archive; extract it first"),
    (b"Rar!", "a RAR archive; extract it first"),
    (b"\x89HDF", "an HDF5 (Keras) file; only PyTorch, safetensors and NVIDIA's pickles are read"),
)
#: What reading a damaged or hostile file may raise besides our own errors.
_DAMAGE = (
    Truncated,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        container: ``pickle``, ``torch-zip``, ``torch-stream`` or ``safetensors``.
        value: plain data; tensors are :class:`.allowed.Stored`, or ``torch.Tensor`` from safetensors.
        metadata: the strings of a safetensors header.
    """

    container: str
    value: Any
    metadata: dict[str, str] = field(default_factory=dict)


def read_contents(path: str | Path) -> Contents:
    """Read a file without running anything in it; its name plays no part in finding out what it is.

    Raises:
        UnsafeCheckpoint: it asks for code to be run; the message names it.
        UnsupportedCheckpoint: missing, truncated, a web page, a git-lfs pointer, or nothing that can be read.
    """
    with named_errors(str(path)):
        if not Path(path).is_file():
            raise UnsupportedCheckpoint("no such file")
        if not Path(path).stat().st_size:
            raise UnsupportedCheckpoint("the file is empty")
        with open(path, "rb") as file:
            # A private mapping is not writable to the file, and costs no memory until it is read.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if _looks_like_safetensors(mapped[:9], len(mapped)):
            return _read_safetensors(path)
        return read_bytes(memoryview(mapped))


@contextmanager
def named_errors(source: str) -> Iterator[None]:
    """Put ``source`` before our own errors, and turn what damage causes into UnsupportedCheckpoint."""
    try:
        yield
    except FacelatentError as error:
        raise type(error)(f"{source}: {error}") from error
    except OSError as error:
        raise UnsupportedCheckpoint(f"{source}: cannot be read ({error.strerror or error})") from error
    except _DAMAGE as error:
        reason = str(error)[:200] or type(error).__name__
        raise UnsupportedCheckpoint(f"{source}: damaged or truncated ({reason}); download it again") from error


def read_bytes(data: memoryview) -> Contents:
    """As :func:`read_contents`, from memory, and without safetensors; damage is raised as it comes."""
    head = bytes(data[:512])
    if head.startswith(b"PK"):
        return Contents("torch-zip", _read_zip(data))
    if head.startswith(_TORCH_STREAM):
        return Contents("torch-stream", _read_stream(data))
    if head[:1] and head[:1] in _PICKLE_STARTS:
        return Contents("pickle", Interpreter(data, _ALLOWED).load())
    raise UnsupportedCheckpoint(_foreign(head))


def _foreign(head: bytes) -> str:
    for start, meaning in _FOREIGN:
        if head.startswith(start):
            return f"it is {meaning}"
    if head.lstrip().startswith(b"<") or b"<html" in head.lower():
        return "it is a web page (a quota, login or error page?), not the file; download it again"
    if head[257:262] == b"ustar":
        return "it is a tar archive, or a file of PyTorch before 0.2; extract it or save it again"
    return f"not a checkpoint that can be read (first bytes {head[:8]!r})"


def _looks_like_safetensors(head: bytes, size: int) -> bool:
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _read_safetensors(path: str | Path) -> Contents:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            return Contents("safetensors", tensors, dict(file.metadata() or {}))
    except SafetensorError as error:
        raise UnsupportedCheckpoint(f"a damaged safetensors file ({error})") from error


def _read_zip(data: memoryview) -> Any:
    """``torch.save`` since PyTorch 1.6: ``NAME/data.pkl`` and one uncompressed entry per storage."""
    entries = _zip_entries(data)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UnsupportedCheckpoint("a zip file, but not one that torch.save wrote (no data.pkl)")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in entries or any(name.startswith(f"{folder}code/") for name in entries):
        raise UnsupportedCheckpoint("a TorchScript program, which is code; save the model's state dict instead")
    if bytes(entries.get(f"{folder}byteorder", b"little")) != b"little":
        raise UnsupportedCheckpoint("written on a big-endian machine")
    storages: dict[str, Storage] = {}

    def persistent(reference: Any) -> Storage:
        kind, key, count, _ = _storage_reference(reference)
        if key not in storages:
            storages[key] = Storage(kind.dtype, entries.get(f"{folder}data/{key}"))
        held = len(storages[key].data or b"") // (kind.dtype.itemsize if kind.dtype else 1)
        if count > held:
            raise UnsupportedCheckpoint(f"storage {key[:40]!r} declares {count} elements, the file holds {held}")
        return storages[key]

    return Interpreter(entries[pickles[0]], _ALLOWED, persistent).load()


def _zip_entries(data: memoryview) -> dict[str, memoryview]:
    """Every entry's bytes; compressed ones are refused, since a small file could stand for any size."""
    entries: dict[str, memoryview] = {}
    with zipfile.ZipFile(_MappedFile(data)) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
                raise UnsupportedCheckpoint(
                    f"zip entry {info.filename[:80]!r} is compressed; torch.save compresses none"
                )
            if info.filename in entries:
                raise UnsupportedCheckpoint(f"zip entry {info.filename[:80]!r} occurs twice")
            # The local header repeats the name and has an extra field of its own length (its alignment padding).
            header = data[info.header_offset : info.header_offset + 30]
            signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
            start = info.header_offset + 30 + name_length + extra_length
            if signature != b"PK\3\4" or start + info.file_size > len(data):
                raise Truncated(f"zip entry {info.filename[:80]!r} is outside the file")
            entries[info.filename] = data[start : start + info.file_size]
    return entries


class _MappedFile(io.RawIOBase):
    """A read-only file over mapped bytes, so that the zip directory is read without a copy of the file."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._data) if size is None or size < 0 else self._position + size
        taken = bytes(self._data[self._position : end])
        self._position += len(taken)
        return taken


def _storage_reference(reference: Any) -> tuple[StorageType, str, int, Any]:
    """(type, key, element count, view) of a persistent id ``('storage', type, key, location, count[, view])``."""
    tag, kind, key, _, count, *view = reference
    if tag != "storage" or not isinstance(kind, StorageType) or type(key) is not str or type(count) is not int:
        raise TypeError("a persistent id that is not a storage")
    return kind, key, count, view[0] if view else None


def _read_stream(data: memoryview, nested: bool = False) -> Any:
    """``torch.save`` before PyTorch 1.6, still used for storages inside pickles: five pickles, then raw storages."""
    storages: dict[str, tuple[Storage, int]] = {}

    def persistent(reference: Any) -> Storage:
        kind, key, count, view = _storage_reference(reference)
        if view is not None:
            raise UnsupportedCheckpoint("views of storages, as PyTorch before 0.4 wrote them; save it again")
        return storages.setdefault(key, (Storage(kind.dtype), count))[0]

    reader = Interpreter(data, STORAGE_TYPES if nested else _ALLOWED, persistent, len(_TORCH_STREAM))
    if reader.load() != _STREAM_VERSION:
        raise UnsupportedCheckpoint("an unknown version of PyTorch's stream format")
    if not reader.load().get("little_endian"):
        raise UnsupportedCheckpoint("written on a big-endian machine")
    value, keys = reader.load(), reader.load()
    position = reader.position
    for key in keys:
        if type(key) is not str:
            raise TypeError("a storage's key is not text")
        storage, declared = storages[key]
        (count,) = struct.unpack("<q", data[position : position + 8])
        start, end = position + 8, position + 8 + count * (storage.dtype.itemsize if storage.dtype else 1)
        if count != declared or count < 0 or end > len(data):
            raise Truncated(f"storage {key[:40]!r} declares {declared} elements, {len(data) - start} bytes are left")
        storage.data, position = data[start:end], end
    return value


def _load_nested(data: Any) -> Storage:
    """PyTorch's ``_load_from_bytes``, which would unpickle anything; this one knows storages and nothing else."""
    if not isinstance(data, (bytes, memoryview)):
        raise TypeError("a nested storage that is not bytes")
    view = memoryview(data)
    if bytes(view[: len(_TORCH_STREAM)]) != _TORCH_STREAM:
        Interpreter(view, STORAGE_TYPES).load()  # names what a poisoned one asks for
        raise UnsupportedCheckpoint("a nested storage in another format than PyTorch's")
    value = _read_stream(view, nested=True)
    if not isinstance(value, Storage):
        raise UnsupportedCheckpoint("a nested storage that holds something else")
    return value


_ALLOWED = allowed_globals(_load_nested)

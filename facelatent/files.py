"""Writing files so that a killed run leaves no half of one, and reading our own safetensors files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelatent.errors import InvalidFile, UnwritableOutput

if TYPE_CHECKING:
    import torch


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it is renamed to ``path`` if the block succeeds, else removed.

    Raises:
        UnwritableOutput: the folder cannot be made or written to.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:40]}-", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise UnwritableOutput(
            f"cannot write {target}: {error.strerror or error}; choose another output path"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; outputs get the permissions that the user's umask would give.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        raise UnwritableOutput(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise UnwritableOutput now if ``path`` cannot be written later; nothing is left behind.

    Long work calls this before it starts, so that a mistyped output path does not cost minutes.
    """
    target = Path(path)
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if target.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UnwritableOutput(f"cannot write {target}: {folder} is not a writable folder; choose another output path")


def sha256_of(path: str | Path) -> str:
    """Hex SHA-256 of a file's contents."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Write a safetensors file atomically; metadata values are stored as JSON strings."""
    from safetensors.torch import save

    stored = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    data = save(stored, {key: json.dumps(value) for key, value in metadata.items()})
    # The library writes metadata in an order that changes from run to run: equal contents should be equal bytes.
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    ordered += b" " * (-len(ordered) % 8)  # the format aligns tensors by padding its header
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(ordered).to_bytes(8, "little") + ordered)
        file.write(memoryview(data)[8 + size :])


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file that :func:`save_tensors` wrote: tensors and metadata.

    Raises:
        InvalidFile: the file is missing or is not such a file.
    """
    with _opened(path) as file:
        return {key: file.get_tensor(key) for key in file.keys()}, _metadata(file)  # noqa: SIM118 (not a dict)


@contextmanager
def reading(
    path: str | Path, kind: str, versions: Sequence[int]
) -> Iterator[tuple[int, dict[str, torch.Tensor], dict[str, Any]]]:
    """Version, tensors and metadata of a file of ours, which the block makes into what the file holds.

    Args:
        path: a file that :func:`save_tensors` wrote with a ``kind`` and a ``format`` in its metadata.
        kind: which it should be, such as ``latent``.
        versions: formats that can be read.

    Raises:
        InvalidFile: it is missing, of another kind or a later format; or its contents do not fit together, as
            KeyError, RuntimeError, TypeError or ValueError in the block say.
    """
    tensors, metadata = load_tensors(path)
    article = "an" if kind[0] in "aeiou" else "a"
    if (seen := metadata.pop("kind", None)) != kind:
        of_kind = "" if seen is None else f" of kind {str(seen)[:40]!r}"
        raise InvalidFile(f"{path} is a safetensors file{of_kind}, not {article} {kind}")
    if (version := metadata.pop("format", None)) not in versions:
        known = " and ".join(map(str, versions))
        raise InvalidFile(f"{path} has {kind} format {version!r}; this facelatent reads {known}: upgrade it")
    try:
        yield version, tensors, metadata
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidFile(f"{path} is not {article} {kind} that this facelatent can read ({error})") from error


def load_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata alone of such a file; errors as :func:`load_tensors`."""
    with _opened(path) as file:
        return _metadata(file)


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InvalidFile(f"{path} does not exist or is not a file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidFile(f"{path} is not a facelatent safetensors file ({error})") from error


def _metadata(file: Any) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in (file.metadata() or {}).items()}

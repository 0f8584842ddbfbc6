"""Compiled libraries in the cache: their names, what is kept beside them, and finding one that fits."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from facelatent.assets import cache_dir
from facelatent.cuda_kernels.toolchain import Kind, Recipe, cpu_features, gpus
from facelatent.errors import KernelsUnavailable
from facelatent.files import sha256_of

SOURCES = Path(__file__).parent / "sources"
#: What each kind is compiled from; files beside them that are not compiled are shared headers.
UNITS: dict[Kind, str] = {"cpu": "cpu_*.cpp", "cuda": "*.cu"}

Sources = dict[str, bytes]


@dataclass(frozen=True)
class Record:
    """What is kept beside a library, as JSON: its checksum, and how it was made."""

    sha256: str
    sources: str
    compiler: str
    flags: tuple[str, ...]
    targets: tuple[str, ...]
    seconds: float


def read_sources(kind: Kind, folder: Path) -> Sources:
    """The files that ``kind`` is compiled from, by name: its units and the shared headers.

    Raises:
        KernelsUnavailable: there are no units.
    """
    units = sorted(folder.glob(UNITS[kind]))
    if not units:
        raise KernelsUnavailable(f"{folder} has no {UNITS[kind]}; reinstall facelatent")
    headers = [path for path in sorted(folder.iterdir()) if path.suffix not in (".cpp", ".cu") and path.is_file()]
    return {path.name: path.read_bytes() for path in [*units, *headers]}


def digest(sources: Sources) -> str:
    """A checksum of all sources and their names."""
    parts = [b"%s\0%d\0%s" % (name.encode(), len(content), content) for name, content in sources.items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def library_name(recipe: Recipe, sources: Sources) -> str:
    """``KIND-KEY.so``; the key changes with everything that the library depends on."""
    key = hashlib.sha256(json.dumps([digest(sources), asdict(recipe)]).encode()).hexdigest()
    return f"{recipe.kind}-{key[:16]}.so"


def cache_folder() -> Path:
    """Where libraries are kept."""
    return cache_dir() / "kernels"


def temporary_folder() -> Path:
    """Where they are kept when the cache cannot be written: this user's own folder among the temporary ones."""
    return Path(tempfile.gettempdir()) / f"facelatent-kernels-{os.getuid()}"


def is_private(folder: Path) -> bool:
    """Whether a folder belongs to this user and nobody else may write to it; what lies there is run."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def find(recipe: Recipe, sources: Sources) -> Path | None:
    """The library that ``recipe`` would make, if there is one."""
    name = library_name(recipe, sources)
    folders = [cache_folder()]
    if is_private(temporary_folder()):
        folders.append(temporary_folder())
    return next((folder / name for folder in folders if intact(folder / name)), None)


def find_ahead(kind: Kind, sources: Sources, exact: bool) -> Path | None:
    """A library of these sources that was built ahead and runs on this machine, whatever compiled it.

    Args:
        kind: of kernels.
        sources: that it is made of.
        exact: a library for older GPUs only, whose PTX the driver would compile for these, does not count.
    """
    wanted = digest(sources)
    for path in sorted(cache_folder().glob(f"{kind}-*.so")):
        record = record_of(path)
        if record and record.sources == wanted and _runs_here(kind, record.targets, exact) and intact(path):
            return path
    return None


def _runs_here(kind: Kind, targets: tuple[str, ...], exact: bool) -> bool:
    if kind == "cpu":
        return targets == (cpu_features(),)
    present = gpus()
    built = {int(one) for one in targets}
    if present is None or not present.architectures or not built:
        return False
    return all(gpu in built or (gpu > max(built) and not exact) for gpu in present.architectures)


def intact(library: Path) -> bool:
    """Whether the library is there, whole. (Loading a truncated one kills the process with a bus error.)"""
    record = record_of(library)
    return record is not None and library.is_file() and sha256_of(library) == record.sha256


def record_of(library: Path) -> Record | None:
    """How a library was made; None if that was not kept."""
    try:
        values = json.loads(library.with_suffix(".json").read_text())
        return Record(**{**values, "flags": tuple(values["flags"]), "targets": tuple(values["targets"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(library: Path, target: Path, recipe: Recipe, sources: Sources, seconds: float) -> None:
    """Move a new library, with its record, to its place; whoever looks sees nothing, the old or the new one."""
    record = Record(sha256_of(library), digest(sources), recipe.title, recipe.flags, recipe.targets, round(seconds, 1))
    note = library.with_suffix(".json")
    note.write_text(json.dumps(asdict(record), indent=1) + "\n")
    for path in (library, note):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    # A library without its record, or with another's, does not count as whole: it is compiled again.
    note.replace(target.with_suffix(".json"))
    library.replace(target)

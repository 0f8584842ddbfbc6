"""Compile the kernels with ninja, once for each set of sources, compiler, targets and flags."""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from facelatent.cuda_kernels import store
from facelatent.cuda_kernels.toolchain import OPTIONAL_FLAGS, Kind, Recipe, ninja, recipe
from facelatent.errors import KernelsUnavailable

#: Seconds that the compilers may take.
BUILD_SECONDS = 900.0
#: Seconds that another process, which compiles the same library, is waited for.
LOCK_SECONDS = 180.0

#: A line of gcc, clang, nvcc, ptxas or a linker that says what is wrong.
_ERROR = re.compile(r"\berror\s*(:|--)|\bfatal\s*:|undefined reference|cannot find -l", re.IGNORECASE)
_HOST_COMPILER = re.compile(r"unsupported \w+ version", re.IGNORECASE)
_PROBE = "#ifdef _OPENMP\n#include <omp.h>\n#endif\nint facelatent_probe() { return 0; }\n"

_log = logging.getLogger("facelatent.cuda_kernels")


def build(arch: str | None = None) -> Path:
    """The CUDA library for ``arch``, compiled if it is not in the cache.

    Args:
        arch: ``90``, ``sm_90``, ``9.0``, several with commas between, or ``all`` that nvcc knows; None takes those of
            this machine's GPUs.

    Raises:
        KernelsUnavailable: it cannot be compiled here; the message says why.
    """
    return obtain("cuda", arch)


def build_cpu() -> Path:
    """The CPU library, compiled if it is not in the cache; errors as :func:`build`."""
    return obtain("cpu")


def obtain(kind: Kind, arch: str | None = None, fresh: bool = False, folder: Path | None = None) -> Path:
    """The library of ``kind`` from the cache, or compiled now; errors as :func:`build`.

    Args:
        kind: of kernels.
        arch: as :func:`build` takes it.
        fresh: compile even if it is in the cache.
        folder: of the sources.
    """
    sources = store.read_sources(kind, folder or store.SOURCES)
    how, ready, problem = look(kind, sources, arch)
    if ready is not None and not fresh:
        return ready
    if how is None:
        raise problem or KernelsUnavailable(f"no compiler for the {kind} kernels")
    return _compile(how, sources, fresh)


def look(
    kind: Kind, sources: store.Sources, arch: str | None = None
) -> tuple[Recipe | None, Path | None, KernelsUnavailable | None]:
    """How ``kind`` would be compiled, the library if it is there already, and what prevents compiling; builds nothing.

    A library that was built ahead serves too: one for more architectures than this machine's, or, where there is no
    compiler, one of another compiler.
    """
    try:
        how = recipe(kind, arch)
    except KernelsUnavailable as problem:
        return None, None if arch else store.find_ahead(kind, sources, exact=False), problem
    ready = store.find(how, sources)
    if ready is None and arch is None and kind == "cuda":
        ready = store.find_ahead(kind, sources, exact=True)
    return how, ready, None


def _compile(how: Recipe, sources: store.Sources, fresh: bool) -> Path:
    """Compile into a temporary folder, one process at a time, and move the result to its place."""
    name = store.library_name(how, sources)
    folder = _writable_folder()
    target = folder / name
    try:
        with _turn(target) as alone:
            if not fresh and store.intact(target):  # another process compiled it while this one waited
                return target
            _sweep(folder, target.stem)
            # Nobody sweeps the folder of a process that did not get the lock.
            prefix = f".{'build' if alone else 'extra'}-{target.stem}-"
            with tempfile.TemporaryDirectory(dir=folder, prefix=prefix) as work:
                _log.info("compiling the %s kernels with %s; done once, about half a minute", how.kind, how.title)
                began = time.monotonic()
                used = _accepted(how, Path(work)) if how.kind == "cpu" else how
                library = _ninja(used, sources, Path(work), target.with_suffix(".log"))
                store.keep(library, target, used, sources, time.monotonic() - began)
    except OSError as error:
        raise KernelsUnavailable(
            f"cannot write {folder} ({error.strerror or error}); set FACELATENT_CACHE to a folder with room"
        ) from error
    return target


def _writable_folder() -> Path:
    """The cache's folder, or where it cannot be written, this user's temporary one."""
    folder = store.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        other = store.temporary_folder()
        with suppress(OSError):
            other.mkdir(mode=0o700, exist_ok=True)
        why = f"{folder} cannot be written ({error.strerror or error})"
        if not store.is_private(other) or not os.access(other, os.W_OK):
            raise KernelsUnavailable(f"{why}, nor can {other}; set FACELATENT_CACHE to a folder of yours") from error
        warnings.warn(
            f"{why}: kernels are kept in {other}; set FACELATENT_CACHE to a folder of yours",
            RuntimeWarning,
            stacklevel=2,
        )
        return other


@contextmanager
def _turn(target: Path) -> Iterator[bool]:
    """Let one process at a time compile ``target``; yields whether this one is alone.

    The system drops the lock of a process that ends, however it ends. Should a lock last nevertheless (a stopped
    process, a file system without working locks), compiling twice is harmless and waiting for ever is not.
    """
    lock = FileLock(target.with_suffix(".lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("waiting for another process that compiles %s, %.0f s at most", target.name, LOCK_SECONDS)
            lock.acquire(timeout=LOCK_SECONDS)
    except (Timeout, NotImplementedError) as error:
        _log.warning("%s stays locked (%s): compiling without the lock", target.name, type(error).__name__)
    try:
        yield lock.is_locked
    finally:
        lock.release()


def _sweep(folder: Path, stem: str) -> None:
    """Remove what killed builds left: of this library at once, of others when no build can be so old."""
    for leftover in [*folder.glob(".build-*"), *folder.glob(".extra-*")]:
        with suppress(OSError):
            old = time.time() - leftover.stat().st_mtime > 2 * BUILD_SECONDS
            if old or leftover.name.startswith(f".build-{stem}-"):
                shutil.rmtree(leftover, ignore_errors=True)


def _accepted(how: Recipe, work: Path) -> Recipe:
    """``how`` without the optional flags that its compiler refuses."""
    (work / "probe.cpp").write_text(_PROBE)
    first = None
    for dropped in ((), OPTIONAL_FLAGS[:1], OPTIONAL_FLAGS[1:], OPTIONAL_FLAGS):
        flags = tuple(flag for flag in how.flags if flag not in dropped)
        link = tuple(flag for flag in how.link_flags if flag not in dropped)
        code, output = _run([*how.compiler, *flags, *link, "probe.cpp", "-o", "probe.so"], work)
        if code == 0:
            if dropped:
                _log.warning("%s refuses %s: kernels will be slower", how.title, " and ".join(dropped))
            return replace(how, flags=flags, link_flags=link)
        first = first or _first_error(output)
    raise KernelsUnavailable(f"{how.title} cannot compile an empty file: {first}")


def _ninja(how: Recipe, sources: store.Sources, work: Path, log: Path) -> Path:
    """Compile a copy of the sources in the folder ``work``; what the compiler said is kept if it fails.

    The copy is what the key was computed from, and it has names that neither ninja nor a shell could misread.
    """
    for name, content in sources.items():
        (work / name).write_bytes(content)
    # The file's own names need no escape; a path to a compiler may hold anything.
    compile_command, link_command = (
        shlex.join([*how.compiler, *flags]).replace("$", "$$") for flags in (how.flags, how.link_flags)
    )
    units = [name for name in sources if Path(name).suffix in (".cpp", ".cu")]
    objects = [f"{Path(name).stem}.o" for name in units]
    lines = [
        f"rule compile\n  command = {compile_command} -c $in -o $out",
        f"rule link\n  command = {link_command} $in -o $out",
        *(f"build {target}: compile {name}" for target, name in zip(objects, units, strict=True)),
        f"build kernels.so: link {' '.join(objects)}",
    ]
    (work / "build.ninja").write_text("\n".join(lines) + "\n")
    code, output = _run([ninja()], work)
    if code:
        log.write_text(output)
        raise KernelsUnavailable(_explanation(how, output, log))
    return work / "kernels.so"


def _explanation(how: Recipe, output: str, log: Path) -> str:
    if _HOST_COMPILER.search(output):
        found = [path for number in range(9, 20) if (path := shutil.which(f"g++-{number}"))]
        named = f" ({', '.join(found)} found)" if found else ""
        return f"nvcc does not take this host compiler: {how.title}; set CXX to an older g++{named}. Log: {log}"
    return f"{how.title} failed: {_first_error(output)}. Log: {log}"


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if _ERROR.search(line)), lines[-1] if lines else "it said nothing")


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and all output of a command, which with its children lives no longer than this call."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise KernelsUnavailable(f"{command[0]} does not run ({error})") from error
    try:
        output, _ = process.communicate(timeout=BUILD_SECONDS)
    except BaseException as error:
        _end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise KernelsUnavailable(f"{command[0]} took longer than {BUILD_SECONDS / 60:.0f} minutes") from error
        raise
    return process.returncode, output


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started. Told kindly, ninja ends its compilers, which have groups of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            break
    if process.stdout is not None:
        process.stdout.close()

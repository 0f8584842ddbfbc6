"""What compiles the kernels: compilers, ninja, the GPUs to compile for, and the flags."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from facelatent.errors import KernelsUnavailable

#: Kernels for this CPU, or for NVIDIA's GPUs.
Kind = Literal["cpu", "cuda"]

#: Flags that not every compiler takes; the build does without those that are refused.
OPTIONAL_FLAGS = ("-march=native", "-fopenmp")
# Not in the link: linked with -ffast-math, a library makes the whole process flush denormal numbers when it loads.
_CPU_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-fopenmp", "-fPIC")
_CUDA_FLAGS = ("-std=c++17", "-O3", "-Xcompiler", "-fPIC")
_CUDA_ROOT = "/usr/local/cuda"
_DRIVER = "libcuda.so.1"
# Of cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@dataclass(frozen=True)
class Recipe:
    """How one kind of kernels is compiled here; equal recipes and equal sources make equal libraries.

    Attributes:
        kind: of kernels.
        compiler: program, and arguments that CXX gives it.
        version: what the compiler, and for CUDA the host's C++ compiler too, say they are.
        title: compiler and version for people.
        flags: of every compilation.
        link_flags: of the link.
        targets: what the code runs on: the CPU's features, or CUDA architectures such as ``90``.
        environment: variables of the environment that change what the compiler does.
    """

    kind: Kind
    compiler: tuple[str, ...]
    version: str
    title: str
    flags: tuple[str, ...]
    link_flags: tuple[str, ...]
    targets: tuple[str, ...]
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpus:
    """What the driver says: the CUDA version that it supports, as (major, minor), and each GPU's architecture."""

    driver: tuple[int, int]
    architectures: tuple[int, ...]


def recipe(kind: Kind, arch: str | None = None) -> Recipe:
    """The compiler and flags for ``kind``, the same for builds at first use and ahead of time.

    Args:
        kind: of kernels.
        arch: CUDA architectures as :func:`cuda_architectures` takes them.

    Raises:
        KernelsUnavailable: a compiler is missing, or does not know the architectures.
    """
    if os.name != "posix":
        raise KernelsUnavailable(f"kernels are not compiled on {platform.system()}, only on Linux and macOS")
    return _cpu_recipe() if kind == "cpu" else _cuda_recipe(arch)


def _cpu_recipe() -> Recipe:
    compiler = cxx()
    version = version_of(*compiler)
    return Recipe(
        kind="cpu",
        compiler=compiler,
        version=version,
        title=f"{shlex.join(compiler)} {_number(version)}",
        flags=_CPU_FLAGS,
        link_flags=("-shared", "-fopenmp"),
        targets=(cpu_features(),),
    )


def _cuda_recipe(arch: str | None) -> Recipe:
    program = nvcc()
    host = os.environ.get("NVCC_CCBIN") or cxx()[0]
    version, host_version = nvcc_version(program), version_of(host)
    architectures = cuda_architectures(arch, nvcc_architectures(program))
    newest = architectures[-1]
    code = [f"-gencode=arch=compute_{one},code=sm_{one}" for one in architectures]
    code.append(f"-gencode=arch=compute_{newest},code=compute_{newest}")  # PTX, for GPUs yet to come
    return Recipe(
        kind="cuda",
        compiler=(program,),
        version=f"{version} {host_version}",
        title=f"{program} (CUDA {version}, host compiler {host} {_number(host_version)})",
        flags=("-ccbin", host, *_CUDA_FLAGS, "--threads=0", *code),
        link_flags=("-ccbin", host, "-shared", "-cudart=static", *code),
        targets=tuple(str(one) for one in architectures),
        environment=tuple(os.environ.get(name, "") for name in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")),
    )


def cxx() -> tuple[str, ...]:
    """The C++ compiler: CXX, which may carry arguments, or the first of c++, g++ and clang++ on the PATH.

    Raises:
        KernelsUnavailable: there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        path = shutil.which(named[0])
        if path is None:
            raise KernelsUnavailable(f"CXX names {named[0]!r}, which is not a program; correct or unset it")
        return path, *named[1:]
    path = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    if path is None:
        raise KernelsUnavailable("no C++ compiler (c++, g++ or clang++) on the PATH; install g++, or set CXX")
    return (path,)


def nvcc() -> str:
    """nvcc of CUDA_HOME or CUDA_PATH where one is set, else on the PATH, else of /usr/local/cuda.

    Raises:
        KernelsUnavailable: there is none there.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if root := os.environ.get(variable):
            path = shutil.which("nvcc", path=str(Path(root) / "bin"))
            if path is None:
                raise KernelsUnavailable(f"{variable} is {root}, but {root}/bin has no nvcc; correct or unset it")
            return path
    path = shutil.which("nvcc") or shutil.which("nvcc", path=f"{_CUDA_ROOT}/bin")
    if path is None:
        raise KernelsUnavailable(f"no nvcc on the PATH or in {_CUDA_ROOT}; install the CUDA toolkit, or set CUDA_HOME")
    return path


def ninja() -> str:
    """The ninja of the package ``ninja``, or the one on the PATH.

    Raises:
        KernelsUnavailable: there is none.
    """
    if importlib.util.find_spec("ninja") is not None:
        from ninja import BIN_DIR

        if path := shutil.which("ninja", path=BIN_DIR):
            return path
    if path := shutil.which("ninja"):
        return path
    raise KernelsUnavailable("no ninja found; pip install ninja")


def version_of(*command: str) -> str:
    """The first line of ``command --version``.

    Raises:
        KernelsUnavailable: the program does not run.
    """
    return _output(*command, "--version").partition("\n")[0].strip()


def _number(version: str) -> str:
    """The number in a line such as ``c++ (Debian 12.2.0-14) 12.2.0`` or ``clang version 14.0.6 (...)``."""
    found = re.search(r"version (\d[\w.]*)", version) or re.search(r"(\d+\.[\w.]+)$", version)
    return found[1] if found else version


def nvcc_version(program: str) -> str:
    """The version of a CUDA compiler, such as ``13.0.88``."""
    text = _output(program, "--version")
    found = re.search(r"\bV([\d.]+)", text) or re.search(r"release ([\d.]+)", text)
    if found is None:
        raise KernelsUnavailable(f"{program} --version names no version; reinstall the CUDA toolkit")
    return found[1]


def nvcc_architectures(program: str) -> tuple[int, ...]:
    """The architectures that a CUDA compiler knows, rising: ``(75, 80, ...)``."""
    known = sorted({int(one) for one in re.findall(r"compute_(\d+)\b", _output(program, "--list-gpu-arch"))})
    if not known:
        raise KernelsUnavailable(f"{program} lists no architectures; install a newer CUDA toolkit")
    return tuple(known)


@cache
def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise KernelsUnavailable(f"{command[0]} does not run ({error}); reinstall it") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        raise KernelsUnavailable(f"{shlex.join(command)} failed ({said or done.returncode}); reinstall it")
    return done.stdout


def cuda_architectures(arch: str | None, known: tuple[int, ...]) -> tuple[int, ...]:
    """The architectures to compile for, rising.

    Args:
        arch: ``90``, ``sm_90``, ``9.0``, several of them with commas between, or ``all``; None takes those of this
            machine's GPUs. A GPU that the compiler does not know gets the code of the newest that is older.
        known: what the compiler knows.

    Raises:
        KernelsUnavailable: no GPU and no name, a name that is none, or an architecture that the compiler lacks.
    """
    if arch == "all":
        return known
    if arch is not None:
        wanted = {_architecture(name) for name in arch.split(",")}
    else:
        present = gpus()
        if present is None or not present.architectures:
            raise KernelsUnavailable("no NVIDIA GPU to compile for; name an architecture: --arch 90, or --arch all")
        wanted = {max((one for one in known if one <= gpu), default=gpu) for gpu in present.architectures}
    if missing := sorted(wanted - set(known)):
        names = ", ".join(f"sm_{one}" for one in known)
        cure = "an older CUDA toolkit (set CUDA_HOME)" if missing[0] < known[0] else "another architecture or toolkit"
        raise KernelsUnavailable(f"this nvcc cannot compile for sm_{missing[0]}, only for {names}; use {cure}")
    return tuple(sorted(wanted))


def _architecture(name: str) -> int:
    found = re.fullmatch(r"(?:sm_|compute_)?(\d{2,3})|(\d{1,2})\.(\d)", name.strip())
    if found is None:
        raise KernelsUnavailable(f"{name.strip()!r} is no CUDA architecture; write 90, sm_90, 9.0 or all")
    return int(found[1] or found[2] + found[3])


@cache
def gpus() -> Gpus | None:
    """This machine's GPUs as the NVIDIA driver's library shows them; None where it is missing or fails.

    The library rather than nvidia-smi: whatever runs kernels has to load it, while containers often lack nvidia-smi,
    old ones cannot tell architectures, and it ignores CUDA_VISIBLE_DEVICES.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    calls = (driver.cuInit(0), driver.cuDriverGetVersion(ctypes.byref(version)))
    if any(calls) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return None
    architectures = set()
    for index in range(count.value):
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, index)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, index)
        architectures.add(10 * major.value + minor.value)
    return Gpus((version.value // 1000, version.value % 1000 // 10), tuple(sorted(architectures)))


@cache
def cpu_features() -> str:
    """What ``-march=native`` depends on: the processor's architecture and its list of features."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        with open(cpuinfo, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    return " ".join([platform.machine(), *sorted(value.split())])
    return f"{platform.machine()} {platform.processor()}"

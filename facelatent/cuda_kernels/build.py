"""Compile the kernels with ninja, once for each set of sources, compiler, architectures and flags."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from facelatent.assets import cache_dir
from facelatent.errors import KernelsUnavailable

SOURCES = Path(__file__).parent / "sources"
CPU_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffast-math", "-fno-finite-math-only", "-fopenmp", "-fPIC")


def build_cpu() -> Path:
    """The CPU library, compiled if it is not in the cache."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise KernelsUnavailable("no C++ compiler found; install g++")
    sources = sorted(SOURCES.glob("cpu_*.cpp"))
    key = hashlib.sha256()
    for path in sorted(SOURCES.iterdir()):
        key.update(path.read_bytes())
    key.update(" ".join([compiler, *CPU_FLAGS]).encode())
    target = cache_dir() / "kernels" / f"cpu-{key.hexdigest()[:16]}.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _ninja(
                Path(folder),
                f"{compiler} {' '.join(CPU_FLAGS)} -c $in -o $out -MD -MF $out.d",
                f"{compiler} -shared -fopenmp $in -o $out",
                sources,
            )
            os.replace(Path(folder) / "kernels.so", target)
    return target


def build(arch: str | None = None) -> Path:
    """The CUDA library for ``arch``, compiled if it is not in the cache."""
    raise KernelsUnavailable("CUDA kernels are not written yet")


def _ninja(folder: Path, compile_command: str, link_command: str, sources: list[Path]) -> None:
    lines = [
        f"rule compile\n  command = {compile_command}\n  depfile = $out.d",
        f"rule link\n  command = {link_command}",
    ]
    objects = [f"{path.stem}.o" for path in sources]
    lines += [f"build {name}: compile {path}" for name, path in zip(objects, sources, strict=True)]
    lines.append(f"build kernels.so: link {' '.join(objects)}")
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    done = subprocess.run([sys.executable, "-m", "ninja", "-C", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise KernelsUnavailable(f"the compiler failed: {done.stdout[-2000:]}")

"""Registers, spills and shared memory of every CUDA kernel, as ptxas reports them; needs nvcc, but no GPU.

python benchmarks/registers.py [--arch all]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from facelatent.cuda_kernels import toolchain
from facelatent.cuda_kernels.store import SOURCES, UNITS

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def report(arch: str = "all", folder: Path = SOURCES) -> list[dict[str, Any]]:
    """One row for each kernel of each source and architecture.

    Raises:
        KernelsUnavailable: no nvcc, or an architecture that it does not know.
        RuntimeError: a source does not compile.
    """
    architectures = toolchain.cuda_architectures(arch, toolchain.nvcc_architectures(toolchain.nvcc()))
    jobs = [(path, one) for path in sorted(folder.glob(UNITS["cuda"])) for one in architectures]
    # Several architectures in one call of nvcc are compiled one after another, and their reports run together.
    with tempfile.TemporaryDirectory() as work, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        rows = [row for found in pool.map(lambda job: _compile(*job, Path(work)), jobs) for row in found]
    for row, name in zip(rows, _readable([row["kernel"] for row in rows]), strict=True):
        row["kernel"] = name
    return rows


def _compile(path: Path, architecture: int, work: Path) -> list[dict[str, Any]]:
    how = toolchain.recipe("cuda", str(architecture))
    flags = [flag for flag in how.flags if not flag.endswith(f"code=compute_{architecture}")]
    out = work / f"{path.stem}-{architecture}.cubin"
    command = [*how.compiler, *flags, "-Xptxas=-v", "-cubin", str(path), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{path.name} does not compile for sm_{architecture}:\n{done.stdout}{done.stderr}")
    return [{"source": path.name, **row} for row in parsed(done.stdout + done.stderr)]


def parsed(text: str) -> Iterator[dict[str, Any]]:
    """What ``ptxas -v`` says of each kernel."""
    for part in re.split(r"(?=Compiling entry function)", text):
        entry, spills, used = _ENTRY.search(part), _SPILLS.search(part), _USED.search(part)
        if entry and spills and used:
            shared = _SHARED.search(part)
            yield {
                "arch": entry[2],
                "kernel": entry[1],
                "registers": int(used[1]),
                "stack": int(spills[1]),
                "spill stores": int(spills[2]),
                "spill loads": int(spills[3]),
                "shared": int(shared[1]) if shared else 0,
            }


def _readable(names: list[str]) -> list[str]:
    """C++ names without their mangling, where a program for that is installed."""
    filt = shutil.which("cu++filt") or shutil.which("c++filt")
    if filt is None or not names:
        return names
    done = subprocess.run([filt], input="\n".join(names), capture_output=True, text=True)
    return done.stdout.splitlines() if done.returncode == 0 else names


def main() -> None:
    from common import publish

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="all")
    parser.add_argument("--name", default="registers", help="of the result file")
    options = parser.parse_args()
    rows = report(options.arch)
    if not rows:
        raise SystemExit("there are no CUDA kernels")
    publish(options.name, rows, compiler=toolchain.recipe("cuda", options.arch).title)


if __name__ == "__main__":
    main()

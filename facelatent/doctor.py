"""What this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from facelatent.assets import ASSETS, cache_dir, is_cached


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is there, what was seen, and what to do if not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at Python, PyTorch, the GPU, compilers, extras and cached assets."""
    return [_python(), _memory(), *_torch(), _nvcc(), *_programs(), *_extras(), *_assets()]


def _python() -> Finding:
    return Finding("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _memory() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not hasattr(os, "sysconf"):
        return Finding("machine", True, f"{cores} cores")
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    advice = "" if gigabytes >= 4 else "inversion at 1024 px needs about 4 GB"
    return Finding("machine", not advice, f"{cores} cores, {gigabytes:.0f} GB of memory", advice)


def _torch() -> list[Finding]:
    import torch

    found = [Finding("torch", True, torch.__version__)]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        return [*found, Finding("gpu", True, names)]
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build of torch"
    return [*found, Finding("gpu", False, f"none usable ({build})", "not needed: everything also runs on the CPU")]


def _nvcc() -> Finding:
    root = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    path = shutil.which("nvcc", path=str(Path(root) / "bin") if root else None) or shutil.which("nvcc")
    if path is None:
        return Finding("nvcc", False, "not found", "only for compiling GPU kernels: install the CUDA toolkit")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
        release = next((line.strip() for line in done.stdout.splitlines() if "release" in line), "no version printed")
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("nvcc", False, f"{path} does not run ({error})", "reinstall the CUDA toolkit")
    return Finding("nvcc", True, f"{path}: {release}")


def _programs() -> list[Finding]:
    compiler = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
    return [
        Finding("c++ compiler", compiler is not None, compiler or "not found", "" if compiler else "install g++"),
        _package("ninja", "pip install ninja"),
    ]


def _extras() -> list[Finding]:
    return [
        _package("open_clip_torch", "only for CLIP guidance: pip install 'facelatent[clip]'", "open_clip"),
        _package("imageio-ffmpeg", "only for MP4: pip install 'facelatent[video]'", "imageio_ffmpeg"),
    ]


def _package(name: str, advice: str, module: str | None = None) -> Finding:
    if importlib.util.find_spec(module or name) is None:
        return Finding(name, False, "not installed", advice)
    return Finding(name, True, metadata.version(name))


def _assets() -> list[Finding]:
    found = [Finding("cache", True, str(cache_dir()))]
    for asset in ASSETS:
        cached = is_cached(asset)
        advice = "" if cached else f"fetched when needed, or now: facelatent assets pull {asset.name}"
        found.append(Finding(f"asset {asset.name}", cached, "cached" if cached else "not cached", advice))
    return found

"""What this machine has, and what to do about what it lacks."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import get_args

from facelatent import cuda_kernels
from facelatent.assets import ASSETS, cache_dir, is_cached
from facelatent.cuda_kernels import toolchain
from facelatent.errors import KernelsUnavailable
from facelatent.stylegan_ops.backend import Backend


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is there, what was seen, and what to do if not."""

    name: str
    ok: bool
    seen: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at Python, PyTorch, the GPU, compilers, kernels, extras and cached assets."""
    return [_python(), _memory(), *_torch(), *_programs(), *_kernels(), *_extras(), *_assets()]


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


def _programs() -> list[Finding]:
    """What compiles kernels, as their build finds it."""

    def nvcc() -> str:
        path = toolchain.nvcc()
        return f"{path}: CUDA {toolchain.nvcc_version(path)}"

    def compiler() -> str:
        command = toolchain.cxx()
        return f"{' '.join(command)}: {toolchain.version_of(*command)}"

    def ninja() -> str:
        path = toolchain.ninja()
        return f"{path}: {toolchain.version_of(path)}"

    return [
        _program("nvcc", nvcc, "only for GPU kernels: "),
        _program("c++ compiler", compiler),
        _program("ninja", ninja),
    ]


def _program(name: str, find: Callable[[], str], purpose: str = "") -> Finding:
    try:
        return Finding(name, True, find())
    except KernelsUnavailable as error:
        seen, _, advice = str(error).partition("; ")
        return Finding(name, False, seen, purpose + advice)


def _kernels() -> list[Finding]:
    found = []
    for kind in get_args(toolchain.Kind):
        state = cuda_kernels.state(kind)
        advice = "" if state.ok else "plain PyTorch runs instead"
        found.append(Finding(f"{kind} kernels", state.ok, state.text, advice))
    name = os.environ.get("FACELATENT_BACKEND") or "auto"
    if name not in get_args(Backend):
        known = ", ".join(get_args(Backend))
        return [*found, Finding("backend", False, f"FACELATENT_BACKEND is {name!r}", f"set it to one of {known}")]
    return [*found, Finding("backend", True, name)]


def _extras() -> list[Finding]:
    return [
        _package("open_clip_torch", "only for CLIP guidance: pip install 'facelatent[clip]'", "open_clip"),
        _package("imageio-ffmpeg", "only for MP4: pip install 'facelatent[video]'", "imageio_ffmpeg"),
        _package("uvicorn", "only for the studio: pip install 'facelatent[studio]'"),
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

"""What every benchmark prints: the machine, a table, and a JSON file; and how it measures."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from facelatent.memory import keep_freed_memory

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """This machine by cores and memory."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {gigabytes:.0f} GB, {platform.machine()}{gpu}, torch {torch.__version__}"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as aligned text."""
    columns = list(rows[0])
    cells = [columns, *[[_cell(row[column]) for column in columns] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def publish(name: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Print a table and write ``results/NAME.json``."""
    print(f"{name} ({machine()})")
    for key, value in facts.items():
        print(f"  {key}: {value}")
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    record = {"benchmark": name, "machine": machine(), **facts, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


def allocator(device: str | torch.device) -> str:
    """Where this process's tensors on ``device`` get their memory, in words; every ratio depends on it."""
    if torch.device(device).type == "cuda":
        return "torch's caching allocator"
    if keep_freed_memory.cache_info().currsize and keep_freed_memory():
        return "glibc, freed memory kept (as load_generator sets it)"
    switches = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")]
    return f"glibc, {' '.join(switches)}" if switches else "system default"


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 9,
    device: str | torch.device = "cpu",
    least: float = 2e-3,
) -> dict[str, float]:
    """Median seconds of one call of each function, timed in turns so that a busy machine disturbs all alike.

    Args:
        functions: by name; each is called once before, for lazy set-up.
        repeats: turns.
        device: whose clock counts. On a GPU, its own events: what the CPU does between launches counts only where the
            GPU waits for it.
        least: seconds that a single measurement lasts at least; a faster function is called several times in it.
    """
    timed = _seconds_gpu if torch.device(device).type == "cuda" else _seconds
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = max(1, min(1000, round(least / max(timed(function, 1), 1e-7))))
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            samples[name].append(timed(function, calls[name]))
    return {name: statistics.median(seconds) for name, seconds in samples.items()}


def _seconds(function: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


def _seconds_gpu(function: Callable[[], object], calls: int) -> float:
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    began.record()
    for _ in range(calls):
        function()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3 / calls


class Copy:
    """``copy_`` between two buffers far larger than any cache: the bandwidth that others are measured by.

    On a shared machine bandwidth comes and goes: pass an instance to :func:`interleaved` among what it is compared to.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        count = (1 << 30 if torch.device(device).type == "cuda" else 256 << 20) // 4
        self.source, self.target = torch.ones(count, device=device), torch.zeros(count, device=device)
        self.bytes = 2 * 4 * count  # read and written

    def __call__(self) -> None:
        """Copy once."""
        self.target.copy_(self.source)


def copy_bandwidth(device: str | torch.device = "cpu") -> float:
    """Bytes a second, read and written, of :class:`Copy`."""
    copy = Copy(device)
    return copy.bytes / interleaved({"copy": copy}, 9, device)["copy"]


def matrix_peak(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """FLOP a second of the faster of a matrix product and a 3x3 convolution of 512 channels at 64 px.

    On some CPUs PyTorch's convolution is twice as fast as its matrix product: the product alone would be a low bar.
    """
    side, batch = (8192, 32) if torch.device(device).type == "cuda" else (2048, 1)
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    x = torch.randn(batch, 512, 64, 64, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(512, 512, 3, 3, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = interleaved(
            {"product": lambda: a @ b, "convolution": lambda: F.conv2d(x, weight, padding=1)}, 9, device
        )
    flops = {"product": 2 * side**3, "convolution": 2 * batch * 64 * 64 * 512 * 512 * 9}
    return max(flops[name] / seconds[name] for name in flops)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"


def seconds_to_read(path: Path) -> float:
    """How long reading a file takes and does nothing else: what loading it costs at least."""
    began = time.perf_counter()
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass
    return time.perf_counter() - began

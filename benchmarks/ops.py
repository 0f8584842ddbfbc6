"""Time upfirdn2d and bias_act, ours against plain PyTorch, on the shapes of StyleGAN2's largest layers.

    python benchmarks/ops.py

Both run in the same process, in turns; every figure is a median. "of copy" is the least that must be read and written,
a second, over what ``copy_`` between large buffers reads and writes in the same turns: 1 is a pass over memory that
could hardly be faster, more than 1 means that caches helped. "of peak" is arithmetic a second over that of a large
matrix product or convolution.
On a CPU everything is timed in two fresh processes: with the system's default allocator, and with the one that
load_generator switches on, which reuses pages. Most of what plain PyTorch loses under the first is fresh pages.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from common import Copy, allocator, interleaved, matrix_peak, publish
from torch import Tensor

from facelatent.memory import keep_freed_memory
from facelatent.stylegan_ops.backend import chosen
from facelatent.stylegan_ops.bias_act import bias_act
from facelatent.stylegan_ops.stylegan2 import HALF_CLAMP
from facelatent.stylegan_ops.stylegan2_network import TAPS, channels_for
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

#: Arithmetic for one element of the result: multiplications and additions with the filter's taps that do not meet an
#: inserted zero; and for bias_act bias, slope, gain and two limits.
BLUR_FLOPS, UPSAMPLE_FLOPS, BIAS_ACT_FLOPS = 2 * 16, 2 * 4, 5


@dataclass(frozen=True)
class Case:
    """One operator on one shape: ``run(x, backend)`` gives the result."""

    operator: str
    shape: tuple[int, int, int, int]
    flops: int
    run: Callable[[Tensor, str], Tensor]


def cases(resolution: int, batch: int, device: str) -> Iterator[Case]:
    """What StyleGAN2 (config-f) computes in its block of ``resolution``."""
    channels = channels_for(resolution)[-1]
    taps = setup_filter(TAPS).to(device)
    bias = torch.randn(channels, device=device)
    side = resolution
    yield Case(
        "upfirdn2d, blur",
        (batch, channels, side + 1, side + 1),
        BLUR_FLOPS,
        lambda x, backend: upfirdn2d(x, taps, padding=1, gain=4, backend=backend),
    )
    yield Case(
        "upfirdn2d, up 2",
        (batch, 3, side // 2, side // 2),
        UPSAMPLE_FLOPS,
        lambda x, backend: upsample2d(x, taps, backend=backend),
    )
    yield Case(
        "bias_act, lrelu",
        (batch, channels, side, side),
        BIAS_ACT_FLOPS,
        lambda x, backend: bias_act(x, bias, act="lrelu", clamp=HALF_CLAMP, backend=backend),
    )


def measure(
    case: Case, dtype: torch.dtype, channels_last: bool, copy: Copy, peak: float, repeats: int
) -> dict[str, Any]:
    """A row of one case; ``error`` is relative to the reference's largest value."""
    device = copy.source.device
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(case.shape, device=device).to(dtype).contiguous(memory_format=layout)
    with torch.no_grad():
        expected = case.run(x, "reference")
        error = (case.run(x, "auto") - expected).abs().max() / expected.abs().max()
        count = expected.numel()
        bytes_moved = (x.numel() + count) * x.element_size()
        del expected
        ways: dict[str, Callable[[], object]] = {
            "reference": lambda: case.run(x, "reference"),
            "ours": lambda: case.run(x, "auto"),
            "copy": copy,
        }
        seconds = interleaved(ways, repeats, device)
    bandwidth, flops = copy.bytes / seconds["copy"], case.flops * count
    return {
        "operator": case.operator,
        "x": "x".join(map(str, case.shape)),
        "dtype": str(dtype).removeprefix("torch."),
        "layout": "channels_last" if channels_last else "NCHW",
        "memory": allocator(device),
        "reference, ms": 1e3 * seconds["reference"],
        "ours, ms": 1e3 * seconds["ours"],
        "times": seconds["reference"] / seconds["ours"],
        "MB": bytes_moved / 1e6,
        "GFLOP": flops / 1e9,
        "of copy": bytes_moved / seconds["ours"] / bandwidth,
        "of peak": flops / seconds["ours"] / peak,
        "copy, GB/s": bandwidth / 1e9,
        "peak, GFLOP/s": peak / 1e9,
        "error": error.item(),
    }


def rows_here(resolutions: list[int], batches: list[int], repeats: int, device: str) -> list[dict[str, Any]]:
    """All rows of this process."""
    dtypes = [torch.float32, torch.float16] if device != "cpu" else [torch.float32]
    copy, peaks = Copy(device), {dtype: matrix_peak(device, dtype) for dtype in dtypes}
    found = []
    for resolution, batch, dtype, channels_last in itertools.product(resolutions, batches, dtypes, (False, True)):
        for case in cases(resolution, batch, device):
            try:
                found.append(measure(case, dtype, channels_last, copy, peaks[dtype], repeats))
            except torch.OutOfMemoryError:
                print(f"no memory for {case.operator} {case.shape} {dtype}: left out", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--batches", type=int, nargs="+", help="[default: 1 4, on a GPU 1 8 32]")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--name", help="of the result file  [default: ops, on a GPU ops_gpu]")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    gpu = options.device != "cpu"
    batches = options.batches or ([1, 8, 32] if gpu else [1, 4])
    if gpu or options.one:
        if os.environ.get("FACELATENT_MALLOC") == "reuse":
            keep_freed_memory()
        rows = rows_here(options.resolutions, batches, options.repeats, options.device)
        if options.one:
            print(json.dumps(rows))
            return
    else:
        rows = []
        for malloc in ("default", "reuse"):
            environment = {**os.environ, "FACELATENT_MALLOC": malloc}
            command = [sys.executable, __file__, *sys.argv[1:], "--one"]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
            rows += json.loads(done.stdout)
    backend = chosen(None, torch.device(options.device))
    publish(
        options.name or ("ops_gpu" if gpu else "ops"), rows, ours=f"{backend} kernels", threads=torch.get_num_threads()
    )


if __name__ == "__main__":
    main()

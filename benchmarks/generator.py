"""Time drawing: StyleGAN2 (config-f, random weights) and the default generator, forward and with gradients to W+.

    python benchmarks/generator.py                          # everything
    python benchmarks/generator.py --only "1024.*forward"   # rows whose name matches

StyleGAN2 is compared with an implementation that has NVIDIA's structure (nvidia_structure.py) and with our plain
PyTorch path, in one process, in turns, on the same weights; every picture is checked against NVIDIA's structure's
first. On the CPU both ways of allocating memory are timed in fresh processes: the system's default, and the one that
load_generator switches on, which reuses pages.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from common import allocator, copy_bandwidth, interleaved, matrix_peak, publish
from nvidia_structure import NvidiaStructure
from torch import Tensor

from facelatent.memory import keep_freed_memory
from facelatent.stylegan_ops import Generator, StyleGAN2, StyleGAN2Config, channels_for, load_generator

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = torch.float16 if DEVICE == "cuda" else torch.bfloat16
BATCHES = (1, 8, 32) if DEVICE == "cuda" else (1, 4)


class Case(NamedTuple):
    """A row of the table."""

    resolution: int
    batch: int
    backward: bool
    dtype: torch.dtype

    def __str__(self) -> str:
        what = "forward + backward" if self.backward else "forward"
        return f"StyleGAN2 {self.resolution} batch {self.batch} {what} {str(self.dtype).removeprefix('torch.')}"


def cases() -> Iterator[Case]:
    for resolution in (256, 1024):
        for batch in BATCHES:
            for dtype in (torch.float32, HALF):
                yield Case(resolution, batch, False, dtype)
            if resolution * batch <= (8192 if DEVICE == "cuda" else 1024):
                yield Case(resolution, batch, True, torch.float32)


def random_stylegan2(resolution: int) -> StyleGAN2:
    """Weights whose activations neither grow nor vanish, with noise in every layer."""
    random = torch.Generator().manual_seed(0)
    generator = StyleGAN2(f"random-{resolution}", StyleGAN2Config(channels_for(resolution)))
    for name, value in generator.state_dict().items():
        if name.startswith("w_"):
            continue
        small = name.endswith(("bias", "noise_strength"))
        value.copy_(torch.randn(value.shape, generator=random) * (0.1 if small else 1) + name.endswith("affine.bias"))
    return generator.eval()


def flops(config: StyleGAN2Config) -> float:
    """Of the convolutions of one picture, one multiplication and addition being two."""
    pairs = [(config.channels[0], config.channels[0], 4)]
    for index, (before, channels) in enumerate(zip(config.channels, config.channels[1:], strict=False)):
        side = 8 << index
        pairs += [(before, channels, side // 2), (channels, channels, side)]
    return sum(2 * 9 * inputs * outputs * side**2 for inputs, outputs, side in pairs)


def least_bytes(config: StyleGAN2Config, batch: int, size: int) -> float:
    """Weights once, every layer's result written once and read once, for ``batch`` pictures."""
    weights = sum(9 * a * b for a, b in zip(config.channels, config.channels[1:], strict=False))
    weights += sum(9 * channels**2 for channels in config.channels)
    values = sum(2 * 2 * channels * side**2 for channels, side in zip(config.channels, config.sides, strict=True))
    return size * (weights + batch * values)


def drawing(synthesis: Callable[[Tensor], Tensor], ws: Tensor, backward: bool) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        with torch.no_grad():
            return synthesis(ws)

    def both() -> Tensor:
        code = ws.clone().requires_grad_(True)
        synthesis(code).square().mean().backward()
        assert code.grad is not None
        return code.grad

    return both if backward else forward


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def measure(case: Case, ours: StyleGAN2, theirs: NvidiaStructure, repeats: int) -> dict[str, Any]:
    random = torch.Generator().manual_seed(1)
    ws = torch.randn(case.batch, ours.num_ws, ours.w_dim, generator=random).to(DEVICE)
    plain = copy.copy(ours)
    plain.backend = "reference"
    exact = drawing(theirs.synthesis, ws, case.backward)()
    # Half precision by its opt-in: all blocks but that of 4 px, theirs as ours.
    for generator in (ours, theirs.generator):
        generator.set_precision(case.dtype, len(ours.config.channels))
    functions = {
        "ours": drawing(ours.synthesis, ws, case.backward),
        "nvidia": drawing(theirs.synthesis, ws, case.backward),
        "plain": drawing(plain.synthesis, ws, case.backward),
    }
    if case.dtype == torch.bfloat16:  # no one has that: our bfloat16 is an alternative to their float32
        theirs.generator.set_precision(torch.float32)
    seconds = interleaved(functions, repeats, DEVICE)
    error = relative(functions["ours"](), exact)
    for generator in (ours, theirs.generator):
        generator.set_precision(torch.float32)
    passes = 3 if case.backward else 1
    return {
        "case": str(case),
        "ours, ms": 1e3 * seconds["ours"],
        "NVIDIA's structure, ms": 1e3 * seconds["nvidia"],
        "plain, ms": 1e3 * seconds["plain"],
        "x NVIDIA's": seconds["nvidia"] / seconds["ours"],
        "relative rms": f"{error:.1e}",
        "GFLOP": flops(ours.config) * case.batch * (2 if case.backward else 1) / 1e9,
        "GB at least": least_bytes(ours.config, case.batch, case.dtype.itemsize) * passes / 1e9,
        "_seconds": seconds["ours"],
        "_dtype": str(case.dtype),
    }


def measure_default(generator: Generator, repeats: int, only: re.Pattern[str]) -> Iterator[dict[str, Any]]:
    """Rows of the generator that commands use."""
    with torch.no_grad():
        ws = generator.broadcast(generator.sample_w(0)).contiguous()
    functions = {
        "forward 1024 px": drawing(generator.synthesis, ws, False),
        "forward 512 px": drawing(partial(generator.synthesis, resolution=512), ws, False),
        "forward + backward 1024 px": drawing(generator.synthesis, ws, True),
    }
    for name, function in functions.items():
        if not only.search(f"{generator.name} {name}"):
            continue
        plain = copy.copy(generator)
        plain.backend = "reference"
        size = 512 if "512" in name else None
        slow = drawing(partial(plain.synthesis, resolution=size), ws, "backward" in name)
        seconds = interleaved({"ours": function, "plain": slow}, repeats, DEVICE)
        yield {
            "case": f"{generator.name} {name}",
            "ours, ms": 1e3 * seconds["ours"],
            "plain, ms": 1e3 * seconds["plain"],
        }


def run(repeats: int, only: re.Pattern[str]) -> list[dict[str, Any]]:
    if DEVICE == "cpu":
        keep_freed_memory()  # unless the environment says not to
    rows: list[dict[str, Any]] = []
    wanted = [case for case in cases() if only.search(str(case))]
    for resolution in sorted({case.resolution for case in wanted}):
        generator = random_stylegan2(resolution).to(DEVICE)
        theirs = NvidiaStructure(copy.deepcopy(generator))
        ours = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows += [measure(case, ours, theirs, repeats) for case in wanted if case.resolution == resolution]
    if only.search("mobile-ffhq-1024 forward + backward 1024 px forward 512 px forward 1024 px"):
        rows += measure_default(load_generator(device=DEVICE), repeats, only)
    bandwidth = copy_bandwidth(DEVICE)
    peaks = {str(dtype): matrix_peak(DEVICE, dtype) for dtype in (torch.float32, HALF)}
    for row in rows:
        seconds, dtype = row.pop("_seconds", None), row.pop("_dtype", None)
        row["of matrix peak"] = row["GFLOP"] * 1e9 / seconds / peaks[dtype] if seconds else None
        row["of copy bandwidth"] = row["GB at least"] * 1e9 / seconds / bandwidth if seconds else None
        row["memory"] = allocator(DEVICE)
    rows.append(
        {"case": "machine", "copy, GB/s": bandwidth / 1e9} | {f"peak {k}, GFLOP/s": v / 1e9 for k, v in peaks.items()}
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--name", default="generator", help="of the result file")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), help="regular expression of the rows' names")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run(options.repeats, options.only)))
        return
    rows, facts = [], {}
    for way in ("default", "reuse") if DEVICE == "cpu" else ("reuse",):
        command = [sys.executable, __file__, "--one", "--repeats", str(options.repeats), "--only", options.only.pattern]
        environment = {**os.environ, "FACELATENT_MALLOC": way}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        *found, facts = json.loads(done.stdout.splitlines()[-1])
        rows += found
    columns = list(dict.fromkeys(key for row in rows for key in row))
    facts.pop("case")
    publish(
        options.name, [{key: row.get(key) for key in columns} for row in rows], threads=torch.get_num_threads(), **facts
    )


if __name__ == "__main__":
    main()

"""Time the default generator at 1024 px: forward, and forward with gradients to W+.

    python benchmarks/generator.py

Both ways of allocating memory are timed in fresh processes of the same run: the system's default, and the one that
load_generator switches on, which reuses pages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch
from common import publish

from facelatent.stylegan_ops import load_generator


def median(function, repeats: int) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(repeats: int) -> dict[str, float]:
    generator = load_generator()
    with torch.no_grad():
        ws = generator.broadcast(generator.sample_w(0)).contiguous()

    def forward(resolution: int | None = None) -> None:
        with torch.no_grad():
            generator.synthesis(ws, resolution=resolution)

    def backward() -> None:
        code = ws.clone().requires_grad_(True)
        generator.synthesis(code).square().mean().backward()

    return {
        "forward 1024 px, s": median(forward, repeats),
        "forward 512 px, s": median(lambda: forward(512), repeats),
        "forward + backward 1024 px, s": median(backward, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--name", default="generator", help="of the result file")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.repeats)))
        return
    rows = []
    for allocator in ("default", "reuse"):
        command = [sys.executable, __file__, "--one", "--repeats", str(options.repeats)]
        environment = {**os.environ, "FACELATENT_MALLOC": allocator}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        rows.append({"memory": allocator, **json.loads(done.stdout)})
    publish(options.name, rows, batch=1, dtype="float32")


if __name__ == "__main__":
    main()

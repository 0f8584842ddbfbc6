"""Time and memory of adapting: the default generator as `facelatent adapt` does it, and a StyleGAN2 of 1024 px.

    python benchmarks/adaptation_speed.py art.png                   # results/adaptation_speed.json
    python benchmarks/adaptation_speed.py art.png --device cuda --name adaptation_speed_gpu

Each case runs in a process of its own, so that peaks of memory are its own, without a cached pool of people. The
StyleGAN2 (config-f) has random weights: neither time nor memory cares. On a CPU it makes few steps; ``a step`` is the
median, without the first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import publish
from generator import random_stylegan2

from facelatent.assets import cache_dir
from facelatent.domain_adapt import VGG, AdaptSettings, adapt, prepare_reference
from facelatent.domain_adapt.descent import Descent
from facelatent.images import open_image
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator, load_generator

#: Cases by name: the generator's resolution, and steps on a CPU; None for all of them.
CASES: dict[str, tuple[int, int | None]] = {
    "default": (0, None),
    "StyleGAN2 256 px": (256, 8),
    "StyleGAN2 1024 px": (1024, 8),
}


def generator_of(case: str, device: str) -> Generator:
    resolution, _ = CASES[case]
    if not resolution:
        return load_generator(DEFAULT_GENERATOR, device)
    return random_stylegan2(resolution).requires_grad_(False).to(device)


def settings_of(case: str, device: str) -> AdaptSettings:
    _, steps = CASES[case]
    settings = replace(VGG, patience=None)
    return settings if steps is None or device != "cpu" else replace(settings, steps=steps)


def measure(case: str, art: Path, device: str) -> dict[str, Any]:
    """One case, in this process."""
    generator = generator_of(case, device)
    reference = prepare_reference(open_image(art))
    ends: list[float] = []
    advance = Descent.advance

    def timed(descent: Descent) -> None:
        if not ends:
            ends.append(time.monotonic())
        advance(descent)
        ends.append(time.monotonic())

    Descent.advance = timed  # type: ignore[method-assign]
    settings = settings_of(case, device)
    began = time.monotonic()
    style = adapt(generator, reference, settings)
    steps = [after - before for before, after in itertools.pairwise(ends)]
    return {
        "generator": case,
        "steps": settings.steps,
        "pool of 48, s": round(ends[0] - began, 1),
        "a step, s": round(statistics.median(steps[1:]), 3),
        "in all, s": round(time.monotonic() - began, 1),
        "peak, MB": style.report["peak_megabytes"],
        "file, MB": round(style.bytes / 1e6, 2),
    }


def without_pools(folder: Path) -> None:
    """Make ``folder`` a cache that has all that the real one has, but no people of the source."""
    for entry in cache_dir().iterdir():
        if entry.name != "converted":
            (folder / entry.name).symlink_to(entry)
    (folder / "converted").mkdir()
    for entry in (cache_dir() / "converted").glob("*"):
        if not entry.name.startswith("pool-"):
            (folder / "converted" / entry.name).symlink_to(entry)


def apart(case: str, art: Path, device: str) -> dict[str, Any]:
    """One case, in a process and with a cache of pools of its own."""
    with tempfile.TemporaryDirectory() as folder:
        without_pools(Path(folder))
        command = [sys.executable, __file__, str(art), "--device", device, "--case", case]
        environment = {**os.environ, "FACELATENT_CACHE": folder}
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    row: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("art", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", help="a case's name")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="adaptation_speed")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.art, options.device)))
        return
    cases = [options.only] if options.only else list(CASES)
    publish(options.name, [apart(case, options.art, options.device) for case in cases], art=options.art.name)


if __name__ == "__main__":
    main()

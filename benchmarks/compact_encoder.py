"""The encoder that comes with the default generator: likeness and time on faces that it was not trained on.

    python benchmarks/compact_encoder.py [--faces 50] [--photos me.jpg you.jpg] [--sheet sheet.jpg] [--encoder FILE]

Generated faces at psi 0.8, mixed W+ codes, and photos: the astronaut, and others that are named. "map" is the encoder
without looking at what it found. Seconds are of one picture, from an aligned crop to the drawn 1024 px picture. LPIPS
(AlexNet), PSNR (peak 2) and dlib's identity distance at 256 px.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from common import publish

from facelatent.assets import asset_path
from facelatent.evaluation import generated_cases, photo_cases
from facelatent.evaluation.cases import Case
from facelatent.images import save_image, to_images
from facelatent.inversion import load_encoder
from facelatent.inversion.encoders import CompactEncoder
from facelatent.inversion.methods import default_encoder
from facelatent.inversion.optimize import crop_tensor, reconstruction_metrics, shrunk
from facelatent.render import grid
from facelatent.stylegan_ops import Generator, load_generator

METRICS = ("lpips_alex", "psnr", "identity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=50)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--sheet", type=Path, help="also write originals and reconstructions")
    parser.add_argument("--name", default="compact_encoder", help="of the result file")
    options = parser.parse_args()
    generator = load_generator(device="cpu")
    looking = load_encoder(options.encoder, "cpu") if options.encoder else default_encoder(generator)
    assert isinstance(looking, CompactEncoder)
    blind = copy.deepcopy(looking)
    blind.register_buffer("lengths", torch.zeros(0))
    groups = {
        "psi 0.8": generated_cases(generator, options.faces),
        "mixed W+": generated_cases(generator, options.faces, mixed=True),
        "astronaut": photo_cases([asset_path("astronaut")], generator),
    }
    groups |= {photo.stem: photo_cases([photo], generator) for photo in options.photos}
    rows: list[dict[str, Any]] = []
    columns = []
    for group, cases in groups.items():
        found = {"map": blind, "encoder": looking}
        measured = {name: [inverted(encoder, case, generator) for case in cases] for name, encoder in found.items()}
        rows += [row(group, name, [metrics for metrics, _ in results]) for name, results in measured.items()]
        for index in range(min(4, len(cases))):
            source = cases[index].load().image.resize((256, 256))
            columns.append([source, *(results[index][1] for results in measured.values())])
    if options.sheet:
        pictures = [list(line) for line in zip(*columns, strict=True)]
        labels = [[label] * len(columns) for label in ("picture", "map", "encoder")]
        save_image(grid(pictures, labels, 256), options.sheet)
    publish(options.name, rows, encoder=looking.name, looks=len(looking.lengths))


def inverted(encoder: CompactEncoder, case: Case, generator: Generator) -> tuple[dict[str, float], Any]:
    """What was measured of one picture, and its reconstruction at 256 px."""
    crop = case.load().image
    began = time.perf_counter()
    ws = encoder.encode_for(crop_tensor(crop, encoder.input_side), generator)
    with torch.no_grad():
        image = generator.synthesis(ws)
    seconds = time.perf_counter() - began
    small = shrunk(image, 256).clamp(-1, 1)
    return {**reconstruction_metrics(crop_tensor(crop, 256), small), "seconds": seconds}, to_images(small)[0]


def row(group: str, name: str, measured: list[dict[str, float]]) -> dict[str, Any]:
    """One line of the table: means over faces, the worst LPIPS, the median time."""
    known = {metric: [one[metric] for one in measured if metric in one] for metric in METRICS}
    means = {metric: statistics.fmean(values) if values else float("nan") for metric, values in known.items()}
    worst = max(one["lpips_alex"] for one in measured)
    seconds = statistics.median(one["seconds"] for one in measured)
    return {"faces": group, "": name, **means, "worst lpips": worst, "seconds": seconds}


if __name__ == "__main__":
    main()

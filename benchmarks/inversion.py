"""Invert the astronaut and some generated faces; print distances, identity and time.

    python benchmarks/inversion.py --generated 2
    python benchmarks/inversion.py --name inversion_no_face_weight --set face_weight=0    # what a setting is worth

``spread`` is the root mean square distance of the layers' codes from their mean, in standard deviations of w: edits
work best near 0.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import publish

from facelatent.assets import asset_path
from facelatent.editor import draw
from facelatent.images import open_image, save_image
from facelatent.inversion import OptimizeSettings, aligned_crop, invert
from facelatent.render import grid
from facelatent.stylegan_ops import load_generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=int, default=0, help="generated faces at psi 1 besides the photo")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a weight of the optimisation")
    parser.add_argument("--name", default="inversion", help="of the result file")
    parser.add_argument("--sheet", type=Path, help="also write originals and reconstructions side by side")
    options = parser.parse_args()
    generator = load_generator()
    changes: dict[str, Any] = {name: float(value) for name, value in (one.split("=") for one in options.set)}
    settings = replace(OptimizeSettings(), **changes)
    crops = {"astronaut": aligned_crop(open_image(asset_path("astronaut")), generator.resolution).image}
    for seed in range(300_000, 300_000 + options.generated):
        with torch.no_grad():
            crops[f"seed {seed}"] = draw(generator, generator.broadcast(generator.sample_w(seed)))[0]
    rows, pictures = [], []
    for name, crop in crops.items():
        began = time.perf_counter()
        latent = invert(crop, generator, aligned=True, settings=settings)
        seconds = time.perf_counter() - began
        v = (latent.ws - generator.w_avg) @ generator.w_components.T / generator.w_scales
        spread = float((v - v.mean(1, keepdim=True)).square().mean().sqrt())
        rows.append({"face": name, **latent.metrics, "spread": spread, "seconds": seconds})
        pictures.append([crop, draw(generator, latent.ws)[0]])
    if options.sheet:
        save_image(grid(pictures, [["photo", "inverted"]] * len(pictures), 512), options.sheet)
    publish(options.name, rows, settings=str(settings), resolution="metrics at 256 px")


if __name__ == "__main__":
    main()

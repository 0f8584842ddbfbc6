"""Invert the astronaut and some generated faces; print distances, identity and time.

python benchmarks/inversion.py [--generated 2]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

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
    parser.add_argument("--generated", type=int, default=1, help="generated faces at psi 1 besides the photo")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sheet", type=Path, default=Path("inversion.jpg"))
    options = parser.parse_args()
    generator = load_generator()
    settings = OptimizeSettings.with_steps(options.steps)
    crops = {"astronaut": aligned_crop(open_image(asset_path("astronaut")), generator.resolution).image}
    for seed in range(300_000, 300_000 + options.generated):
        with torch.no_grad():
            crops[f"seed {seed}"] = draw(generator, generator.broadcast(generator.sample_w(seed)))[0]
    rows, pictures = [], []
    for name, crop in crops.items():
        began = time.perf_counter()
        latent = invert(crop, generator, aligned=True, settings=settings)
        rows.append({"face": name, **latent.metrics, "seconds": time.perf_counter() - began})
        pictures.append([crop, draw(generator, latent.ws)[0]])
    save_image(grid(pictures, [["photo", "inverted"]] * len(pictures), 512), options.sheet)
    publish("inversion", rows, settings=str(settings), resolution="metrics at 256 px")


if __name__ == "__main__":
    main()

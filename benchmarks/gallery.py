"""Draw the strips of docs/attributes.md: two people at five strengths of every shipped attribute.

    python benchmarks/gallery.py

Seeds are fixed; no training saw these faces.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from facelatent.boundaries import load_boundary, shipped_boundaries
from facelatent.editing import AttributeEdit, draw, shift_of
from facelatent.stylegan_ops import load_generator

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "attributes"
SEEDS = (4_000_001, 4_000_003)
STRENGTHS = (-3.0, -1.5, 0.0, 1.5, 3.0)
SIDE = 144


@torch.no_grad()
def main() -> None:
    generator = load_generator()
    FOLDER.mkdir(parents=True, exist_ok=True)
    people = [generator.broadcast(generator.sample_w(seed, 0.7)) for seed in SEEDS]
    for name in tqdm(shipped_boundaries(), unit="attribute"):
        boundary = load_boundary(name, generator)
        sheet = Image.new("RGB", (SIDE * len(STRENGTHS), SIDE * len(people)))
        for row, ws in enumerate(people):
            for column, alpha in enumerate(STRENGTHS):
                edit = AttributeEdit(boundary, alpha)
                (picture,) = draw(generator, edit.apply(ws, generator), SIDE, shift_of([edit]))
                sheet.paste(picture, (SIDE * column, SIDE * row))
        sheet.save(FOLDER / f"{name}.jpg", quality=82)


if __name__ == "__main__":
    main()

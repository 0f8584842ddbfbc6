"""How good an encoder is on faces that it was not trained on, in numbers and in pictures."""

from __future__ import annotations

import statistics
from pathlib import Path

from torch import Tensor

from facelatent.images import save_image, to_images
from facelatent.inversion.encoders.compact import DRAWN_SIDE, CompactEncoder
from facelatent.inversion.optimize import reconstruction_metrics
from facelatent.inversion.training.pairs import draw, training_ws
from facelatent.render import grid
from facelatent.stylegan_ops import Generator

#: Faces that are measured, and how many of them the sheet shows; the seed of their codes, which no shard has.
_FACES, _SHOWN, _SEED = 24, 8, 0
#: What the log holds of :func:`reconstruction_metrics`.
_METRICS = ("lpips_alex", "psnr", "identity")


class Validation:
    """Faces that are looked at after each stage of a training."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.images = draw(generator, training_ws(generator, _FACES, _SEED))

    def looks(self, encoder: CompactEncoder) -> list[Tensor]:
        """What the encoder's map, and each of its looks, make of the faces: [n, 3, H, H] each."""
        found = encoder.each_look(self.images, self.generator, list(range(encoder.num_ws)))
        return [draw(self.generator, encoder.codes(coordinates)) for coordinates in found]

    def measure(self, looks: list[Tensor]) -> list[dict[str, float]]:
        """Mean ``lpips_alex``, ``psnr`` and ``identity`` at 256 px of each of :meth:`looks`.

        ``identity`` is left out where dlib finds no face.
        """
        rows = []
        for images in looks:
            found = [
                reconstruction_metrics(target[None].cpu(), image[None].cpu())
                for target, image in zip(self.images, images, strict=True)
            ]
            known = {name: [one[name] for one in found if name in one] for name in _METRICS}
            rows.append({name: statistics.fmean(values) for name, values in known.items() if values})
        return rows

    def sheet(self, looks: list[Tensor], path: Path) -> None:
        """Write a picture: the faces, and below them each of :meth:`looks`."""
        shown = [to_images(row[:_SHOWN].cpu()) for row in (self.images, *looks)]
        labels = ["drawn", "map", *(f"look {index}" for index in range(1, len(looks)))]
        captions = [[label] * len(row) for label, row in zip(labels, shown, strict=True)]
        save_image(grid(shown, captions, DRAWN_SIDE), path)

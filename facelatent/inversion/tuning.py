"""Pivotal tuning: the generator is bent until it draws the photo where the code already is.

Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", 2021. The code stays; the weights of the
convolutions move a little, so that edits around the code still work. What moved is kept as a
:class:`~facelatent.delta.GeneratorDelta` with the latent, and the generator itself stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from facelatent.delta import GeneratorDelta, tunable, unit
from facelatent.inversion.descent import Limits, descend
from facelatent.inversion.optimize import Likeness, face_weights
from facelatent.inversion.perceptual import half_precision
from facelatent.progress import Progress, progress_bar
from facelatent.stylegan_ops import Generator


@dataclass(frozen=True)
class TuneSettings:
    """How a generator is tuned to a face; the defaults are what ``benchmarks/inversion.py`` measures.

    Attributes:
        steps: most steps.
        learning_rate: of Adam, in :func:`facelatent.delta.unit` of each weight.
        lpips_weight: of LPIPS (VGG16) at 256 px.
        crop_weight: of LPIPS on 256 px pieces of the full picture: what 256 px do not show is held by nothing else.
        crop_every: steps from one piece to the next.
        pixel_weight: of the multi-scale mean squared error.
        face_weight: how much more than its surroundings the face counts.
        identity_weight: of the squared distance of dlib's embeddings.
        largest_noise: side in pixels of the largest noise maps that are tuned; 0 for none. Noise stays where it is
            when the head turns.
        enough: stop when the loss is at or below this.
        seed: of the places of the pieces.
    """

    steps: int = 200
    learning_rate: float = 0.015
    lpips_weight: float = 1.0
    crop_weight: float = 0.5
    crop_every: int = 2
    pixel_weight: float = 3.0
    face_weight: float = 1.0
    identity_weight: float = 0.1
    largest_noise: int = 256
    enough: float = 0.01
    seed: int = 0


def tune(
    generator: Generator,
    ws: Tensor,
    square: Image.Image,
    settings: TuneSettings | None = None,
    progress: Progress = False,
    seconds: float | None = None,
) -> GeneratorDelta:
    """What makes ``generator`` draw ``square`` at ``ws``.

    Args:
        generator: is not changed.
        ws: [1, num_ws, 512] codes: the pivot, which stays.
        square: the aligned crop.
        settings: how.
        progress: show a progress bar, or what to tell instead.
        seconds: end after so long; the schedule is fitted to it.
    """
    chosen = settings or TuneSettings()
    likeness = Likeness(
        square, generator, chosen.lpips_weight, chosen.pixel_weight, chosen.identity_weight, chosen.face_weight
    )
    pieces = _Pieces(likeness, chosen)
    moving = _Moving(generator, tunable(generator, chosen.largest_noise))
    codes = ws.detach().to(generator.device)

    def loss_of(step: int) -> Tensor:
        image = moving.draw(codes)
        loss = likeness(image)
        return loss if step % chosen.crop_every else loss + pieces.loss(image)

    with progress_bar("tuning", chosen.steps, progress) as bar:
        limits = Limits(chosen.steps, seconds, enough=chosen.enough)
        descend(loss_of, list(moving.differences.values()), chosen.learning_rate, limits, bar, betas=(0.9, 0.99))
    return moving.delta()


class _Moving:
    """A generator whose weights are its own plus differences that require gradients."""

    def __init__(self, generator: Generator, names: list[str]) -> None:
        self._generator = generator
        self._drawing = _Drawing(generator)
        weights = generator.state_dict()
        self._weights = {name: weights[name].detach() for name in names}
        self._units = {name: unit(name, weight) for name, weight in self._weights.items()}
        self.differences = {
            name: torch.zeros_like(weight).requires_grad_(True) for name, weight in self._weights.items()
        }

    def draw(self, ws: Tensor) -> Tensor:
        """The picture [1, 3, H, H] of codes [1, num_ws, 512]."""
        moved = {
            f"generator.{name}": self._weights[name] + self._units[name] * difference
            for name, difference in self.differences.items()
        }
        with half_precision(ws.device):
            image: Tensor = torch.func.functional_call(self._drawing, moved, (ws,))
        return image.float()

    def delta(self) -> GeneratorDelta:
        """The differences, as they are kept."""
        kept = {name: value.detach().to("cpu", torch.float16) for name, value in self.differences.items()}
        return GeneratorDelta(kept, self._generator.fingerprint)


class _Drawing(nn.Module):
    """A generator whose ``forward`` is its synthesis, as ``functional_call`` needs it."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, ws: Tensor) -> Tensor:
        """See :meth:`Generator.synthesis`."""
        return self.generator.synthesis(ws)


class _Pieces:
    """LPIPS of full-size pieces of a picture, most of them of the face."""

    def __init__(self, likeness: Likeness, settings: TuneSettings) -> None:
        self._likeness = likeness
        self._weight = settings.crop_weight
        self._random = torch.Generator().manual_seed(settings.seed)
        # Where pieces are centred: the ellipse of the face four times as often as as much of its surroundings.
        self._places = face_weights(64, 4.0).flatten()

    def loss(self, image: Tensor) -> Tensor:
        """Of a random piece of a picture [1, 3, H, H]; none where 256 px are the whole picture."""
        target, side = self._likeness.target, self._likeness.side
        free = image.shape[-1] - side
        if not free or not self._weight:
            return image.new_zeros(())
        place = int(torch.multinomial(self._places, 1, generator=self._random))
        y, x = (min(max(round((at + 0.5) / 64 * image.shape[-1] - side / 2), 0), free) for at in divmod(place, 64))
        piece = (slice(None), slice(None), slice(y, y + side), slice(x, x + side))
        return self._weight * self._likeness.perceived(image[piece], self._likeness.features_of(target[piece]))

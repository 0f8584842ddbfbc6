"""What an encoder's looks need to know: how much each coordinate matters, and how far to move."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from facelatent.inversion.encoders.compact import CompactEncoder, Target
from facelatent.stylegan_ops import Generator

#: Faces that gradients and lengths are measured on, and how many of them at once.
FACES, _BATCH = 256, 8
#: Lengths that are tried, in whitened coordinates.
_LENGTHS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
#: Faces that lengths are tried on.
_TRIED = 48
#: Share of the largest sensitivity below which a coordinate counts as no less sensitive.
_FLOOR = 1e-3


@torch.no_grad()
def learn_looks(
    encoder: CompactEncoder, generator: Generator, images: Tensor, found: Tensor, tick: Callable[[], None]
) -> None:
    """Measure ``encoder.sensitivity`` and choose ``encoder.lengths``, one look after the other.

    Args:
        encoder: changed in place.
        generator: draws.
        images: [FACES, 3, H, H] faces.
        found: [FACES, num_ws * components] what the map says about them, had it not seen them.
        tick: called after each of :func:`ticks` parts of the work.
    """
    layers = list(range(encoder.num_ws))
    squares = torch.zeros_like(encoder.sensitivity)
    for part, start in zip(torch.split(images, _BATCH), torch.split(found, _BATCH), strict=True):
        gradient = encoder.gradient(Target(part), start, generator, layers)
        squares += gradient.square().sum(0)
        tick()
    sensitivity = (squares / len(images)).sqrt()
    encoder.sensitivity.copy_(sensitivity.clamp_min(_FLOOR * float(sensitivity.max())))

    targets = [Target(part) for part in torch.split(images[:_TRIED], _BATCH)]
    coordinates = list(torch.split(found[:_TRIED], _BATCH))
    movements = [torch.zeros_like(one) for one in coordinates]
    for look in range(len(encoder.lengths)):
        gradients = []
        for target, start in zip(targets, coordinates, strict=True):
            gradients.append(encoder.gradient(target, start, generator, layers))
            tick()
        tried = []
        for length in _LENGTHS:
            added = [encoder.movement(*pair, length) for pair in zip(movements, gradients, strict=True)]
            moved = [start + one for start, one in zip(coordinates, added, strict=True)]
            drawn = [encoder.drawn(one, generator, layers) for one in moved]
            loss = sum(float(target.distance(one).sum()) for target, one in zip(targets, drawn, strict=True))
            tried.append((loss, length, added, moved))
            tick()
        _, best, movements, coordinates = min(tried, key=lambda one: one[0])
        encoder.lengths[look] = best


def ticks(looks: int) -> int:
    """How often :func:`learn_looks` calls ``tick``."""
    return FACES // _BATCH + looks * (_TRIED // _BATCH + len(_LENGTHS))

"""Moving codes along boundaries."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from facelatent.boundaries.boundary import Boundary
from facelatent.stylegan_ops import Generator


def edit_layers(boundary: Boundary, generator: Generator) -> list[int]:
    """W+ layers of ``generator`` that the boundary's default resolutions cover."""
    return generator.layers_between(*(boundary.resolutions or (0, generator.resolution)))


def edit(ws: Tensor, boundary: Boundary, alpha: float, layers: Iterable[int] | None = None) -> Tensor:
    """Move codes along a boundary's normal: ``ws + alpha * std * normal`` on the given layers.

    Args:
        ws: [n, num_ws, 512] W+ codes.
        boundary: what to change.
        alpha: strength in standard deviations of w along the normal; negative for less of the attribute.
        layers: W+ layers to move; all if None. :func:`edit_layers` gives the boundary's default ones.
    """
    mask = torch.ones(ws.shape[1]) if layers is None else torch.zeros(ws.shape[1])
    if layers is not None:
        mask[list(layers)] = 1
    return ws + alpha * boundary.std * mask.to(ws)[:, None] * boundary.normal.to(ws)

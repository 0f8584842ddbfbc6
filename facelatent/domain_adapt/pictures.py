"""Differentiable measures of pictures: gradients, colours, waves."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

# ITU-R BT.601: luminance and two differences of colour.
_YUV = ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))
#: Quantiles that distributions are compared at; the outermost are left out, since a picture's own lights are there.
_QUANTILES, _TRIMMED = 128, 4


def smaller(images: Tensor, side: int) -> Tensor:
    """Pictures [n, c, H, H] averaged to ``side`` px; as they are if they are no larger."""
    return images if images.shape[-1] <= side else F.interpolate(images, (side, side), mode="area")


def resized(images: Tensor, side: int) -> Tensor:
    """Pictures [n, c, H, H] at ``side`` px: averaged down, or interpolated up."""
    if images.shape[-1] < side:
        return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    return smaller(images, side)


def yuv(images: Tensor) -> Tensor:
    """RGB [n, 3, ...] -> YUV of the same shape."""
    return torch.einsum("oc,nc...->no...", torch.tensor(_YUV).to(images), images)


def luminance(images: Tensor) -> Tensor:
    """RGB [n, 3, H, W] -> [n, 1, H, W]."""
    weights = torch.tensor(_YUV[0]).to(images)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def gradients(images: Tensor) -> Tensor:
    """Differences to the right and lower neighbours: [n, c, H, W] -> [n, 2, c, H - 1, W - 1]."""
    here = images[..., :-1, :-1]
    return torch.stack([images[..., :-1, 1:] - here, images[..., 1:, :-1] - here], 1)


def blurred(images: Tensor, radius: int) -> Tensor:
    """Averaged twice over squares of side ``2 radius + 1``, about a Gaussian."""
    for _ in range(2):
        images = F.avg_pool2d(images, 2 * radius + 1, 1, radius, count_include_pad=False)
    return images


def haar_details(images: Tensor) -> Tensor:
    """The three detail bands of a Haar transform: [n, c, H, W] -> [n, 3, c, H/2, W/2]."""
    a, b = images[..., ::2, ::2], images[..., ::2, 1::2]
    c, d = images[..., 1::2, ::2], images[..., 1::2, 1::2]
    return torch.stack([a + b - c - d, a - b + c - d, a - b - c + d], 1) / 4


def phase_pattern(images: Tensor, period: int = 4, tile: int = 64) -> Tensor:
    """What repeats every ``period`` pixels, in each tile: [n, c, H, W] -> [n, c, tiles, tiles, period, period].

    Upsampling by two, twice, leaves its lattice here, and nothing else of a picture is as regular.
    """
    n, c, height, width = images.shape
    tile = min(tile, height)
    detail = images - F.avg_pool2d(images, 2 * period + 1, 1, period, count_include_pad=False)
    blocks = detail.reshape(n, c, height // tile, tile // period, period, width // tile, tile // period, period)
    return blocks.mean((3, 6))


@cache
def _directions(count: int = 12) -> Tensor:
    """Unit vectors [count, 3], fixed."""
    random = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, 3, generator=random), dim=1)


def colour_quantiles(colours: Tensor, weights: Tensor) -> Tensor:
    """Quantiles of colours along fixed directions in RGB and along YUV's axes.

    Args:
        colours: [3, k] RGB.
        weights: [k] how much each counts, not all zero.

    Returns:
        [directions, quantiles], differentiable in ``colours``.
    """
    axes = torch.cat([_directions(), torch.tensor(_YUV)]).to(colours)
    values, order = (axes @ colours).sort(1)
    reached = weights[order].cumsum(1)
    reached = reached / reached[:, -1:].clamp_min(1e-9)
    wanted = (torch.arange(_QUANTILES, device=colours.device) + 0.5) / _QUANTILES
    places = torch.searchsorted(reached, wanted.expand(len(axes), -1).contiguous()).clamp_max(values.shape[1] - 1)
    return values.gather(1, places)[:, _TRIMMED:-_TRIMMED]

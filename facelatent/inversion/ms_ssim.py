"""MS-SSIM: how much of a picture's structure another one has, at five scales.

Wang, Simoncelli & Bovik, "Multiscale structural similarity for image quality assessment", 2003.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 11
SIGMA = 1.5
#: Exponents of the scales, from the full size to a sixteenth of it (the paper's section 3.2).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: The smallest side, in pixels, that still holds a window at the last scale.
SMALLEST_SIDE = WINDOW << (len(WEIGHTS) - 1)
#: Width of the values' range, [-1, 1].
RANGE = 2.0


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """MS-SSIM [n] of pictures a, b [n, c, H, W] in [-1, 1]; 1 means equal.

    Each channel for itself, the means taken over all of them; windows lie wholly inside the picture. Where structure is
    inverted, so that its term is negative, it counts as 0.

    Raises:
        ValueError: the shapes differ, or a side is below 176 px.
    """
    if a.shape != b.shape or a.ndim != 4 or min(a.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"ms_ssim takes two tensors [n, c, H, W] of one shape, {SMALLEST_SIDE} px or more a side, "
            f"got {list(a.shape)} and {list(b.shape)}"
        )
    x, y = a.double(), b.double()
    product = torch.ones(len(a), dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(WEIGHTS):
        luminance, structure = _terms(x, y)
        last = scale == len(WEIGHTS) - 1
        # Equation 7: luminance counts at the last scale only.
        term = (luminance * structure if last else structure).mean((1, 2, 3))
        product = product * term.clamp_min(0) ** weight
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance l and contrast-structure c s at every window [n, c, h, w] (equations 1 to 3, C3 = C2 / 2)."""
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def _blurred(x: Tensor) -> Tensor:
    """Gaussian means of every whole window."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    taps = torch.exp(-places.square() / (2 * SIGMA**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    return F.conv2d(F.conv2d(x, taps, groups=x.shape[1]), taps.transpose(2, 3), groups=x.shape[1])

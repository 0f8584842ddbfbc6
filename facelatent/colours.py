"""Colours as people tell them apart: CIE Lab, how far two palettes are apart, and one laid on another picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_KNEE = 6 / 29
#: Quantiles at which two distributions are compared.
_QUANTILES = (np.arange(256) + 0.5) / 256


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB [..., 3], 0 to 255: IEC 61966-2-1 and CIE 15."""
    share = np.asarray(rgb, np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)  # the white of sRGB is D65
    root = np.where(xyz > _KNEE**3, np.cbrt(xyz), xyz / (3 * _KNEE**2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def srgb(colours: np.ndarray) -> np.ndarray:
    """sRGB [..., 3], uint8, of CIE L*a*b*: the inverse of :func:`lab`; what no screen shows is clipped."""
    y = (colours[..., 0] + 16) / 116
    root = np.stack([y + colours[..., 1] / 500, y, y - colours[..., 2] / 200], -1)
    xyz = np.where(root > _KNEE, root**3, 3 * _KNEE**2 * (root - 4 / 29)) * _TO_XYZ.sum(1)
    linear = (xyz @ np.linalg.inv(_TO_XYZ).T).clip(0, 1)
    share = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    encoded: np.ndarray = (share * 255).round().astype(np.uint8)
    return encoded


def palette_distance(first: Image.Image, second: Image.Image) -> float:
    """How far the colours of two pictures are apart, wherever in them they are, in units of Lab.

    The earth mover's distance of the histograms of L, of a and of b (the mean difference of their quantiles), and of
    these three the Euclidean norm.
    """
    a, b = (np.quantile(lab(np.asarray(one.convert("RGB"))).reshape(-1, 3), _QUANTILES, 0) for one in (first, second))
    return float(np.linalg.norm(np.abs(a - b).mean(0)))


def with_palette(picture: Image.Image, reference: Image.Image) -> Image.Image:
    """The picture with the mean and the standard deviation of the reference's colours in Lab.

    Reinhard et al., "Color Transfer between Images", 2001, in CIE Lab instead of their l alpha beta.
    """
    own, other = (lab(np.asarray(one.convert("RGB"))) for one in (picture, reference))
    spread = other.std((0, 1)) / own.std((0, 1)).clip(1e-6)
    return Image.fromarray(srgb((own - own.mean((0, 1))) * spread + other.mean((0, 1))))

"""The reference: an artwork, aligned, cleaned of what is not style, and taken apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from facelatent.domain_adapt.parts import portrait_parts
from facelatent.errors import FacelatentError, NoFaceFound
from facelatent.images import to_rgb, to_tensor
from facelatent.inversion import aligned_crop

_log = logging.getLogger(__name__)

#: Side in pixels of a prepared reference.
SIDE = 256
#: The smallest picture that is taken, in pixels of its shorter side.
MIN_SIDE = 64
#: The bilateral filter: pixels, and share of the range. Stronger ones blur what is learned from the reference.
_SIGMA_PLACE, _SIGMA_RANGE = 1.5, 0.08


@dataclass(frozen=True)
class Reference:
    """A prepared reference.

    Attributes:
        image: [1, 3, SIDE, SIDE] in [-1, 1].
        parts: [4, 64, 64] masks; see :func:`~facelatent.domain_adapt.parts.portrait_parts`.
        aligned: whether a face was found; else it is the picture's middle.
    """

    image: Tensor
    parts: Tensor
    aligned: bool

    def to(self, device: torch.device) -> Reference:
        """The same on a device."""
        return Reference(self.image.to(device), self.parts.to(device), self.aligned)


def prepare_reference(picture: Image.Image, source: str = "the reference", clean: bool = True) -> Reference:
    """Align a reference as FFHQ was, smooth canvas and craquelure away, and find its parts.

    Where no face is found (a drawing, an animal) the middle of the picture is taken, with a warning in the log.

    Args:
        picture: of any mode; alpha is laid on white.
        source: what messages call it.
        clean: smooth it.

    Raises:
        FacelatentError: it is smaller than :data:`MIN_SIDE`.
    """
    picture = to_rgb(picture)
    if min(picture.size) < MIN_SIDE:
        raise FacelatentError(
            f"{source} has {picture.width} x {picture.height} pixels; a reference needs at least {MIN_SIDE} on each "
            "side, better 400"
        )
    try:
        found = aligned_crop(picture, SIDE, source=source)
    except NoFaceFound as error:
        _log.warning("%s; its middle is used as it is, which works for pictures framed like a portrait", error)
        image, landmarks = _middle(picture), None
    else:
        image = found.image
        landmarks = _moved(found.face.landmarks, found.quad)
    if clean:
        image = cleaned(image)
    parts = portrait_parts(np.asarray(image), landmarks)
    return Reference(to_tensor(image), parts, landmarks is not None)


def cleaned(image: Image.Image) -> Image.Image:
    """A median of 3 x 3 and one mild bilateral pass: cracks and canvas go, edges stay."""
    pixels = np.asarray(image.filter(ImageFilter.MedianFilter(3)), np.float64) / 255
    reach = int(np.ceil(2 * _SIGMA_PLACE))
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    total, weights = np.zeros_like(pixels), np.zeros((height, width, 1))
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            moved = padded[reach + y : reach + y + height, reach + x : reach + x + width]
            unlike = ((moved - pixels) ** 2).mean(-1, keepdims=True) / _SIGMA_RANGE**2
            weight = np.exp(-0.5 * (unlike + (x * x + y * y) / _SIGMA_PLACE**2))
            total += weight * moved
            weights += weight
    return Image.fromarray(np.rint(total / weights * 255).astype(np.uint8))


def _moved(landmarks: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Landmarks [68, 2] of a picture in the pixels of its crop with corners ``quad``."""
    across, down = (quad[3] - quad[0]) / SIDE, (quad[1] - quad[0]) / SIDE
    found: np.ndarray = np.linalg.solve(np.stack([across, down], 1), (landmarks - quad[0]).T).T
    return found


def _middle(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

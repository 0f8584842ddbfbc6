"""What part of a picture a classifier sees."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from facelatent.faces import Face, crop_quad, face_chip

#: ``aligned``: FFHQ's upright square; ``chip``: dlib's, tighter; ``whole``: the picture as it is.
Crop = Literal["aligned", "chip", "whole"]


def crop(pixels: np.ndarray, face: Face, kind: Crop, size: tuple[int, int], padding: float = 0.25) -> np.ndarray:
    """Cut a face out of uint8 RGB ``pixels`` [H, W, 3].

    Args:
        pixels: the picture.
        face: where the face is in it.
        kind: see :data:`Crop`.
        size: height and width of the result; ``aligned`` and ``chip`` are squares before they are scaled to it.
        padding: of ``chip``: by what share of the face it is widened.

    Returns:
        uint8 [height, width, 3]; black, or the border's colour in ``aligned``, where the picture ends.
    """
    height, width = size
    if kind == "chip":
        square = Image.fromarray(face_chip(pixels, face, max(size), padding))
    elif kind == "aligned":
        square = _aligned(Image.fromarray(pixels), face)
    else:
        square = Image.fromarray(pixels)
    return np.asarray(square.resize((width, height), Image.Resampling.BILINEAR))


def _aligned(picture: Image.Image, face: Face) -> Image.Image:
    """FFHQ's crop at the picture's own scale, without its reflected borders."""
    quad = crop_quad(face.landmarks)
    border = max(round(float(max(-quad.min(), (quad - picture.size).max(), 0))) + 1, 1)
    padded = Image.fromarray(np.pad(np.asarray(picture), ((border, border), (border, border), (0, 0)), "edge"))
    corners = [float(value) for value in (quad + border + 0.5).flatten()]
    side = max(round(float(np.hypot(*(quad[3] - quad[0])))), 1)
    return padded.transform((side, side), Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)

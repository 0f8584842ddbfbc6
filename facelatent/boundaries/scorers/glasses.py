"""A scorer of glasses: a linear classifier on the gradients of the eye region.

It was trained on faces of ``mobile-ffhq-1024`` that were labelled by eye; ``benchmarks/train_glasses.py`` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from facelatent.boundaries.scorers.geometry import face_axes
from facelatent.boundaries.scorers.interface import FaceScorer
from facelatent.errors import InvalidFile
from facelatent.faces import Face
from facelatent.files import load_tensors

#: Where the classifier is kept.
WEIGHTS = Path(__file__).parent / "glasses.safetensors"
#: The region: its left top corner in the face's own axes, in eye distances; its pixels an eye distance; its size.
_CORNER = (-1.2, -0.5)
_SCALE = 40
_HEIGHT, _WIDTH = 48, 96
#: Histograms of oriented gradients (Dalal & Triggs 2005): pixels a cell, and directions.
_CELL, _BINS = 8, 9


class GlassesScorer(FaceScorer):
    """Log odds that a face wears glasses, sunglasses included."""

    name = "glasses"
    attributes: tuple[str, ...] = ("glasses",)
    units: Mapping[str, str] = {"glasses": "log odds"}
    source = "a linear classifier of our own; faces of mobile-ffhq-1024, labelled by eye: see docs/scorers.md"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`."""
        model = _model()
        pairs = zip(pictures, faces, strict=True)
        return np.array([[model.log_odds(eye_features(pixels, face.landmarks))] for pixels, face in pairs])


@dataclass(frozen=True)
class GlassesModel:
    """A linear classifier of :func:`eye_features`: ``weights . features + bias``."""

    weights: np.ndarray
    bias: float

    def log_odds(self, features: np.ndarray) -> float:
        """Of one face's features [2, k], as it is and mirrored."""
        return float((features @ self.weights).mean() + self.bias)


def eye_features(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Gradients about the eyes, [2, k]: of a face with landmarks [68, 2] in uint8 ``pixels``, and of its mirror image.

    The region is turned upright and scaled by the eyes. Each cell's histogram of directions is divided by the mean
    strength of its 3 x 3 neighbours, so that light and contrast count little.
    """
    region = _eye_region(pixels, landmarks)
    return np.stack([_gradients(region), _gradients(region[:, ::-1])])


def _eye_region(pixels: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Grey region about the eyes, [48, 96] in [0, 1]."""
    middle, axis = face_axes(landmarks)
    across, down = axis / _SCALE, np.array([-axis[1], axis[0]]) / _SCALE
    # Landmarks name pixels; Pillow counts from the picture's edge, half a pixel before the first one's middle.
    corner = middle + 0.5 + _SCALE * (_CORNER[0] * across + _CORNER[1] * down)
    matrix = (across[0], down[0], corner[0], across[1], down[1], corner[1])
    grey = Image.fromarray(pixels).convert("L")
    # Without averaging, rims of larger pictures would alias.
    factor = max(int(np.hypot(*across)), 1)
    small = grey.reduce(factor)
    scaled = tuple(float(value) / factor for value in matrix)
    region = small.transform((_WIDTH, _HEIGHT), Image.Transform.AFFINE, scaled, Image.Resampling.BILINEAR)
    return np.asarray(region, np.float64) / 255


def _gradients(region: np.ndarray) -> np.ndarray:
    vertical, horizontal = np.gradient(region)
    strength = np.hypot(vertical, horizontal)
    place = np.arctan2(vertical, horizontal) % np.pi / np.pi * _BINS
    lower = np.floor(place).astype(int)
    share = place - lower
    rows, columns = _HEIGHT // _CELL, _WIDTH // _CELL
    cells = np.zeros((rows, columns, _BINS))
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] // _CELL
    np.add.at(cells, (y, x, lower % _BINS), strength * (1 - share))
    np.add.at(cells, (y, x, (lower + 1) % _BINS), strength * share)
    padded = np.pad(cells.sum(2), 1, "edge")
    around = np.mean([padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], 0)
    normed: np.ndarray = np.sqrt(cells / (around[..., None] + 0.1))
    return normed.ravel()


@cache
def _model() -> GlassesModel:
    tensors, _ = load_tensors(WEIGHTS)
    try:
        return GlassesModel(tensors["weights"].double().numpy(), float(tensors["bias"]))
    except KeyError as error:
        raise InvalidFile(f"{WEIGHTS} lacks {error}; install facelatent again") from error

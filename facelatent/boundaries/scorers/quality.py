"""A scorer of how much a picture looks like a face at all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from facelatent.boundaries.scorers.interface import FaceScorer
from facelatent.faces import Face


class QualityScorer(FaceScorer):
    """How sure dlib's detector is: low where a face is turned away, covered or torn."""

    name = "quality"
    attributes: tuple[str, ...] = ("detection",)
    units: Mapping[str, str] = {"detection": "detector's score, about 0 doubtful, above 1 sure"}
    source = "dlib's frontal face detector (Boost Software License)"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`."""
        return np.array([[face.score] for face in faces])

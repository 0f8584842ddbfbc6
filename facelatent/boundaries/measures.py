"""What pictures are compared by: scores, who it is, and a thumbnail."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from facelatent.boundaries.scorers import SCORERS, Scorer, locate_faces
from facelatent.faces import identity
from facelatent.images import to_arrays

#: Measured values by name: [n] for a score, [n, k] for what has no order, such as an identity's embedding.
Measures = dict[str, np.ndarray]
Measure = Callable[[Tensor], Measures]

#: Names of the measures that are no scores.
IDENTITY, PICTURE = "identity", "picture"
_THUMBNAIL = 16


def measure_faces(images: Tensor, scorers: tuple[Scorer, ...] = SCORERS) -> Measures:
    """Every score [n], ``identity`` [n, 128] by dlib, and ``picture`` [n, 768], of images [n, 3, H, W] in [-1, 1].

    Scores and identity are NaN where no face is found; distances between identities are below 0.6 for one person.
    """
    faces = locate_faces(images)
    measures: Measures = {}
    for scorer in scorers:
        measures |= scorer.score(images, faces)
    arrays = to_arrays(images)
    people = [
        np.full(128, np.nan) if face is None else identity(pixels, face)
        for pixels, face in zip(arrays, faces, strict=True)
    ]
    thumbnails = F.adaptive_avg_pool2d(images.clamp(-1, 1), _THUMBNAIL).flatten(1)
    return {**measures, IDENTITY: np.stack(people), PICTURE: thumbnails.cpu().numpy()}

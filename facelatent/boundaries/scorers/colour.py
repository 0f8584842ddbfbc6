"""A scorer of colours and light, from patches whose places landmarks give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facelatent.boundaries.scorers.geometry import face_axes
from facelatent.boundaries.scorers.interface import FaceScorer
from facelatent.colours import lab
from facelatent.faces import Face

Points = Sequence[tuple[float, float]]

# Middles of patches in the face's own axes: x along the eyes, y down, from the middle of the eyes, in eye distances.
_HAIR: Points = [
    (across * float(np.sin(turn)), -up * float(np.cos(turn)))
    for across, up in ((1.15, 1.4), (1.2, 1.6))
    for turn in np.radians((-60, -45, -30, -10, 10, 30, 45, 60))
]
_CHEEKS: Points = [(-0.5, 0.55), (0.5, 0.55)]
#: Half a patch's side in eye distances.
_HALF = 0.08
#: Background: this share of the picture's height and width at its upper corners.
_CORNER = (0.3, 0.1)
#: Patches nearer to the cheeks' colour than this are skin. Lightness, which the light changes, counts half.
_SKIN = 10.0
#: Patches of the head's upper rim that must be something else than skin for there to be hair.
_LEAST_HAIR = 3

_UNITS = {
    "hair_lightness": "CIE L*, 0 to 100, NaN where the upper head is bare",
    "blondness": "CIE L* + 2 b* of the hair, less the light's yellow",
    "skin_lightness": "CIE L*, 0 to 100",
    "lip_redness": "CIE a*, lips less cheeks",
    "light_from_right": "CIE L*, the picture's right cheek less its left",
    "exposure": "CIE L*, mean of the picture",
    "background_lightness": "CIE L*, 0 to 100",
}


class ColourScorer(FaceScorer):
    """Colours and light; see :func:`colours` for the definitions."""

    name = "colour"
    attributes: tuple[str, ...] = tuple(_UNITS)
    units = _UNITS
    source = "patches beside dlib's 68 landmarks, measured in CIE Lab"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; units as in :func:`colours`."""
        measured = [colours(pixels, face.landmarks) for pixels, face in zip(pictures, faces, strict=True)]
        return np.array([[values[name] for name in self.attributes] for values in measured])


def colours(pixels: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Colours and light of a face with landmarks [68, 2] in uint8 RGB ``pixels`` [H, W, 3].

    They are what the picture shows: light changes them all, and no white balance is undone.
    """
    cheeks = _patches(pixels, landmarks, _CHEEKS)
    skin = cheeks.mean(0)
    rim = _patches(pixels, landmarks, _HAIR)
    hair = rim[_unlike(rim, skin)]
    tuft = np.median(hair, 0) if len(hair) >= _LEAST_HAIR else np.full(3, np.nan)
    lips = _around(pixels, landmarks, [(landmarks[50:53] + landmarks[61:64]) / 2])
    height, width = round(len(pixels) * _CORNER[0]), round(pixels.shape[1] * _CORNER[1])
    corners = [lab(part.reshape(-1, 3)).mean(0) for part in (pixels[:height, :width], pixels[:height, -width:])]
    # Warm light makes all hair yellow: what the skin is above its usual 18 is taken to be the light's.
    yellow = float(tuft[2]) - max(float(skin[2]) - 18, 0)
    return {
        "hair_lightness": float(tuft[0]),
        "blondness": float(tuft[0]) + 2 * yellow,
        "skin_lightness": float(skin[0]),
        "lip_redness": float(lips[:, 1].mean() - skin[1]),
        "light_from_right": float(cheeks[1, 0] - cheeks[0, 0]),
        "exposure": float(lab(pixels[::4, ::4].reshape(-1, 3))[:, 0].mean()),
        "background_lightness": float(np.mean([corner[0] for corner in corners])),
    }


def _unlike(patches: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Which of Lab ``patches`` [k, 3] are not skin [3]."""
    unlike: np.ndarray = np.hypot.reduce((patches - skin) * [0.5, 1, 1], axis=1) > _SKIN
    return unlike


def _patches(pixels: np.ndarray, landmarks: np.ndarray, places: Points) -> np.ndarray:
    """Lab [k, 3] of square patches at ``places`` in the face's own axes."""
    middle, axis = face_axes(landmarks)
    across = np.array(places) @ np.array([axis, [-axis[1], axis[0]]])
    return _around(pixels, landmarks, [middle + across])


def _around(pixels: np.ndarray, landmarks: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Lab [k, 3] of the median colour about each of ``points`` [k, 2]; those outside are moved to the border."""
    half = max(_HALF * float(np.hypot(*face_axes(landmarks)[1])), 1.0)
    height, width = pixels.shape[:2]
    found = []
    for x, y in np.clip(np.concatenate(points), half, [width - 1 - half, height - 1 - half]):
        patch = pixels[round(y - half) : round(y + half) + 1, round(x - half) : round(x + half) + 1]
        found.append(np.median(patch.reshape(-1, 3), 0))
    return lab(np.array(found))

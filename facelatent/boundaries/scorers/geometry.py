"""A scorer of pose, openings and proportions, from 68 landmarks."""

from __future__ import annotations

import numpy as np

from facelatent.boundaries.scorers.interface import FaceScorer
from facelatent.faces import Face

_UNITS = {
    "yaw": "eye distances, positive to the picture's right",
    "pitch": "0 eye line to 1 mouth line, larger looking down",
    "roll": "radians, clockwise positive",
    "mouth_open": "eye distances",
    "mouth_width": "eye distances",
    "eyes_open": "share of the eye's width",
    "smile_curve": "share of the mouth's width, corners up positive",
    "lips": "eye distances, both lips' thickness",
    "face_width": "share of the height from brows to upper lip",
    "jaw_width": "share of the face's width",
    "chin_length": "eye distances, lower lip to chin",
    "brow_height": "eye distances, above the eyes",
    "nose_width": "share of the way between the outer eye corners",
}


class GeometryScorer(FaceScorer):
    """Pose, openings and proportions from 68 landmarks; see :func:`geometry` for the definitions."""

    name = "geometry"
    attributes: tuple[str, ...] = tuple(_UNITS)
    units = _UNITS
    source = "dlib's 68 landmarks (MIT; trained on iBUG 300-W, non-commercial research)"

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """See :class:`FaceScorer`; units as in :func:`geometry`."""
        measured = [geometry(face.landmarks) for face in faces]
        return np.array([[values[name] for name in self.attributes] for values in measured])


def face_axes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face's own axes: middle of the eyes [2], and the way from eye to eye [2], whose length is the unit."""
    left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    return (left + right) / 2, right - left


def geometry(landmarks: np.ndarray) -> dict[str, float]:
    """Pose, openings and proportions of a face from landmarks [68, 2].

    Lengths are in distances between the eye centres where nothing else is said, measured in the face's own axes (x
    along the eyes, y down). Proportions change a little when a head turns, as the landmarks' own do.

    ``yaw`` the nose tip's offset from the middle of the eyes, positive when the face looks to the picture's right;
    ``pitch`` the nose tip's place between eye line (0) and mouth line (1), larger when looking down;
    ``roll`` the tilt of the eye line in radians, clockwise positive;
    ``mouth_open`` the gap between the inner lips; ``mouth_width`` corner to corner;
    ``eyes_open`` lid gap over eye width, mean of both eyes;
    ``smile_curve`` how far the mouth's corners lie above the middle of the lips' outline, over the mouth's width;
    ``lips`` thickness of both lips together;
    ``face_width`` width below the ears over the height from brows to upper lip (the anthropologists' fWHR);
    ``jaw_width`` width at the mouth's height over ``face_width``'s; ``chin_length`` lower lip to chin;
    ``brow_height`` mean height of the brows above the eyes' centres;
    ``nose_width`` wing to wing over the way between the outer eye corners.
    """
    middle, axis = face_axes(landmarks)
    distance = float(np.hypot(*axis))
    x_axis = axis / distance
    y_axis = np.array([-x_axis[1], x_axis[0]])
    x, y = (landmarks - middle) @ x_axis / distance, (landmarks - middle) @ y_axis / distance
    corners = (y[48] + y[54]) / 2

    def apart(first: int, second: int) -> float:
        return float(np.hypot(x[first] - x[second], y[first] - y[second]))

    def lid_gap(eye: int) -> float:
        return (apart(eye + 1, eye + 5) + apart(eye + 2, eye + 4)) / (2 * apart(eye, eye + 3))

    def mean_gap(firsts: tuple[int, ...], seconds: tuple[int, ...]) -> float:
        return float(np.mean([apart(first, second) for first, second in zip(firsts, seconds, strict=True)]))

    width, eyes = apart(1, 15), apart(36, 45)
    return {
        "yaw": float(x[30]),
        "pitch": float(y[30] / corners),
        "roll": float(np.arctan2(axis[1], axis[0])),
        "mouth_open": mean_gap((61, 62, 63), (67, 66, 65)),
        "mouth_width": apart(48, 54),
        "eyes_open": (lid_gap(36) + lid_gap(42)) / 2,
        "smile_curve": float((y[51] + y[57]) / 2 - corners) / apart(48, 54),
        "lips": mean_gap((50, 51, 52), (61, 62, 63)) + mean_gap((67, 66, 65), (58, 57, 56)),
        "face_width": width / float(y[51] - y[17:27].mean()),
        "jaw_width": apart(4, 12) / width,
        "chin_length": apart(57, 8),
        "brow_height": -float(y[17:27].mean()),
        "nose_width": apart(31, 35) / eyes,
    }

"""Attribute scorers: what a picture of a face looks like, in numbers.

A scorer has a ``name``, the ``attributes`` that it measures, and ``score``. All of them take pictures and the faces in
them, so that detection is paid for once.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facelatent.assets import asset_path
from facelatent.boundaries.emotion import EMOTIONS, SIDE, load_emotion_net
from facelatent.faces import Face, face_chip, find_faces
from facelatent.images import to_arrays

Scores = dict[str, np.ndarray]

#: dlib's own normalisation of its age and gender networks: RGB means, then divided by 256.
_CHIP_MEANS = np.array([122.782, 117.001, 104.298], np.float32)
_CHIP_PADDING = 0.2
#: Emotion crops: widening of the detector's box, and downward shifts, as shares of its side.
_CROP_MARGIN = 0.1
_CROP_SHIFTS = (0.0, 0.05, 0.1)


class Scorer(Protocol):
    """Anything that measures attributes of faces."""

    name: str
    attributes: tuple[str, ...]

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """Measure ``images`` [n, 3, H, W], RGB in [-1, 1]; one float array [n] an attribute, NaN where no face is.

        Args:
            images: pictures of one face each.
            faces: what :func:`locate_faces` found in them; found anew if not given.
        """
        ...


def locate_faces(images: Tensor) -> list[Face | None]:
    """The best face in each of ``images`` [n, 3, H, W]; None where the detector finds none."""
    return [next(iter(find_faces(array)), None) for array in to_arrays(images)]


class EmotionScorer:
    """Probabilities of seven expressions; ``happy`` is the usual measure of a smile."""

    name = "emotion"
    attributes: tuple[str, ...] = EMOTIONS

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`; values in [0, 1]."""
        rows = np.full((len(images), len(EMOTIONS)), np.nan)
        for index, pixels, face in _pairs(images, faces):
            with torch.no_grad():
                rows[index] = _emotion_net()(_grey_crops(pixels, face)).mean(0).numpy()
        return {name: rows[:, column] for column, name in enumerate(EMOTIONS)}


class AgeScorer:
    """Age in years, 0 to 80: the mean of the network's distribution over 81 classes."""

    name = "age"
    attributes: tuple[str, ...] = ("age",)

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`; values in years."""
        years = np.arange(81, dtype=np.float32)
        years[0] = 0.25
        values = np.full(len(images), np.nan)
        for index, pixels, face in _pairs(images, faces):
            values[index] = float(_run_onnx("face-age", _chip(pixels, face, 64))[0] @ years)
        return {"age": values}


class GenderScorer:
    """Probability that the face is seen as male. It says how a network reads a picture, not who somebody is."""

    name = "gender"
    attributes: tuple[str, ...] = ("male",)

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`; values in [0, 1]."""
        values = np.full(len(images), np.nan)
        for index, pixels, face in _pairs(images, faces):
            values[index] = float(_run_onnx("face-gender", _chip(pixels, face, 32))[0, 1])
        return {"male": values}


class GeometryScorer:
    """Pose and openings from 68 landmarks; see :func:`geometry` for the definitions."""

    name = "geometry"
    attributes: tuple[str, ...] = ("yaw", "pitch", "roll", "mouth_open", "mouth_width", "eyes_open")

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`; units as in :func:`geometry`."""
        rows = np.full((len(images), len(self.attributes)), np.nan)
        for index, _, face in _pairs(images, faces):
            measured = geometry(face.landmarks)
            rows[index] = [measured[name] for name in self.attributes]
        return {name: rows[:, column] for column, name in enumerate(self.attributes)}


def geometry(landmarks: np.ndarray) -> dict[str, float]:
    """Pose and openings of a face from landmarks [68, 2].

    Lengths are in distances between the eye centres, measured in the face's own axes (x along the eyes, y down):
    ``yaw`` the nose tip's offset from the middle of the eyes, positive when the face looks to the picture's right;
    ``pitch`` the nose tip's place between eye line (0) and mouth line (1), larger when looking down;
    ``roll`` the tilt of the eye line in radians, clockwise positive;
    ``mouth_open`` the gap between the inner lips; ``mouth_width`` corner to corner;
    ``eyes_open`` lid gap over eye width, mean of both eyes.
    """
    left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    axis = right - left
    distance = float(np.hypot(*axis))
    x_axis = axis / distance
    y_axis = np.array([-x_axis[1], x_axis[0]])
    middle = (left + right) / 2
    nose = landmarks[30] - middle
    mouth = (landmarks[48] + landmarks[54]) / 2 - middle

    def lid_gap(eye: np.ndarray) -> float:
        gap = np.hypot(*(eye[1] - eye[5])) + np.hypot(*(eye[2] - eye[4]))
        return float(gap / (2 * np.hypot(*(eye[3] - eye[0]))))

    return {
        "yaw": float(nose @ x_axis) / distance,
        "pitch": float(nose @ y_axis) / float(mouth @ y_axis),
        "roll": float(np.arctan2(axis[1], axis[0])),
        "mouth_open": float(np.mean([np.hypot(*(landmarks[66 + k] - landmarks[62 - k])) for k in (-1, 0, 1)]))
        / distance,
        "mouth_width": float(np.hypot(*(landmarks[54] - landmarks[48]))) / distance,
        "eyes_open": (lid_gap(landmarks[36:42]) + lid_gap(landmarks[42:48])) / 2,
    }


#: Every scorer that comes with facelatent.
SCORERS: tuple[Scorer, ...] = (EmotionScorer(), AgeScorer(), GenderScorer(), GeometryScorer())


def score_faces(images: Tensor, scorers: tuple[Scorer, ...] = SCORERS) -> Scores:
    """Run several scorers over ``images`` [n, 3, H, W]; detection runs once. One array [n] an attribute."""
    faces = locate_faces(images)
    scores: Scores = {}
    for scorer in scorers:
        scores.update(scorer.score(images, faces))
    return scores


def _pairs(images: Tensor, faces: list[Face | None] | None) -> list[tuple[int, np.ndarray, Face]]:
    """Index, pixels and face of each picture that has one."""
    found = locate_faces(images) if faces is None else faces
    arrays = to_arrays(images)
    return [(index, arrays[index], face) for index, face in enumerate(found) if face is not None]


def _grey_crops(pixels: np.ndarray, face: Face) -> Tensor:
    """Six grey crops about a face, [6, 1, 64, 64] in [-1, 1].

    The network was trained on small, loose crops and answers differently for a shift of a few pixels: the mean over
    three heights and both mirrorings is what a score is made of.
    """
    grey = Image.fromarray(pixels).convert("L")
    left, top, right, bottom = face.box
    margin, height = _CROP_MARGIN * (right - left), bottom - top
    crops = []
    for shift in _CROP_SHIFTS:
        box = (left - margin, top - margin + shift * height, right + margin, bottom + margin + shift * height)
        crops.append(np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=_inside(box, grey.size))))
    crops += [crop[:, ::-1] for crop in crops]
    return torch.from_numpy(np.stack(crops).astype(np.float32))[:, None] / 127.5 - 1


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of a box that lies inside a picture."""
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _chip(pixels: np.ndarray, face: Face, side: int) -> np.ndarray:
    """dlib's face chip as the age and gender networks take it: float32 [1, 3, side, side]."""
    chip = (face_chip(pixels, face, side, _CHIP_PADDING).astype(np.float32) - _CHIP_MEANS) / 256
    return np.ascontiguousarray(chip.transpose(2, 0, 1)[None])


@cache
def _emotion_net() -> Any:
    return load_emotion_net()


@cache
def _session(asset: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the networks are tiny: more threads only cost
    return onnxruntime.InferenceSession(str(asset_path(asset)), options, providers=["CPUExecutionProvider"])


def _run_onnx(asset: str, images: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = _session(asset).run(None, {"images": images})[0]
    return probabilities

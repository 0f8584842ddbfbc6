"""Finding faces, their 68 landmarks, and what makes two of them the same person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from facelatent.assets import asset_path

#: The longest side, in pixels, at which detection runs; larger photos are scaled down for it, not for landmarks.
_DETECTION_SIDE = 1600
#: Below this longest side, one more upsampling finds faces from about 40 px.
_UPSAMPLE_BELOW = 900
#: dlib's score of a weak but often right detection; its own default keeps only scores above 0.
_LEAST_SCORE = -0.2
#: Boxes over which landmarks are averaged: moved by these shares of the box, and scaled.
_STEADYING = ((0, 0, 1), (0.04, 0, 1), (-0.04, 0, 1), (0, 0.04, 1), (0, -0.04, 1), (0, 0, 1.06), (0, 0, 0.94))


@dataclass(frozen=True)
class Face:
    """One face.

    Attributes:
        box: left, top, right, bottom in pixels.
        score: the detector's confidence, higher is surer: about 0 is doubtful, above 1 is sure.
        landmarks: [68, 2] x, y in pixels, in the iBUG order (0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes with the
            image-left eye first, 48-67 mouth).
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray


def find_faces(image: Image.Image | np.ndarray, upsample: bool = True) -> list[Face]:
    """Faces in an RGB picture (PIL, or uint8 [H, W, 3]), best score first; an empty list if there is none.

    Detector: dlib's frontal HOG detector. Landmarks: dlib's shape predictor (Kazemi & Sullivan 2014).

    Args:
        image: where to look.
        upsample: look at small pictures at twice their size, which finds faces from about 40 px instead of 80.

    Raises:
        AssetUnavailable: the landmark model is not cached and cannot be fetched.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture = picture.convert("RGB")
    pixels = np.asarray(picture)
    longest = max(picture.size)
    scale = min(1.0, _DETECTION_SIDE / longest)
    small = pixels
    if scale < 1:
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    boxes, scores, _ = _detector().run(small, int(upsample and longest * scale <= _UPSAMPLE_BELOW), _LEAST_SCORE)
    faces = []
    for box, score in zip(boxes, scores, strict=True):
        edges = tuple(edge / scale for edge in (box.left(), box.top(), box.right() + 1, box.bottom() + 1))
        faces.append(Face(edges, float(score), landmarks_in(pixels, edges)))
    return sorted(faces, key=lambda face: -face.score)


def landmarks_in(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """68 landmarks [68, 2] of the face in ``box`` (left, top, right, bottom) of uint8 ``pixels`` [H, W, 3]."""
    import dlib

    left, top, right, bottom = (round(edge) for edge in box)
    shape = _predictor()(np.ascontiguousarray(pixels), dlib.rectangle(left, top, right - 1, bottom - 1))
    return np.array([(point.x, point.y) for point in shape.parts()], np.float64)


def steady_landmarks(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The mean of :func:`landmarks_in` over boxes moved and scaled a little.

    Landmarks of one box jump with its place, of which the detector knows only some: in pictures and their mirror images
    the mean agrees better (docs/scorers.md). Alignment does without it, as FFHQ's did.
    """
    left, top, right, bottom = box
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    found = []
    for across, down, scale in _STEADYING:
        middle_x, middle_y = x + across * width, y + down * height
        half_x, half_y = width * scale / 2, height * scale / 2
        moved = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
        found.append(landmarks_in(pixels, moved))
    mean: np.ndarray = np.mean(found, 0)
    return mean


def crop_quad(landmarks: np.ndarray) -> np.ndarray:
    """Corners [4, 2] of the FFHQ crop for landmarks [68, 2]: top left, bottom left, bottom right, top right."""
    eye_left, eye_right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    eyes = (eye_left + eye_right) / 2
    across = eye_right - eye_left
    down = (landmarks[48] + landmarks[54]) / 2 - eyes
    x = across - down[::-1] * [-1, 1]
    x = x / np.hypot(*x) * max(np.hypot(*across) * 2.0, np.hypot(*down) * 1.8)
    y = x[::-1] * [-1, 1]
    centre = eyes + down * 0.1
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def face_chip(pixels: np.ndarray, face: Face, size: int, padding: float) -> np.ndarray:
    """dlib's upright crop of a face: uint8 [size, size, 3]; ``padding`` widens it by that share of the face."""
    import dlib

    details = dlib.get_face_chip_details(_shape(face), size, padding)
    chip: np.ndarray = dlib.extract_image_chip(np.ascontiguousarray(pixels), details)
    return chip


def chip_corners(face: Face, size: int, padding: float) -> np.ndarray:
    """Centres [3, 2] of the top left, top right and bottom left pixel of :func:`face_chip`, x, y in the picture."""
    import dlib

    details = dlib.get_face_chip_details(_shape(face), size, padding)
    rect, cos, sin = details.rect, np.cos(details.angle), np.sin(details.angle)
    corners = np.array(
        [(rect.left(), rect.top()), (rect.right(), rect.top()), (rect.left(), rect.bottom())], np.float64
    )
    centre = np.array([(rect.left() + rect.right()) / 2, (rect.top() + rect.bottom()) / 2])
    turned: np.ndarray = centre + (corners - centre) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def identity(pixels: np.ndarray, face: Face) -> np.ndarray:
    """128 numbers that identify a person (dlib's ResNet); two photos of one person lie within about 0.6."""
    return np.array(_recogniser().compute_face_descriptor(np.ascontiguousarray(pixels), _shape(face)))


def _shape(face: Face) -> Any:
    import dlib

    points = [dlib.point(round(x), round(y)) for x, y in face.landmarks]
    return dlib.full_object_detection(dlib.rectangle(*(round(edge) for edge in face.box)), points)


@cache
def _detector() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


@cache
def _predictor() -> Any:
    import dlib

    return dlib.shape_predictor(str(asset_path("face-landmarks-68")))


@cache
def _recogniser() -> Any:
    import dlib

    return dlib.face_recognition_model_v1(str(asset_path("face-identity")))

"""Finding faces, landmarks and identity, on a photo and a scene with known answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import facelatent
from facelatent import faces
from facelatent.errors import AssetUnavailable
from facelatent.faces import Face, face_chip, find_faces, identity, landmarks_in
from facelatent.images import open_image, to_images

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module", autouse=True)
def weights(asset: Callable[[str], Path]) -> None:
    for name in ("face-landmarks-68", "face-identity", "astronaut"):
        asset(name)


@pytest.fixture(scope="module")
def portrait(astronaut: Tensor) -> Image.Image:
    return to_images(astronaut)[0]


@pytest.fixture(scope="module")
def scene(goldens: Path) -> Image.Image:
    return open_image(goldens / "align_scene.png")


@pytest.fixture(scope="module")
def scene_landmarks(goldens: Path) -> np.ndarray:
    return np.array(json.loads((goldens / "align_scene_landmarks68.json").read_text()))


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> Face:
    return find_faces(portrait)[0]


def test_public_name() -> None:
    assert facelatent.Face is Face


def test_landmarks_of_the_scene(scene: Image.Image, scene_landmarks: np.ndarray) -> None:
    (face,) = find_faces(scene)
    assert face.landmarks.shape == (68, 2)
    assert np.abs(face.landmarks - scene_landmarks).max() <= 1
    left, top, right, bottom = face.box
    assert left < scene_landmarks[27:68, 0].min() < scene_landmarks[27:68, 0].max() < right
    assert top < scene_landmarks[27:68, 1].min() < scene_landmarks[27:68, 1].max() < bottom


def test_astronaut_is_found_before_the_shuttle(portrait: Image.Image) -> None:
    found = find_faces(portrait)
    assert len(found) > 1  # the detector also fires on things that are no faces
    assert np.abs(np.array(found[0].box) - (175, 76, 266, 167)).max() <= 4
    assert found[0].score > 1
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    assert found[1].score < 0.5


def test_right_side_up(face: Face) -> None:
    """Image-left eye first, eyes above the nose, nose above the mouth, mouth above the chin."""
    left_eye, right_eye = face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)
    assert left_eye[0] + 20 < right_eye[0]
    assert left_eye[1] < face.landmarks[30, 1] < face.landmarks[48:68, 1].mean() < face.landmarks[8, 1]


def test_every_face_of_a_group_is_found(portrait: Image.Image) -> None:
    group = Image.new("RGB", (600, 300), (90, 120, 90))
    head = portrait.crop((120, 20, 320, 220))
    group.paste(head, (20, 60))
    group.paste(head.resize((140, 140)), (240, 100))
    group.paste(head.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (390, 60))
    found = [face for face in find_faces(group) if face.score > 0.3]
    assert sorted(round((face.box[0] + face.box[2]) / 2 / 100) for face in found) == [1, 3, 5]


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (1, 1), (3, 500)])
def test_blank_picture(size: tuple[int, int]) -> None:
    assert find_faces(Image.new("RGB", size, (128, 100, 90))) == []


def test_noise_has_no_face() -> None:
    assert find_faces(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)) == []


def test_arrays_and_pictures_of_other_modes(portrait: Image.Image, face: Face) -> None:
    pixels = np.asarray(portrait)
    same = find_faces(pixels)[0]
    assert same.box == face.box
    assert np.array_equal(same.landmarks, face.landmarks)
    grey = np.asarray(portrait.convert("L"))
    assert grey.ndim == 2
    for other in (grey, portrait.convert("RGBA"), portrait.convert("L"), np.dstack([pixels, grey])):
        found = find_faces(other)[0]
        assert np.abs(np.array(found.box) - face.box).max() <= 4
        assert np.abs(found.landmarks - face.landmarks).max() <= 4


@pytest.mark.parametrize(("side", "tolerance"), [(256, 1.5), (1200, 3), (2400, 8)])
def test_landmarks_follow_the_size(portrait: Image.Image, face: Face, side: int, tolerance: float) -> None:
    """Small photos are enlarged for detection, large ones reduced; coordinates are always the photo's own."""
    found = find_faces(portrait.resize((side, side), Image.Resampling.LANCZOS))[0]
    assert found.score > 0.3
    scale = side / 512
    assert np.abs(found.landmarks - face.landmarks * scale).mean() < tolerance
    assert np.abs(np.array(found.box) - np.array(face.box) * scale).max() < 30 * scale


def test_landmarks_in_a_given_box(portrait: Image.Image, face: Face) -> None:
    pixels = np.asarray(portrait)
    assert np.array_equal(landmarks_in(pixels, face.box), face.landmarks)
    moved = landmarks_in(pixels, tuple(edge + 3.4 for edge in face.box))  # type: ignore[arg-type]
    assert 0 < np.abs(moved - face.landmarks).mean() < 3


def test_identity_of_a_person(portrait: Image.Image, scene: Image.Image, face: Face) -> None:
    own = identity(np.asarray(portrait), face)
    assert own.shape == (128,)
    smaller = portrait.resize((460, 460), Image.Resampling.LANCZOS)
    assert np.linalg.norm(own - identity(np.asarray(smaller), find_faces(smaller)[0])) < 0.4
    other = identity(np.asarray(portrait), find_faces(portrait)[1])  # the shuttle is nobody
    assert np.linalg.norm(own - other) > 0.6


def test_face_chip_is_upright(portrait: Image.Image, face: Face) -> None:
    turned = portrait.rotate(15, Image.Resampling.BICUBIC, center=(220, 120))
    chips = [face_chip(np.asarray(picture), find_faces(picture)[0], 128, 0.25) for picture in (portrait, turned)]
    for chip in chips:
        assert chip.shape == (128, 128, 3)
        assert chip.dtype == np.uint8
    assert np.abs(chips[0].astype(int) - chips[1]).mean() < 16
    assert np.abs(chips[0].astype(int) - chips[1][:, ::-1]).mean() > 20
    wide = face_chip(np.asarray(portrait), face, 128, 0.8)
    assert np.abs(wide.astype(int) - chips[0]).mean() > 20


def test_without_the_landmark_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, portrait: Image.Image) -> None:
    """Nothing is needed for a picture without faces; a face needs the model, and says so."""
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(faces, "_predictor", faces._predictor.__wrapped__)
    assert find_faces(Image.new("RGB", (100, 100))) == []
    with pytest.raises(AssetUnavailable, match="cannot fetch face-landmarks-68"):
        find_faces(portrait)

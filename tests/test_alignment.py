"""The FFHQ crop: equal to the published one, wherever and however the face lies; and which face is taken."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facelatent.errors import NoFaceFound
from facelatent.faces import Face
from facelatent.images import open_image
from facelatent.inversion import align_face, aligned_crop, alignment, choose_face, crop_quad


@pytest.fixture(scope="module")
def scene(goldens: Path) -> Image.Image:
    return open_image(goldens / "align_scene.png")


@pytest.fixture(scope="module")
def landmarks(goldens: Path) -> np.ndarray:
    return np.array(json.loads((goldens / "align_scene_landmarks68.json").read_text()), np.float64).reshape(68, 2)


def mean_difference(a: Image.Image, b: Image.Image) -> float:
    assert a.size == b.size
    return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())


def moved(landmarks: np.ndarray, scale: float = 1, angle: float = 0, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return landmarks @ turn.T * scale + shift


# Against the golden


def test_golden_is_matched_exactly(goldens: Path, scene: Image.Image, landmarks: np.ndarray) -> None:
    golden = open_image(goldens / "align_scene_aligned256.png")
    ours = align_face(scene, landmarks, output_size=256, transform_size=256)
    assert ours.mode == "RGB"
    assert np.array_equal(np.asarray(ours), np.asarray(golden))


def test_full_quality_is_the_default_and_looks_the_same(
    goldens: Path, scene: Image.Image, landmarks: np.ndarray
) -> None:
    large = align_face(scene, landmarks)
    assert large.size == (1024, 1024)
    golden = open_image(goldens / "align_scene_aligned256.png")
    assert mean_difference(large.resize((256, 256), Image.Resampling.BOX), golden) < 1.5
    # One pixel of shift at 256 px would be seen: the same comparison with the golden moved by one.
    off = Image.fromarray(np.roll(np.asarray(golden), 1, axis=1))
    assert mean_difference(large.resize((256, 256), Image.Resampling.BOX), off) > 2


def test_larger_transform_averages_instead_of_aliasing() -> None:
    # Stripes one pixel wide, every 2.8th of which is sampled: grey when averaged, moire when not.
    stripes = np.zeros((900, 900, 3), np.uint8)
    stripes[:, ::2] = 255
    points = face_points(450, 450, 180)
    fine = np.asarray(align_face(Image.fromarray(stripes), points, 256, 2048), np.float64)
    rough = np.asarray(align_face(Image.fromarray(stripes), points, 256, 256), np.float64)
    assert fine.std() < 25 < 50 < rough.std()


def test_greyscale_photo_is_taken(scene: Image.Image, landmarks: np.ndarray) -> None:
    aligned = align_face(scene.convert("L"), landmarks, 64, 64)
    assert aligned.mode == "RGB"
    channels = np.asarray(aligned)
    assert np.array_equal(channels[..., 0], channels[..., 2])


# The quad


def face_points(x: float, y: float, eyes: float) -> np.ndarray:
    """Landmarks of an upright face with the eye centres ``eyes`` apart about (x, y); only eyes and mouth count."""
    points = np.full((68, 2), np.nan)
    points[36:42] = [x - eyes / 2, y]
    points[42:48] = [x + eyes / 2, y]
    points[48] = [x - eyes * 0.4, y + eyes]
    points[54] = [x + eyes * 0.4, y + eyes]
    return points


def test_quad_of_an_upright_face() -> None:
    # Eyes 100 apart, mouth 100 below: half side max(2 * 100, 1.8 * 100), centre a tenth of the way down to the mouth.
    quad = crop_quad(face_points(500, 400, 100))
    assert quad == pytest.approx(np.array([[300, 210], [300, 610], [700, 610], [700, 210]]))


def test_quad_of_a_long_face_is_led_by_the_mouth() -> None:
    points = face_points(500, 400, 100)
    points[[48, 54], 1] = 600
    left, right = crop_quad(points)[0, 0], crop_quad(points)[2, 0]
    assert right - left == pytest.approx(2 * 1.8 * 200)


@settings(deadline=None, max_examples=60)
@given(
    scale=st.floats(0.05, 20),
    angle=st.floats(-math.pi, math.pi),
    shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    wobble=st.integers(0, 2**32 - 1),
)
def test_quad_is_a_square_that_follows_the_face(
    scale: float, angle: float, shift: tuple[float, float], wobble: int
) -> None:
    points = np.nan_to_num(face_points(500, 400, 100)) + np.random.default_rng(wobble).normal(0, 8, (68, 2))
    quad = crop_quad(points)
    sides = np.roll(quad, -1, axis=0) - quad
    lengths = np.hypot(*sides.T)
    assert lengths == pytest.approx(np.full(4, lengths[0]), rel=1e-9)
    assert abs(sides[0] @ sides[1]) < 1e-6 * lengths[0] ** 2
    follows = crop_quad(moved(points, scale, angle, shift))
    assert follows == pytest.approx(moved(quad, scale, angle, shift), rel=1e-6, abs=1e-6)


def test_crop_follows_a_turned_photo(scene: Image.Image, landmarks: np.ndarray) -> None:
    turned = scene.transpose(Image.Transpose.ROTATE_180)
    points = np.array([scene.width - 1, scene.height - 1]) - landmarks
    assert mean_difference(align_face(turned, points, 128, 512), align_face(scene, landmarks, 128, 512)) < 1


def test_quad_says_where_the_crop_came_from(scene: Image.Image, landmarks: np.ndarray) -> None:
    inside = moved(landmarks, 0.5, 0, tuple(np.array([450, 350]) - landmarks.mean(0) * 0.5))
    quad = crop_quad(inside)
    assert quad.min() > 0
    corners = np.asarray(scene)[tuple(np.rint(quad[:, ::-1]).astype(int).T)].astype(float)
    crop = np.asarray(align_face(scene, inside, 256, 1024), np.float64)
    found = np.stack([crop[0, 0], crop[-1, 0], crop[-1, -1], crop[0, -1]])
    assert np.abs(found - corners).mean() < 12


# Borders


@pytest.mark.parametrize("place", [(20, 350), (880, 350), (450, 10), (450, 690), (0, 0), (899, 699), (-60, 350)])
def test_face_at_the_border_is_padded(scene: Image.Image, place: tuple[float, float]) -> None:
    aligned = align_face(scene, face_points(*place, 120), 128, 256)
    assert aligned.size == (128, 128)
    # Black corners would be what Pillow fills in outside the photo.
    assert (np.asarray(aligned).max(-1) > 0).mean() > 0.99


def test_face_larger_than_the_photo(scene: Image.Image) -> None:
    tiny = scene.resize((45, 35))
    aligned = np.asarray(align_face(tiny, face_points(22, 15, 30), 64, 128))
    assert aligned.shape == (64, 64, 3)
    assert aligned.std() > 5


def test_inside_is_not_touched_by_padding() -> None:
    # A face whose crop leaves the photo on the left: the right half still shows the photo's own pixels.
    ramp = np.broadcast_to(np.linspace(0, 255, 600)[None, :, None], (600, 600, 3)).astype(np.uint8)
    aligned = np.asarray(align_face(Image.fromarray(ramp), face_points(120, 290, 100), 200, 800), np.float64)
    # The crop is 400 px wide and begins at x = -80: column c of 200 shows x = -80 + 2 c + 0.5.
    columns = np.arange(120, 200)
    expected = np.interp(-80 + 2 * columns + 0.5, np.arange(600), ramp[0, :, 0])
    assert aligned[100, columns, 0] == pytest.approx(expected, abs=2)


def test_huge_face_is_scaled_down_first() -> None:
    # A crop of 2400 px for 64 px of output: the same picture as from a photo of an eighth of the size.
    rows, columns = np.mgrid[:3000, :3000]
    waves = (127 + 60 * np.sin(rows / 200) + 60 * np.cos(columns / 300)).astype(np.uint8)
    photo = Image.fromarray(waves).convert("RGB")
    large = align_face(photo, face_points(1500, 1400, 600), 64, 256)
    small = align_face(photo.resize((375, 375), Image.Resampling.BOX), face_points(1500, 1400, 600) / 8, 64, 256)
    assert mean_difference(large, small) < 2


# Which face


def face(score: float, eyes: float = 60, x: float = 200) -> Face:
    return Face((x - 50, 150, x + 50, 250), score, face_points(x, 200, eyes))


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def found(*seen: Face) -> None:
        monkeypatch.setattr(alignment, "find_faces", lambda image: list(seen))

    return found


PHOTO = Image.new("RGB", (400, 400))


def test_best_scored_face_is_taken(faces: Callable[..., None]) -> None:
    best, second = face(2.0), face(0.5, x=300)
    faces(best, second)
    assert choose_face(PHOTO) is best
    assert choose_face(PHOTO, 1) is best
    assert choose_face(PHOTO, 2) is second


@pytest.mark.parametrize("number", [3, 99, 0, -1])
def test_face_number_out_of_range(faces: Callable[..., None], number: int) -> None:
    faces(face(2.0), face(0.5), face(-0.1))  # the third is doubtful and does not count
    with pytest.raises(NoFaceFound, match=rf"party\.jpg has 2 faces; --face {number} does not exist"):
        choose_face(PHOTO, number, "party.jpg")


def test_one_face_is_not_called_faces(faces: Callable[..., None]) -> None:
    faces(face(2.0))
    with pytest.raises(NoFaceFound, match="has 1 face; --face 2"):
        choose_face(PHOTO, 2)


def test_no_face_on_a_real_detector() -> None:
    with pytest.raises(NoFaceFound, match=r"^no face found in wall\.jpg; use a photo") as caught:
        choose_face(Image.new("RGB", (200, 200), "grey"), None, "wall.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "message"), [(1, "1 doubtful detection)"), (2, "2 doubtful detections)")])
def test_doubtful_detections_are_not_faces(faces: Callable[..., None], count: int, message: str) -> None:
    faces(*[face(-0.1)] * count)
    with pytest.raises(NoFaceFound) as caught:
        choose_face(PHOTO)
    assert message in str(caught.value)


def test_small_face(faces: Callable[..., None]) -> None:
    faces(face(2.0, eyes=19), face(1.0, eyes=20.5))
    with pytest.raises(NoFaceFound, match=r"the face in far\.jpg is too small \(19 px between the eyes, at least 20"):
        choose_face(PHOTO, None, "far.jpg")
    assert choose_face(PHOTO, 2).score == 1.0


def test_crop_of_the_chosen_face(faces: Callable[..., None], scene: Image.Image, landmarks: np.ndarray) -> None:
    wanted = Face((0, 0, 1, 1), 0.5, landmarks)
    faces(face(2.0), wanted)
    crop = aligned_crop(scene, 64, 2)
    assert crop.face is wanted
    assert crop.quad == pytest.approx(crop_quad(landmarks))
    assert np.array_equal(np.asarray(crop.image), np.asarray(align_face(scene, landmarks, 64, 256)))


# With the real detector and landmarks


@pytest.mark.assets
def test_astronaut(asset: Callable[[str], Path]) -> None:
    photo = open_image(asset("astronaut"))
    crop = aligned_crop(photo, 256)
    assert crop.image.size == (256, 256)
    # Eileen Collins's face lies in the upper middle of the portrait, upright.
    assert crop.quad.mean(0) == pytest.approx([222, 115], abs=12)
    assert crop.quad[1, 1] > crop.quad[0, 1]
    # Aligned again, the crop stays where it is: eyes and mouth are in FFHQ's places.
    again = aligned_crop(crop.image, 256)
    assert again.quad == pytest.approx(np.array([[0, 0], [0, 256], [256, 256], [256, 0]]), abs=12)


@pytest.mark.assets
def test_turned_photo_gives_the_same_crop(asset: Callable[[str], Path]) -> None:
    photo = open_image(asset("astronaut"))
    upright = aligned_crop(photo, 128)
    tilted = aligned_crop(photo.rotate(12, Image.Resampling.BICUBIC, center=(222, 115)), 128)
    assert mean_difference(upright.image.crop((24, 24, 104, 104)), tilted.image.crop((24, 24, 104, 104))) < 12
    assert abs(tilted.quad[3, 1] - tilted.quad[0, 1]) > 15 > abs(upright.quad[3, 1] - upright.quad[0, 1])

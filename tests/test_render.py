"""Strips, grids and animations: sizes, labels, loops, and colours that neither flicker nor shift."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from facelatent.errors import FacelatentError, UnwritableOutput
from facelatent.note import GENERATED
from facelatent.render import ANIMATION_SUFFIXES, grid, save_animation, strip, there_and_back

GAP = 4
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def plain(colour: tuple[int, int, int] | str, side: int = 40) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


# Strips and grids


@pytest.mark.parametrize("count", [1, 3, 5])
def test_strip_size_without_labels(count: int) -> None:
    sheet = strip([plain(RED)] * count, size=64)
    assert sheet.mode == "RGB"
    assert sheet.size == (count * 64 + (count - 1) * GAP, 64)


def test_labels_take_a_line_below() -> None:
    labelled, bare = strip([plain(RED)] * 2, ["a", "b"], 64), strip([plain(RED)] * 2, None, 64)
    assert labelled.width == bare.width
    assert 10 < labelled.height - bare.height < 32
    # The pictures themselves are not drawn on.
    assert np.array_equal(pixels(labelled)[:64], pixels(bare))


def test_labels_are_drawn_under_their_pictures() -> None:
    sheet = pixels(strip([plain(RED)] * 3, ["smile -3", "", "smile +3"], 128))[128:]
    dark = (sheet < 128).all(-1)
    columns = [dark[:, start : start + 128] for start in (0, 132, 264)]
    assert columns[0].sum() > 40
    assert columns[1].sum() == 0
    assert columns[2].sum() > 40
    # Centred, and whole: not a pixel at the edges.
    for column in (columns[0], columns[2]):
        inked = np.flatnonzero(column.any(0))
        assert inked.mean() == pytest.approx(64, abs=8)
        assert inked.min() > 0
        assert inked.max() < 127
        assert not column[0].any()
        assert not column[-1].any()


def test_different_labels_look_different() -> None:
    one, other = (pixels(strip([plain(RED)], [text], 128)) for text in ("age -2", "age +2"))
    assert not np.array_equal(one, other)


def test_pictures_lie_where_they_should() -> None:
    sheet = pixels(grid([[plain(RED), plain(BLUE)], [plain(BLUE), plain(RED)]], size=32))
    assert sheet.shape == (32 * 2 + GAP, 32 * 2 + GAP, 3)
    for row, column, colour in [(0, 0, RED), (0, 36, BLUE), (36, 0, BLUE), (36, 36, RED)]:
        assert (sheet[row : row + 32, column : column + 32] == colour).all()
    assert (sheet[32:36] == WHITE).all()
    assert (sheet[:, 32:36] == WHITE).all()


def test_rows_of_different_lengths() -> None:
    sheet = pixels(grid([[plain(RED)] * 3, [plain(BLUE)]], [["a", "b", "c"], ["d"]], 32))
    assert sheet.shape[1] == 3 * 32 + 2 * GAP
    assert (sheet[-20:, 40:] == WHITE).all()


def test_titles_widen_the_sheet_on_the_left() -> None:
    rows = [[plain(RED)], [plain(RED)]]
    bare, titled = grid(rows, size=64), grid(rows, size=64, titles=["smile", "a longer title"])
    margin = titled.width - bare.width
    assert margin > 30
    assert np.array_equal(pixels(titled)[:, margin:], pixels(bare))
    left = pixels(titled)[:, :margin]
    dark = (left < 128).all(-1)
    assert dark[:64].any()
    assert dark[68:].any()
    assert not dark[:, -2:].any()


def test_pictures_are_scaled_and_converted() -> None:
    sheet = strip([plain(RED, 200), Image.new("L", (10, 10), 128), Image.new("RGBA", (64, 64), (0, 0, 255, 255))])
    assert sheet.size == (3 * 256 + 2 * GAP, 256)
    assert sheet.getpixel((100, 100)) == RED
    assert sheet.getpixel((300, 100)) == (128, 128, 128)
    assert sheet.getpixel((700, 100)) == BLUE


# Loops


def test_there_and_back_by_hand() -> None:
    assert there_and_back(6) == [0, 1, 2, 3, 2, 1]
    assert there_and_back(2) == [0, 1]
    assert there_and_back(3) == [0, 1]
    assert there_and_back(7) == [0, 1, 2, 3, 2, 1]


@given(st.integers(2, 400))
def test_there_and_back(count: int) -> None:
    order = there_and_back(count)
    assert len(order) == count - count % 2
    assert set(order) == set(range(max(order) + 1))
    # A step at a time, also from the last to the first: no end is shown twice.
    steps = np.diff([*order, order[0]])
    assert (np.abs(steps) == 1).all()
    assert order.count(0) == order.count(max(order)) == 1


# GIF


def skin(side: int = 96, shift: float = 0.0) -> Image.Image:
    """A smooth gradient of skin colours, lit from one side; ``shift`` moves the light."""
    y, x = np.mgrid[:side, :side] / side
    light = 0.35 + 0.6 * np.clip(x * 0.7 + y * 0.3 + shift, 0, 1)
    colour = np.array([236, 188, 160])[None, None] * light[..., None]
    colour[..., 2] += 10 * y
    return Image.fromarray(np.clip(colour, 0, 255).round().astype(np.uint8))


def gif_frames(path: Path) -> list[np.ndarray]:
    with Image.open(path) as gif:
        frames = []
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(pixels(gif))
        return frames


def test_gif_is_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "smile.gif"
    save_animation([skin(shift=shift) for shift in np.linspace(0, 0.3, 6)], path, fps=20)
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        assert gif.size == (96, 96)
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0
        for index in range(6):
            gif.seek(index)
            assert gif.info["duration"] == 50
    assert [file.name for file in tmp_path.iterdir()] == ["smile.gif"]


@pytest.mark.parametrize(("fps", "milliseconds"), [(1, 1000), (10, 100), (24, 40), (25, 40), (30, 30), (50, 20)])
def test_gif_rate_is_one_that_the_format_can_hold(tmp_path: Path, fps: float, milliseconds: int) -> None:
    save_animation([plain(RED), plain(BLUE)], tmp_path / "a.gif", fps)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["duration"] == milliseconds


def test_gif_colours_are_true(tmp_path: Path) -> None:
    shown = [skin(shift=shift) for shift in np.linspace(0, 0.3, 4)]
    save_animation(shown, tmp_path / "a.gif")
    frames = gif_frames(tmp_path / "a.gif")
    error = np.stack(frames).astype(float) - np.stack([pixels(image) for image in shown])
    assert np.abs(error).mean() < 3


def test_gif_has_neither_tint_nor_bands(tmp_path: Path) -> None:
    shown = [skin(shift=shift) for shift in np.linspace(0, 0.3, 4)]
    save_animation(shown, tmp_path / "a.gif")
    error = np.stack(gif_frames(tmp_path / "a.gif")).astype(float) - np.stack([pixels(image) for image in shown])
    assert np.abs(error.mean((0, 1, 2))).max() < 0.5
    # Seen from afar the dither is gone: bands would remain.
    blocks = error.reshape(4, 12, 8, 12, 8, 3).mean((2, 4))
    assert np.abs(blocks).mean() < 0.8


def test_gif_does_not_flicker(tmp_path: Path) -> None:
    # The light wanders over the right half; the left half stands still and must stay the same to the bit.
    shown = []
    for shift in np.linspace(0, 0.4, 5):
        frame = np.array(skin())
        frame[:, 48:] = np.asarray(skin(shift=shift))[:, 48:]
        shown.append(Image.fromarray(frame))
    save_animation(shown, tmp_path / "a.gif")
    frames = gif_frames(tmp_path / "a.gif")
    assert len(frames) == 5
    assert not np.array_equal(frames[0], frames[-1])
    for frame in frames[1:]:
        assert np.array_equal(frame[:, :48], frames[0][:, :48])


def test_gif_has_one_palette_for_all_frames(tmp_path: Path) -> None:
    save_animation([skin(shift=shift) for shift in np.linspace(0, 0.4, 5)], tmp_path / "a.gif")
    colours = [set(map(tuple, frame.reshape(-1, 3).tolist())) for frame in gif_frames(tmp_path / "a.gif")]
    assert len(colours[0]) > 60
    assert len(set.union(*colours)) <= 256


def test_gif_twice_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.gif", "b.gif"):
        save_animation([skin(), skin(shift=0.2)], tmp_path / name)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()


def test_equal_frames_keep_their_time(tmp_path: Path) -> None:
    # An edit of strength 0: Pillow folds equal frames into one that is shown longer.
    save_animation([skin()] * 3 + [skin(shift=0.3)], tmp_path / "a.gif", fps=10)
    total = 0
    with Image.open(tmp_path / "a.gif") as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            total += gif.info["duration"]
    assert total == 400


@pytest.mark.parametrize("colours", [[RED, RED], [RED, BLUE]])
def test_few_colours(tmp_path: Path, colours: list[tuple[int, int, int]]) -> None:
    save_animation([plain(colour) for colour in colours], tmp_path / "a.gif")
    for frame, colour in zip(gif_frames(tmp_path / "a.gif"), colours, strict=False):
        assert np.abs(frame.astype(int) - colour).max() <= 2


def test_odd_sizes_and_modes(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (37, 21), (200, 100, 50, 255)), Image.new("RGBA", (37, 21), (20, 100, 50, 255))]
    save_animation(frames, tmp_path / "a.GIF")
    with Image.open(tmp_path / "a.GIF") as gif:
        assert gif.size == (37, 21)
        assert gif.n_frames == 2


# WebP, MP4, and what is neither


def test_webp(tmp_path: Path) -> None:
    shown = [skin(shift=shift) for shift in np.linspace(0, 0.3, 4)]
    save_animation(shown, tmp_path / "a.webp", fps=10)
    with Image.open(tmp_path / "a.webp") as webp:
        assert webp.format == "WEBP"
        assert webp.n_frames == 4
        assert webp.info["loop"] == 0
        for index, image in enumerate(shown):
            webp.seek(index)
            assert np.abs(pixels(webp).astype(int) - pixels(image)).mean() < 3
        assert webp.info["duration"] == 100


def test_mp4(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra 'video'")
    shown = [skin(shift=shift) for shift in np.linspace(0, 0.3, 6)]
    for name in ("a.mp4", "b.mp4"):
        clip = save_animation(shown, tmp_path / name, fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert clip.bytes == (tmp_path / "b.mp4").stat().st_size
    facts, *read = ffmpeg.read_frames(tmp_path / "a.mp4")
    assert (facts["codec"], facts["fps"], facts["size"]) == ("h264", 12.0, shown[0].size)
    assert "bt709," in facts["pix_fmt"]
    assert len(read) == len(shown)
    for data, image in zip(read, shown, strict=True):
        frame = np.frombuffer(data, np.uint8).reshape(image.height, image.width, 3)
        assert np.abs(frame.astype(int) - pixels(image)).mean() < 3


def test_the_note_of_an_mp4_and_its_even_sides(tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra 'video'")
    frames = [Image.new("RGB", (37, 21), colour) for colour in (RED, BLUE)]
    save_animation(frames, tmp_path / "a.mp4", note=GENERATED)
    save_animation(frames, tmp_path / "b.mp4", note=None)
    note = f"facelatent: {GENERATED}".encode()
    assert note in (tmp_path / "a.mp4").read_bytes()
    assert b"facelatent" not in (tmp_path / "b.mp4").read_bytes()
    assert next(ffmpeg.read_frames(tmp_path / "a.mp4"))["size"] == (36, 20)


def test_mp4_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "imageio_ffmpeg" else real(name, *more)
    )
    with pytest.raises(FacelatentError, match=r"pip install 'facelatent\[video\]'") as caught:
        save_animation([plain(RED)] * 2, tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a", "a.avi", "a.gif.bak"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(FacelatentError, match=r"end it in \.gif, \.webp, \.mp4"):
        save_animation([plain(RED)] * 2, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    assert ANIMATION_SUFFIXES == (".gif", ".webp", ".mp4")


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_failed_save_keeps_the_old_animation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail(self: Image.Image, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UnwritableOutput, match="No space left"):
        save_animation([plain(RED), plain(BLUE)], path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]

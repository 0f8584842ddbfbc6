"""Clips: timelines without a generator; walks, styles and captions with a tiny one; files below a size."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from facelatent.boundaries import load_boundary
from facelatent.cli import main
from facelatent.clips import Scene, animation_frames, around, timeline_frames
from facelatent.commands import animate
from facelatent.delta import GeneratorDelta
from facelatent.domain_adapt import Style
from facelatent.editing import AttributeEdit, apply_edits, draw
from facelatent.errors import FacelatentError, UnwritableOutput
from facelatent.latent import Latent
from facelatent.render import EASES, Key, Timeline, captioned, save_animation, save_frames
from facelatent.stylegan_ops import MobileStyleGAN

# Timelines


def timeline(*keys: str, ease: str = "linear") -> Timeline:
    return Timeline(tuple(Key.parse(key) for key in keys), ease)  # type: ignore[arg-type]


def test_a_key_is_read() -> None:
    assert Key.parse("0.5:smile=3,yaw=-1") == Key(0.5, {"smile": 3.0, "yaw": -1.0})
    assert Key.parse("1:my:odd=name.pt=2") == Key(1.0, {"my:odd=name.pt": 2.0})


@pytest.mark.parametrize(
    "text",
    ["", "0.5", "smile=3", "0.5:", "0.5:smile", "x:smile=3", "2:smile=3", "-1:a=1", "0:a=nan", "0:a=1,a=2", "0:=1"],
)
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(FacelatentError, match=r"such as 0\.5:smile=3,yaw=-1, not"):
        Key.parse(text)


def test_each_number_has_its_own_keys() -> None:
    line = timeline("0:smile=0", "0.5:smile=3,yaw=-1", "1:yaw=1")
    assert line.names == ("smile", "yaw")
    assert line.at(0) == {"smile": 0, "yaw": -1}
    assert line.at(0.25) == {"smile": 1.5, "yaw": -1}
    assert line.at(0.75) == {"smile": 3, "yaw": 0}
    assert line.at(1) == {"smile": 3, "yaw": 1}
    assert line.span("yaw") == (-1, 1)


@pytest.mark.parametrize("ease", EASES)
def test_easing(ease: str) -> None:
    line = timeline("1:a=4", "0:a=2", ease=ease)
    values = [line.at(place)["a"] for place in np.linspace(0, 1, 11)]
    assert values[0] == 2
    assert math.isclose(values[-1], 4)
    assert all(a < b for a, b in itertools.pairwise(values))
    early, late = values[1] - values[0], values[-1] - values[-2]
    soft = {"linear": (False, False), "smooth": (True, True), "in": (True, False), "out": (False, True)}[ease]
    assert (early < 0.15, late < 0.15) == soft
    assert tuple(EASES) == animate.EASES


def test_a_hold_is_two_equal_keys() -> None:
    line = timeline("0:a=0", "0.4:a=2", "0.6:a=2", "1:a=0", ease="smooth")
    assert [line.at(place)["a"] for place in (0.4, 0.45, 0.5, 0.6)] == [2] * 4


def test_ways() -> None:
    line = timeline("0:a=0", "1:a=1")
    assert line.places(4, "once") == [0, 1 / 3, 2 / 3, 1]
    assert line.places(6, "back") == [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]
    assert line.places(4, "round") == [0, 0.25, 0.5, 0.75]
    assert not line.closed
    assert timeline("0:a=0", "0.5:a=1", "1:a=0").closed
    assert not timeline("0:a=1", "1:a=1").closed


def test_rests_are_at_the_keys_exactly() -> None:
    line = timeline("0:a=0", "0.6:a=1", "1:a=0")
    assert line.places(5, "once", rest=2) == [0, 0, 0, 0.25, 0.6, 0.6, 0.6, 0.75, 1, 1, 1]
    assert line.places(4, "round", rest=1) == [0, 0, 0.25, 0.6, 0.6, 0.75]
    assert timeline("0:a=0", "1:a=1").places(4, "back", rest=1) == [0, 0, 0.5, 1, 1, 0.5]


def test_two_values_at_one_time() -> None:
    with pytest.raises(FacelatentError, match=r"smile has two values at 0\.5"):
        timeline("0.5:smile=1", "0.5:smile=2")


# Walks, styles


@pytest.fixture
def faces(tiny_generator: MobileStyleGAN) -> tuple[Latent, ...]:
    with torch.no_grad():
        codes = [tiny_generator.broadcast(tiny_generator.sample_w(seed)).contiguous() for seed in (1, 2, 3)]
    return tuple(Latent(ws, tiny_generator.name, tiny_generator.fingerprint) for ws in codes)


@pytest.fixture
def style(tiny_generator: MobileStyleGAN) -> Style:
    weight = tiny_generator.state_dict()["const"]
    random = torch.Generator().manual_seed(7)
    return Style.from_deltas(tiny_generator, {"const": 2 * torch.randn(weight.shape, generator=random)}, rank=0)


def test_the_spherical_walk_keeps_its_distance(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...]) -> None:
    first, last, mean = faces[0].ws, faces[1].ws, tiny_generator.w_avg
    assert torch.allclose(around(first, last, 0.0, mean), first, atol=1e-5)
    assert torch.allclose(around(first, last, 1.0, mean), last, atol=1e-5)
    lengths = [(ws - mean).norm(dim=-1) for ws in (first, around(first, last, 0.5, mean), last)]
    assert torch.allclose(lengths[1], (lengths[0] + lengths[2]) / 2, rtol=1e-4)
    straight = (torch.lerp(first, last, 0.5) - mean).norm(dim=-1)
    assert (straight < 0.95 * lengths[1]).all()
    # No plane to turn in: still numbers.
    assert around(first, first, 0.5, mean).isfinite().all()
    assert around(first, 2 * mean - first, 0.5, mean).isfinite().all()


@pytest.mark.parametrize("walk", ["spherical", "linear"])
def test_a_walk_passes_every_face(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...], walk: str) -> None:
    scene = Scene(tiny_generator, faces, walk=walk)  # type: ignore[arg-type]
    frames = timeline_frames(scene, timeline("0:walk=0", "1:walk=2"), [0, 0.25, 0.5, 1, 0.5], 64)
    for frame, face in zip((frames[0], frames[2], frames[3]), faces, strict=True):
        assert np.array_equal(frame, draw(tiny_generator, face.ws, 64)[0])
    assert frames[2] is frames[4]
    assert not np.array_equal(frames[1], frames[0])


def test_tunings_fade_into_each_other(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...]) -> None:
    name = "const"
    shape = tiny_generator.state_dict()[name].shape
    random = torch.Generator().manual_seed(5)
    delta = GeneratorDelta({name: torch.randn(shape, generator=random).half()}, tiny_generator.fingerprint)
    tuned = Latent(faces[0].ws, faces[0].generator, faces[0].fingerprint, delta=delta)
    scene = Scene(tiny_generator, (tuned, faces[0]))
    start, middle, end = timeline_frames(scene, timeline("0:walk=0", "1:walk=1"), [0, 0.5, 1], 64)
    assert np.array_equal(start, draw(tuned.generator_for(tiny_generator), tuned.ws, 64)[0])
    assert np.array_equal(end, draw(tiny_generator, tuned.ws, 64)[0])
    for one in (start, end):
        assert not np.array_equal(middle, one)


def test_styles_fade(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...], style: Style) -> None:
    scene = Scene(tiny_generator, faces[:1], styles=[(style, 1.0), (style, 0.0)])
    plain, half = timeline_frames(scene, timeline("0:style=0", "1:style=1"), [0, 0.5], 64)
    assert np.array_equal(plain, draw(tiny_generator, faces[0].ws, 64)[0])
    assert np.array_equal(half, draw(style.applied(tiny_generator, 0.5), faces[0].ws, 64)[0])
    (other,) = timeline_frames(scene, timeline("0:style.1=0,style.2=0.5"), [0], 64)
    assert np.array_equal(other, half)


def test_what_a_scene_does_not_have(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...], style: Style) -> None:
    scene = Scene(tiny_generator, faces[:2], styles=[(style, 1.0)])
    for key, message in (
        ("0:smile=1", "nothing in this clip is called 'smile'"),
        ("0:style.2=1", "'style.2'"),
        ("0:walk=2", "walk is from 0 to 1"),
        ("0:style=1,style.1=1", "not both"),
    ):
        with pytest.raises(FacelatentError, match=message):
            timeline_frames(scene, timeline(key), [0], 16)


def test_edits_of_a_frame(tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...], grin: Path) -> None:
    one = AttributeEdit(load_boundary(grin, tiny_generator), 0.0)
    scene = Scene(tiny_generator, faces[:1], {"grin": one})
    _, end = timeline_frames(scene, timeline("0:grin=0", "1:grin=2"), [0, 1], 64)
    moved = apply_edits(faces[0].ws, [AttributeEdit(one.boundary, 2.0)], tiny_generator)
    assert np.array_equal(end, draw(tiny_generator, moved, 64)[0])


@pytest.mark.parametrize("bounce", [True, False])
def test_edits_fade_out_while_others_fade_in(
    tiny_generator: MobileStyleGAN, faces: tuple[Latent, ...], grin: Path, bounce: bool
) -> None:
    boundary = load_boundary(grin, tiny_generator)

    def drawn(alpha: float) -> Image.Image:
        return draw(tiny_generator, apply_edits(faces[0].ws, [AttributeEdit(boundary, alpha)], tiny_generator), 64)[0]

    starts, ends = [AttributeEdit(boundary, -2.0)], [AttributeEdit(boundary, 1.0), AttributeEdit(boundary, 1.0)]
    frames = animation_frames(tiny_generator, faces[0], starts, ends, 4, 64, bounce)
    assert np.array_equal(frames[0], drawn(-2.0))
    last = frames[2 if bounce else 3]
    assert np.abs(np.asarray(last, int) - np.asarray(drawn(2.0))).max() <= 1
    assert (frames[1] is frames[3]) == bounce
    assert len({id(frame) for frame in frames}) == (3 if bounce else 4)


# Files


def noise(count: int, side: int = 96) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_a_size_that_is_kept(tmp_path: Path, name: str) -> None:
    whole = save_animation(noise(8), tmp_path / ("whole" + name))
    assert not whole.reduced
    assert whole.bytes == (tmp_path / ("whole" + name)).stat().st_size
    for share, frames in ((0.8, 8), (0.3, 4)):
        limit = int(share * whole.bytes)
        clip = save_animation(noise(8), tmp_path / name, 20, limit)
        assert clip.reduced
        assert clip.bytes == (tmp_path / name).stat().st_size <= limit
        assert (clip.frames, clip.fps) == (frames, 20 * frames / 8)
        with Image.open(tmp_path / name) as saved:
            assert (saved.n_frames, saved.size) == (frames, clip.size)
            saved.load()
            assert saved.info["duration"] == round(1000 / clip.fps)
    with pytest.raises(FacelatentError, match="allow more"):
        save_animation(noise(8), tmp_path / "b.gif", max_bytes=1000)
    assert not (tmp_path / "b.gif").exists()


def test_a_clip_that_hardly_moves_is_small_and_true(tmp_path: Path) -> None:
    still = noise(1)[0]
    frames = []
    for at in range(8):
        frame = still.copy()
        frame.paste((255, 0, 0), (10 * at, 10, 10 * at + 10, 20))
        frames.append(frame)
    alone = save_animation(frames[:1], tmp_path / "one.gif")
    clip = save_animation(frames, tmp_path / "a.gif")
    assert clip.bytes < 2 * alone.bytes + 8000
    with Image.open(tmp_path / "a.gif") as gif:
        for at in range(8):
            gif.seek(at)
            shown = np.asarray(gif.convert("RGB"), int)
            assert np.abs(shown[10:20, 10 * at : 10 * at + 10] - [255, 0, 0]).max() < 40
            assert np.abs(shown - np.asarray(frames[at], int)).mean() < 25


def test_a_folder_of_frames(tmp_path: Path) -> None:
    frames = noise(3, 20)
    clip = save_frames(frames, tmp_path / "frames")
    files = sorted(file.name for file in (tmp_path / "frames").iterdir())
    assert files == ["0001.png", "0002.png", "0003.png"]
    assert clip.frames == 3
    assert np.array_equal(Image.open(tmp_path / "frames" / "0003.png"), frames[2])
    with pytest.raises(UnwritableOutput, match="is not empty"):
        save_frames(frames, tmp_path / "frames")


@pytest.mark.parametrize("kind", ["label", "sliders"])
def test_captions(kind: str) -> None:
    plain = Image.new("RGB", (200, 100), "black")
    spans = {"smile": (0.0, 4.0), "yaw": (-1.0, 1.0)}
    low, high = (captioned(plain, {"smile": at, "yaw": 0.0}, spans, kind) for at in (0.0, 4.0))  # type: ignore[arg-type]
    assert low.size == high.size
    assert low.height > 100
    difference = np.asarray(low, int) != np.asarray(high, int)
    assert not difference[:100].any()
    row = (low.height - 100) // 2
    assert difference[100 : 100 + row].any()
    assert not difference[100 + row :].any()
    blue = (np.asarray(high)[..., 2].astype(int) - np.asarray(high)[..., 0]) > 80
    assert blue.any() == (kind == "sliders")


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: tuple[Latent, ...]) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for name, face in zip("abc", faces, strict=True):
        face.save(f"{name}.latent.safetensors")
    return home


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["animate", *(str(one) for one in arguments)])


def worked(*arguments: str | Path) -> str:
    result = run(*arguments, "--size", "32")
    assert result.exit_code == 0, result.output
    return result.stdout


def read(path: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(file)) for file in sorted(path.glob("*.png"))]


def test_keys(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    keys = ("--key", f"0:{grin}=0", "--key", f"0.5:{grin}=3", "--key", f"1:{grin}=0")
    source = "a.latent.safetensors"
    worked(source, *keys, "--frames", "4", "-o", "frames/", "--json", "a.json", *tiny)
    frames = read(folder / "frames")
    # It ends as it begins: once around.
    assert len(frames) == 4
    assert np.array_equal(frames[1], frames[3])
    assert not np.array_equal(frames[0], frames[2])
    record = json.loads(Path("a.json").read_text())
    assert (record["frames"], record["ease"]) == (4, "smooth")
    assert [key["time"] for key in record["keys"]] == [0, 0.5, 1]
    again = run(source, *keys, "-o", "frames/", *tiny)
    assert again.exit_code == 1
    assert "is not empty" in again.stderr


def test_a_walk_through_people(folder: Path, tiny: tuple[str, ...]) -> None:
    others = ("--to-latent", "b.latent.safetensors", "--to-latent", "c.latent.safetensors")
    options = ("--frames", "5", "--fps", "10", "--no-bounce")
    worked("a.latent.safetensors", *others, *options, "--pause", "0.2", "-o", "walk/", *tiny)
    assert len(read(folder / "walk")) == 5 + 3 * 2
    for name in ("a.gif", "b.gif"):
        worked("a.latent.safetensors", *others, "--frames", "6", "-o", name, *tiny)
    assert Path("a.gif").read_bytes() == Path("b.gif").read_bytes()
    assert "nothing in this clip" in run("a.latent.safetensors", "--key", "0:walk=1", "-o", "x.gif", *tiny).stderr


def test_a_style_that_fades_in(folder: Path, style: Style, tiny: tuple[str, ...]) -> None:
    style.save("art.safetensors")
    options = ("--style", "art.safetensors", "--key", "0:style=0", "--key", "1:style=1", "--frames", "3", "--no-bounce")
    worked("a.latent.safetensors", *options, "-o", "fade/", *tiny)
    worked("a.latent.safetensors", "--style", "art.safetensors", "--key", "0:style=1", "-o", "full/", *tiny)
    fading, full = read(folder / "fade"), read(folder / "full")
    assert np.array_equal(fading[2], full[0])
    assert not np.array_equal(fading[0], full[0])


def test_beside_the_original_with_sliders_below_a_size(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    more = ("--attr", grin, "--frames", "6", "--compare", "--caption", "sliders")
    line = worked("a.latent.safetensors", *more, "-o", "a.gif", *tiny)
    with Image.open("a.gif") as gif:
        assert gif.width == 2 * 32 + 4
        assert gif.height > 32
        size = Path("a.gif").stat().st_size
    assert "reduced" not in line
    line = worked("a.latent.safetensors", *more, "-o", "b.gif", "--max-size", f"{0.9 * size / 1000:.3f}kB", *tiny)
    assert "reduced to fit" in line
    assert Path("b.gif").stat().st_size <= 0.9 * size


def test_misused(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    source = "a.latent.safetensors"
    for arguments, message in (
        ((), "say what to change"),
        (("--to", "1"), "--from and --to are for --attr"),
        (("--key", "smile=1"), "such as 0.5:smile=3"),
        (("--attr", grin, "--max-size", "6"), "such as 6MB"),
        (("--attr", grin, "--max-size", "6MB", "-o", "f/"), "not for a folder"),
    ):
        result = run(source, *arguments, *tiny)
        assert result.exit_code == 2, result.output
        assert message in result.stderr

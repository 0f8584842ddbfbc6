"""Styles: kept, applied at strengths, mixed, together with tunings and boundaries, and on the command line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import run, worked
from conftest import make_tiny_generator
from PIL import Image
from torch import Tensor

from facelatent.boundaries import Boundary, draw_edited, edit, load_boundary
from facelatent.delta import GeneratorDelta, tunable, unit
from facelatent.domain_adapt import Style, mix
from facelatent.domain_adapt import style as style_module
from facelatent.domain_adapt.style import MOST_LOST
from facelatent.editing import draw, paste_edit
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile
from facelatent.files import load_tensors, save_tensors, sha256_of
from facelatent.inversion import EncoderBundle, OptimizeSettings, invert
from facelatent.inversion.encoders.heads import WEncoder
from facelatent.inversion.encoders.home import Home
from facelatent.latent import Latent
from facelatent.photo_latents import kept_latent
from facelatent.stylegan_ops import Generator, MobileStyleGAN, StyleGAN2, StyleGAN2Config, load_generator, mobile_fused

DENSE = "blocks.0.conv2.weight"


def random_deltas(generator: Generator, seed: int = 1, size: float = 0.2) -> dict[str, Tensor]:
    """Differences of all convolutions and biases at random, of ``size`` in :func:`unit`."""
    random = torch.Generator().manual_seed(seed)
    weights = generator.state_dict()
    return {
        name: unit(name, weights[name]) * torch.randn(weights[name].shape, generator=random) * size
        for name in tunable(generator, largest_noise=0)
    }


def a_style(generator: Generator, seed: int = 1, size: float = 0.2, name: str = "mona") -> Style:
    return Style.from_deltas(generator, random_deltas(generator, seed, size), 0, name=name)


@pytest.fixture(scope="module")
def style(tiny_generator: MobileStyleGAN) -> Style:
    return a_style(tiny_generator)


@pytest.fixture(scope="module")
def ws(tiny_generator: MobileStyleGAN) -> Tensor:
    with torch.no_grad():
        return tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)).contiguous()


def drawn(generator: Generator, ws: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.synthesis(ws)


def tiny_stylegan2() -> StyleGAN2:
    generator = StyleGAN2("two", StyleGAN2Config((16, 16, 16), w_dim=32, z_dim=32)).requires_grad_(False)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return generator


# Made


def test_applied_to_a_copy(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    deltas = random_deltas(tiny_generator)
    before = {key: value.clone() for key, value in tiny_generator.state_dict().items()}
    adapted = Style.from_deltas(tiny_generator, deltas, name="mona").applied(tiny_generator)
    assert adapted.name == "tiny-0+mona"
    assert adapted.source is tiny_generator
    assert (drawn(adapted, ws) - drawn(tiny_generator, ws)).abs().mean() > 0.01
    after = adapted.state_dict()
    for key, value in tiny_generator.state_dict().items():
        assert torch.equal(value, before[key])
        if key in deltas:
            assert torch.allclose(after[key], value + deltas[key], atol=2e-3 * float(deltas[key].abs().max()))
        else:
            # Megabytes that are equal are not kept twice.
            assert after[key].data_ptr() == value.data_ptr()
    assert not any(parameter.requires_grad for parameter in adapted.parameters())


def test_strength(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    assert torch.equal(drawn(style.applied(tiny_generator, 0.0), ws), drawn(tiny_generator, ws))
    half, whole = (style.applied(tiny_generator, strength).state_dict()[DENSE] for strength in (0.5, 1.0))
    assert torch.allclose(half, (whole + tiny_generator.state_dict()[DENSE]) / 2, atol=1e-6)
    with pytest.raises(FacelatentError, match="a number"):
        style.applied(tiny_generator, float("nan"))


def test_low_rank_where_little_is_lost(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    random = torch.Generator().manual_seed(3)
    narrow = torch.randn(32, 2, generator=random) @ torch.randn(2, 32, generator=random) * 0.1
    noise = torch.randn(32, 32, generator=random) * 0.1
    bias = torch.ones(32) * 0.1
    for matrix, rank in ((narrow, 8), (narrow + 0.03 * noise, 8), (noise, None)):
        style = Style.from_deltas(tiny_generator, {DENSE: matrix[:, :, None, None], "blocks.0.conv1.bias": bias})
        whole = Style.from_deltas(tiny_generator, {DENSE: matrix[:, :, None, None], "blocks.0.conv1.bias": bias}, 0)
        assert style.ranks == ({} if rank is None else {DENSE: rank})
        assert style.report.get("rank") == rank
        assert whole.ranks == {}
        assert torch.equal(style.difference("blocks.0.conv1.bias"), bias.half().float())
        kept, wanted = (drawn(one.applied(tiny_generator), ws) for one in (style, whole))
        change = (wanted - drawn(tiny_generator, ws)).square().mean().sqrt()
        assert (kept - wanted).square().mean().sqrt() <= 2 * MOST_LOST * change  # of another face than the judged ones


def test_rank_asked_for(tiny_generator: MobileStyleGAN) -> None:
    deltas = random_deltas(tiny_generator)
    whole, narrow = (Style.from_deltas(tiny_generator, deltas, rank) for rank in (0, 4))
    assert narrow.ranks[DENSE] == 4
    assert not any("depthwise" in name or "bias" in name for name in narrow.ranks)
    assert narrow.names() == whole.names()
    assert narrow.bytes < whole.bytes
    left, values, right = torch.linalg.svd(deltas[DENSE].flatten(1))
    best = (left[:, :4] * values[:4]) @ right[:4]
    assert torch.allclose(narrow.difference(DENSE), best, atol=5e-3 * float(best.abs().max()))
    assert Style.from_deltas(tiny_generator, deltas, rank=1000).ranks == {}
    with pytest.raises(ValueError, match="1 or more"):
        Style.from_deltas(tiny_generator, deltas, rank=-1)


def test_default_generators_files_are_small(tmp_path: Path) -> None:
    """Convolutions and biases of blocks 0 to 6 and the image head: 1.47 million values."""
    generator = MobileStyleGAN("empty")
    names = tunable(generator, 0)
    names += [f"blocks.0.conv{conv}.{part}" for conv in (1, 2) for part in ("depthwise", "weight", "bias")]
    random = torch.Generator().manual_seed(0)
    weights = generator.state_dict()
    deltas = {name: torch.randn(weights[name].shape, generator=random) for name in names}
    assert sum(delta.numel() for delta in deltas.values()) == 1_474_604
    for rank, most in ((0, 3.0e6), (16, 0.4e6)):
        Style.from_deltas(generator, deltas, rank).save(tmp_path / "a")
        assert (tmp_path / "a").stat().st_size <= most


def test_unchanged_weights_are_left_out(tiny_generator: MobileStyleGAN) -> None:
    weights = tiny_generator.state_dict()
    deltas = {DENSE: torch.zeros_like(weights[DENSE]), "to_img_bias": torch.ones(12)}
    assert Style.from_deltas(tiny_generator, deltas).names() == {"to_img_bias"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mood", torch.ones(3), "no weight is called mood"),
        ("to_img_bias", torch.ones(3), "no weight is called to_img_bias with the shape"),
        ("to_img_bias", torch.full((12,), float("nan")), "not finite"),
        ("to_img_bias", torch.full((12,), 1e6), "too large"),
        ("mapping_network.layers.0.bias", torch.ones(512), "W space"),
        ("w_avg", torch.ones(512), "W space"),
    ],
)
def test_impossible_deltas(tiny_generator: MobileStyleGAN, name: str, value: Tensor, message: str) -> None:
    with pytest.raises(FacelatentError, match=message):
        Style.from_deltas(tiny_generator, {name: value})


def test_from_two_generators(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    adapted = style.applied(tiny_generator)
    found = Style.from_generators(tiny_generator, adapted)
    assert found.names() == style.names()
    assert torch.allclose(drawn(found.applied(tiny_generator), ws), drawn(adapted, ws), atol=2e-3)
    with pytest.raises(IncompatibleLatent, match="W space"):
        Style.from_generators(tiny_generator, make_tiny_generator(seed=1))
    with pytest.raises(IncompatibleLatent, match="layers"):
        Style.from_generators(tiny_generator, make_tiny_generator(channels=(32, 32, 32)))


# Kept


@pytest.mark.parametrize("rank", [0, 4])
def test_round_trip(tmp_path: Path, tiny_generator: MobileStyleGAN, ws: Tensor, rank: int) -> None:
    report = {"reference": "mona.png", "steps": 65}
    style = Style.from_deltas(tiny_generator, random_deltas(tiny_generator), rank, report, "mona")
    for name in "ab":
        style.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = Style.load(tmp_path / "a")
    assert (read.name, read.generator, read.report) == ("mona", "tiny-0", report)
    assert (read.fingerprint, read.w_space, read.ranks) == (style.fingerprint, style.w_space, style.ranks)
    assert torch.equal(drawn(read.applied(tiny_generator), ws), drawn(style.applied(tiny_generator), ws))


def test_files_that_are_no_styles(tmp_path: Path, tiny_generator: MobileStyleGAN, tiny_generator_file: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(InvalidFile, match="does not exist"):
        Style.load(path)
    with pytest.raises(InvalidFile, match="not a style"):
        Style.load(tiny_generator_file)
    Style.from_deltas(tiny_generator, random_deltas(tiny_generator), 4).save(path)
    tensors, metadata = load_tensors(path)
    left = next(name for name in tensors if name.startswith("left."))
    whole = next(name for name in tensors if name.startswith("delta."))
    damaged = [
        ({name: value for name, value in tensors.items() if name != left}, {}, "do not fit"),
        ({**tensors, left: tensors[left][:, :2]}, {}, "do not fit"),
        ({**tensors, left: tensors[left][0]}, {}, "do not fit"),
        ({**tensors, "mood": torch.ones(1)}, {}, "do not fit"),
        ({**tensors, whole: torch.full_like(tensors[whole], float("nan"))}, {}, "not finite"),
        (tensors, {"format": 2}, "style format 2"),
        (tensors, {"kind": "latent"}, "not a style"),
        (tensors, {"mood": "good"}, "cannot|can read"),
    ]
    for changed, more, message in damaged:
        save_tensors(path, changed, metadata | more)
        with pytest.raises(InvalidFile, match=message):
            Style.load(path)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(InvalidFile):
        Style.load(path)


def test_huge_files_are_not_opened(tmp_path: Path, style: Style, monkeypatch: pytest.MonkeyPatch) -> None:
    style.save(tmp_path / "a")
    monkeypatch.setattr(style_module, "MAX_BYTES", 100)
    with pytest.raises(InvalidFile, match="at most"):
        Style.load(tmp_path / "a")


def test_of_another_generator_is_refused(tiny_generator: MobileStyleGAN, style: Style) -> None:
    other = make_tiny_generator(seed=1)
    with pytest.raises(IncompatibleLatent, match="whose W space is another") as caught:
        style.applied(other)
    for word in ("mona", "tiny-0", "tiny-1", tiny_generator.fingerprint, other.fingerprint):
        assert word in str(caught.value)
    related = copy.deepcopy(tiny_generator)
    related.to_img_bias.add_(1)
    with pytest.raises(IncompatibleLatent, match="its W space but other weights"):
        style.applied(related)
    wrong = Style({"to_img_bias": torch.ones(3).half()}, {}, style.generator, style.fingerprint, style.w_space)
    with pytest.raises(IncompatibleLatent, match="damaged"):
        wrong.applied(tiny_generator)


# Mixed


def test_mixed_in_any_form(tiny_generator: MobileStyleGAN) -> None:
    first, second = (random_deltas(tiny_generator, seed) for seed in (1, 2))
    second["to_img_bias"] = torch.zeros(12)
    for ranks in ((0, 0), (4, 4), (4, 0)):
        styles = [Style.from_deltas(tiny_generator, d, r) for d, r in zip((first, second), ranks, strict=True)]
        mixed = mix([(styles[0], 0.6), (styles[1], 0.4)])
        for name in first:
            shape = first[name].shape
            parts = [style.difference(name).reshape(shape) for style in styles if name in style.names()]
            wanted = sum(share * part for share, part in zip((0.6, 0.4), parts, strict=False))
            found = mixed.difference(name).reshape(shape)
            assert torch.allclose(found, wanted, atol=3e-3 * float(wanted.abs().max())), name
        # What is narrow stays narrow.
        assert mixed.ranks.get(DENSE) == (8 if ranks == (4, 4) else None)


def test_mixtures_are_styles(tmp_path: Path, tiny_generator: MobileStyleGAN, style: Style) -> None:
    other = a_style(tiny_generator, 2, name="ink")
    mixed = mix([(style, 0.6), (other, 0.4)])
    assert mixed.name == "0.6*mona+0.4*ink"
    mixed.save(tmp_path / "a")
    assert Style.load(tmp_path / "a").report == {
        "mixed": [{"style": "mona", "weight": 0.6}, {"style": "ink", "weight": 0.4}]
    }
    with pytest.raises(FacelatentError, match="one style or more"):
        mix([])
    with pytest.raises(FacelatentError, match="lower its weights"):
        mix([(style, 1e9)])
    with pytest.raises(IncompatibleLatent, match="different generators"):
        mix([(style, 0.5), (a_style(make_tiny_generator(seed=1)), 0.5)])


# With everything else


def test_fast_path_is_kept(tiny_generator: MobileStyleGAN, style: Style) -> None:
    x = torch.zeros(1, 32, 4, 4)
    fits = [
        mobile_fused.fits(generator, x, [layer.noise_map("const", 1) for layer in generator.layers()])
        for generator in (tiny_generator, style.applied(tiny_generator))
        if isinstance(generator, MobileStyleGAN)
    ]
    assert len(fits) == 2 and fits[0] == fits[1]


def test_stylegan2(ws: Tensor) -> None:
    generator = tiny_stylegan2()
    codes = torch.randn(1, generator.num_ws, 32, generator=torch.Generator().manual_seed(1))
    deltas = random_deltas(generator)
    for rank in (0, 4):
        adapted = Style.from_deltas(generator, deltas, rank).applied(generator)
        assert (drawn(adapted, codes) - drawn(generator, codes)).abs().mean() > 0
        fused = drawn(adapted, codes)
        adapted.backend = "reference"
        assert torch.allclose(drawn(adapted, codes), fused, atol=1e-4 * float(fused.abs().max()))
    assert Style.from_deltas(generator, deltas, 4).ranks


def test_tunings_and_styles_add(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    random = torch.Generator().manual_seed(7)
    state = tiny_generator.state_dict()
    tuning = {
        name: torch.randn(state[name].shape, generator=random).mul(0.05).half() for name in tunable(tiny_generator)
    }
    delta = GeneratorDelta(tuning, tiny_generator.fingerprint)
    latent = Latent(ws, tiny_generator.name, tiny_generator.fingerprint, delta=delta)
    both = latent.generator_for(style.applied(tiny_generator))
    other = style.applied(latent.generator_for(tiny_generator))
    for generator in (both, other):
        assert generator.source is tiny_generator
        for name, value in generator.state_dict().items():
            wanted = state[name].clone()
            if name in tuning:
                wanted += unit(name, state[name]) * tuning[name].float()
            if name in style.names():
                wanted += style.difference(name).reshape(wanted.shape)
            assert torch.allclose(value, wanted, atol=1e-5), name


def test_two_styles_one_after_another(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    other = a_style(tiny_generator, 2)
    twice = other.applied(style.applied(tiny_generator, 0.6), 0.4)
    assert torch.allclose(
        drawn(twice, ws), drawn(mix([(style, 0.6), (other, 0.4)]).applied(tiny_generator), ws), atol=5e-3
    )
    assert twice.source is tiny_generator


def test_copies_of_adapted_generators_draw(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    adapted = style.applied(tiny_generator)
    copied = copy.deepcopy(adapted)
    assert torch.equal(drawn(copied, ws), drawn(adapted, ws))
    assert copied.source.fingerprint == tiny_generator.fingerprint
    assert adapted.state_dict().keys() == tiny_generator.state_dict().keys()


def test_latents_and_boundaries_of_the_source_are_at_home(
    tiny_generator: MobileStyleGAN, style: Style, ws: Tensor, grin: Path
) -> None:
    adapted = style.applied(tiny_generator)
    assert adapted.fingerprint != tiny_generator.fingerprint
    assert Latent(ws, tiny_generator.name, tiny_generator.fingerprint).generator_for(adapted) is adapted
    boundary = load_boundary(grin, adapted)
    moved = edit(ws, boundary, 2.0)
    assert (drawn(adapted, moved) - drawn(adapted, ws)).abs().mean() > 0.01
    channel = torch.zeros(32).index_fill(0, torch.tensor([3]), 4.0)
    blink = Boundary(
        "blink", boundary.normal, 0.0, 1.0, None, "tiny-0", tiny_generator.fingerprint, styles={"b8.conv1": channel[:8]}
    )
    blink.check(adapted)
    plain, shifted = (draw_edited(adapted, ws, shift) for shift in ({}, blink.styles))
    assert (plain - shifted).abs().mean() > 1e-4
    other = style.applied(tiny_generator)
    with pytest.raises(IncompatibleLatent):
        Latent(ws, "other", "0" * 16).check(other)


@pytest.mark.assets
def test_photos_are_inverted_with_the_source(tiny_generator: MobileStyleGAN, style: Style, ws: Tensor) -> None:
    photo = draw(tiny_generator, ws)[0]
    few = OptimizeSettings(w_steps=1, ws_steps=2)
    latents = [
        invert(photo, generator, "optimize", aligned=True, settings=few)
        for generator in (tiny_generator, style.applied(tiny_generator))
    ]
    assert torch.equal(latents[0].ws, latents[1].ws)
    assert latents[1].generator == tiny_generator.name and latents[1].fingerprint == tiny_generator.fingerprint


def test_kept_latents_serve_every_style(
    tmp_path: Path, tiny_generator: MobileStyleGAN, style: Style, ws: Tensor
) -> None:
    photo, path = tmp_path / "me.png", tmp_path / "me.latent.safetensors"
    draw(tiny_generator, ws)[0].save(photo)
    method = {"face": None, "aligned": True}
    Latent(ws, "tiny-0", tiny_generator.fingerprint, method, photo_sha256=sha256_of(photo)).save(path)
    assert kept_latent(path, photo, style.applied(tiny_generator), aligned=True) is not None
    assert kept_latent(path, photo, make_tiny_generator(seed=1), aligned=True) is None


@pytest.mark.assets
def test_pasting_paints_the_face(tiny_generator: MobileStyleGAN, ws: Tensor) -> None:
    bluer = Style.from_deltas(tiny_generator, {"to_img_bias": torch.tensor([0.0, 0, 1.2, *[0] * 9])})
    photo = draw(tiny_generator, ws)[0]
    method = {"aligned": True, "face": None}
    latent = Latent(ws, tiny_generator.name, tiny_generator.fingerprint, method)
    pasted = paste_edit(photo, latent, bluer.applied(tiny_generator))
    before, after = (np.asarray(image, np.float64)[24:40, 24:40].mean((0, 1)) for image in (photo, pasted.image))
    assert after[2] > before[2] + 20
    assert abs(after[0] - before[0]) < 10


# On the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mona(folder: Path, style: Style) -> Path:
    style.save(folder / "mona.safetensors")
    return folder / "mona.safetensors"


@pytest.fixture
def latent(folder: Path, tiny_generator: MobileStyleGAN, ws: Tensor) -> Path:
    path = folder / "me.latent.safetensors"
    Latent(ws, tiny_generator.name, tiny_generator.fingerprint).save(path)
    return path


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.int16)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal but for rounding: a generator from a file draws in another order of memory."""
    return int(np.abs(first - second).max()) <= 1


def as_drawn(generator: Generator, ws: Tensor) -> np.ndarray:
    return np.asarray(draw(generator, ws)[0], np.int16)


def test_render(
    folder: Path,
    mona: Path,
    latent: Path,
    tiny: tuple[str, ...],
    tiny_generator: MobileStyleGAN,
    style: Style,
    ws: Tensor,
) -> None:
    worked("render", latent, *tiny)
    assert same(picture(folder / "me-drawn.png"), as_drawn(tiny_generator, ws))
    styled = ("--style", mona, "--style-strength", "0.5", "--json", "a.json", "-o", "styled.png")
    worked("render", latent, *styled, *tiny)
    wanted = as_drawn(style.applied(tiny_generator, 0.5), ws)
    assert same(picture(folder / "styled.png"), wanted)
    record = json.loads((folder / "a.json").read_text())
    assert (record["styles"], record["style_strength"]) == ([str(mona)], 0.5)
    worked("render", latent, "--style", f"{mona}:0.5", "-o", "same.png", *tiny)
    assert same(picture(folder / "same.png"), wanted)
    worked("render", latent, "--style", mona, "--compare", "--size", "64", "-o", "both.png", *tiny)
    left = picture(folder / "both.png")[:64, :64]
    assert np.abs(left - as_drawn(tiny_generator, ws)).max() <= 1
    worked("render", latent, latent.with_name("me.latent.safetensors"), "--style", mona, "-o", "many/", *tiny)
    assert (folder / "many" / "me.png").is_file()


def test_styles_are_mixed(
    folder: Path,
    mona: Path,
    latent: Path,
    tiny: tuple[str, ...],
    tiny_generator: MobileStyleGAN,
    style: Style,
    ws: Tensor,
) -> None:
    other = a_style(tiny_generator, 2, name="ink")
    other.save(folder / "ink:1.safetensors")
    for given, shares in (
        (("--style", mona, "--style", "ink:1.safetensors"), (0.5, 0.5)),
        (("--style", f"{mona}:0.6", "--style", "ink:1.safetensors:-0.2"), (0.6, -0.2)),
    ):
        worked("render", latent, *given, "-o", "a.png", *tiny)
        wanted = mix(list(zip((style, other), shares, strict=True))).applied(tiny_generator)
        assert same(picture(folder / "a.png"), as_drawn(wanted, ws))
    assert (
        "give every --style a strength" in run("render", latent, "--style", mona, "--style", f"{mona}:1", *tiny).output
    )
    assert "between -2 and 2" in run("render", latent, "--style", f"{mona}:7", *tiny).output


def test_wherever_faces_are_drawn(
    folder: Path,
    mona: Path,
    latent: Path,
    grin: Path,
    tiny: tuple[str, ...],
    tiny_generator: MobileStyleGAN,
    style: Style,
    ws: Tensor,
) -> None:
    adapted = style.applied(tiny_generator)
    moved = edit(ws, load_boundary(grin, tiny_generator), 2.0)
    given = ("--style", mona, *tiny)
    worked("edit", latent, "--attr", grin, "--alpha", "2", "-o", "edited.png", *given)
    assert same(picture(folder / "edited.png"), as_drawn(adapted, moved))
    worked("sample", "--seed", "5", "--psi", "0.8", "--separate", "-o", "faces", *given)
    assert same(picture(folder / "faces" / "seed0005.png"), as_drawn(adapted, ws))
    # The face is the source's: in this style or another it can be drawn again.
    assert Latent.load(folder / "faces" / "seed0005.latent.safetensors").fingerprint == tiny_generator.fingerprint
    ends = ("--from", "2", "--to", "2.001", "--frames", "2", "--no-bounce", "--size", "64")
    worked("animate", latent, "--attr", grin, *ends, "-o", "a.webp", "--json", "a.json", *given)
    frame, near, far = (
        np.asarray(one.convert("L"), np.float64)
        for one in (Image.open(folder / "a.webp"), draw(adapted, moved)[0], draw(tiny_generator, moved)[0])
    )
    assert np.abs(frame - near).mean() < np.abs(frame - far).mean() / 2
    assert json.loads((folder / "a.json").read_text())["styles"] == [str(mona)]
    for command in ("render", "edit", "animate", "sample", "demo"):
        assert "--style FILE[:STRENGTH]" in run(command, "--help").output


def test_misused(folder: Path, mona: Path, latent: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    assert "is for --style" in run("render", latent, "--style-strength", "0.5", *tiny).output
    assert "nothing to compare" in run("render", latent, "--compare", *tiny).output
    assert run("render", latent, "--style", mona, "--style-strength", "3", *tiny).exit_code == 2
    a_style(make_tiny_generator(seed=1)).save(folder / "other.safetensors")
    for file, message in (
        ("none.safetensors", "none.safetensors does not exist"),
        (latent, "not a style"),
        ("other.safetensors", "belongs to generator tiny-1"),
    ):
        result = run("render", latent, "--style", file, "-o", "a.png", *tiny)
        assert result.exit_code == 1
        assert message in result.output and len(result.output.splitlines()) == 1
    assert "not a latent" in run("render", mona, "-o", "a.png", *tiny).output
    assert not (folder / "a.png").exists()


def test_inspect_tells_our_own_files(
    folder: Path, mona: Path, latent: Path, grin: Path, tiny_generator: MobileStyleGAN, tiny_generator_file: Path
) -> None:
    text = worked("inspect", mona)
    assert "kind:        style\nname:        mona\ngenerator:   tiny-0\n" in text
    found = json.loads(worked("inspect", mona, "--json"))
    assert found["kind"] == "style" and found["fingerprint"] == tiny_generator.fingerprint
    average = torch.zeros(1, 512)
    EncoderBundle("mine", "w", WEncoder(), average, 8, Home.of(tiny_generator)).save(folder / "encoder")
    text = worked("inspect", folder / "encoder")
    assert "kind:        encoder\nname:        mine\nencoder:     w\ngenerator:   tiny-0\n" in text
    assert "layers:      8 in W+" in text
    assert "kind:        latent" in worked("inspect", latent)
    assert "attribute:   grin" in worked("inspect", grin)
    np.savez(
        "codes.npz", w=np.zeros((3, 5, 512), np.float32), age=np.array([20.0, np.nan, 61.5]), none=np.full(3, np.nan)
    )
    text = worked("inspect", "codes.npz")
    assert "kind:        scored codes\nfaces:       3\ncodes:       5 w a face, for groups of layers\n" in text
    assert "scores:      age 20 to 61.5\n" in text
    for other in ({"smile": np.zeros((1, 512))}, {"w": np.array(print, dtype=object)}):  # directions, and a pickle
        np.savez("codes.npz", **other)
        assert run("inspect", "codes.npz").exit_code == 1
    # A generator of ours is told by what it holds.
    assert "resolution:  64 px" in worked("inspect", tiny_generator_file)


@pytest.mark.assets
def test_default_generator_in_a_style(mobile: Generator, asset: Callable[[str], Path]) -> None:
    """Colours laid on by the image head: every pixel moves by as much, and everything else stays."""
    shift = torch.tensor([0.4, 0.2, -0.4])
    delta = torch.zeros(12)
    delta[:3] = 2 * shift  # the low band is twice the mean of four pixels
    adapted = Style.from_deltas(mobile, {"to_img_bias": delta}).applied(mobile, 0.5)
    ws = mobile.broadcast(mobile.sample_w(3, 0.7))
    with torch.no_grad():
        before, after = (generator.synthesis(ws, resolution=256) for generator in (mobile, adapted))
    assert torch.allclose(after - before, 0.5 * shift.view(1, 3, 1, 1).expand_as(before), atol=2e-3)
    assert load_generator(device="cpu").fingerprint == adapted.source.fingerprint

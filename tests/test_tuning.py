"""Pivotal tuning on tiny generators, what it leaves in a latent, and the methods that it is part of."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_parts import run, worked
from conftest import make_tiny_generator
from PIL import Image
from torch import Tensor

from facelatent.boundaries import Boundary
from facelatent.commands.common import METHODS as OFFERED
from facelatent.delta import GeneratorDelta, tunable, unit
from facelatent.editing import draw, paste_edit
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile
from facelatent.files import load_tensors, save_tensors
from facelatent.images import to_tensor
from facelatent.inversion import METHODS, OptimizeSettings, Recipe, TuneSettings, invert, methods, tune
from facelatent.inversion.descent import Limits, descend
from facelatent.inversion.optimize import Likeness
from facelatent.inversion.tuning import _Pieces
from facelatent.latent import Latent
from facelatent.photo_latents import kept_latent
from facelatent.stylegan_ops import Generator, MobileStyleGAN, StyleGAN2, StyleGAN2Config

FEW = TuneSettings(steps=3)
SHORT = OptimizeSettings(w_steps=1, ws_steps=2)


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("assets"):
        for name in ("lpips-vgg", "lpips-alex", "face-landmarks-68", "face-identity"):
            request.getfixturevalue("asset")(name)


@pytest.fixture(scope="module")
def target(tiny_generator: MobileStyleGAN) -> Image.Image:
    """A face of the tiny generator, other than the one at :func:`pivot`."""
    with torch.no_grad():
        return draw(tiny_generator, tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)))[0]


@pytest.fixture(scope="module")
def pivot(tiny_generator: MobileStyleGAN) -> Tensor:
    with torch.no_grad():
        return tiny_generator.broadcast(tiny_generator.sample_w(6, 0.8))


def a_delta(generator: Generator, seed: int = 1) -> GeneratorDelta:
    """A tuning at random."""
    random = torch.Generator().manual_seed(seed)
    state = generator.state_dict()
    tensors = {name: torch.randn(state[name].shape, generator=random).mul(0.05).half() for name in tunable(generator)}
    return GeneratorDelta(tensors, generator.fingerprint)


def drawn(generator: Generator, ws: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.synthesis(ws)


# What is tuned


def test_only_convolutions_above_4_px_are_tuned(tiny_generator: MobileStyleGAN) -> None:
    names = set(tunable(tiny_generator))
    layers = {f"blocks.{block}.conv{conv}" for block in range(3) for conv in (1, 2)}
    wanted = {f"{layer}.{part}" for layer in layers for part in ("depthwise", "weight", "bias", "noise")}
    assert names == wanted | {"to_img_weight", "to_img_bias"}
    without = {name for name in names if not name.endswith("noise")}
    assert set(tunable(tiny_generator, 0)) == without
    assert set(tunable(tiny_generator, 8)) == without | {"blocks.0.conv1.noise", "blocks.0.conv2.noise"}


def test_units_follow_the_weights() -> None:
    dense = torch.randn(8, 4, 1, 1) * torch.tensor([1.0, 10, 100, 1000]).view(1, 4, 1, 1)
    sizes = unit("a.weight", dense)
    assert sizes.shape == (1, 4, 1, 1)
    assert torch.allclose((dense / sizes).square().mean(0), torch.ones(4, 1, 1))
    depthwise = torch.ones(6, 1, 3, 3) * torch.arange(1.0, 7).view(6, 1, 1, 1)
    assert torch.allclose(unit("a.depthwise", depthwise), 0.1 * torch.arange(1.0, 7).view(6, 1, 1, 1))
    assert float(unit("a.noise", torch.zeros(1, 1, 8, 8))) > 0


# Deltas


def test_applied_to_a_copy(tiny_generator: MobileStyleGAN, pivot: Tensor) -> None:
    before = {key: value.clone() for key, value in tiny_generator.state_dict().items()}
    picture = drawn(tiny_generator, pivot)
    delta = a_delta(tiny_generator)
    tuned = delta.applied(tiny_generator)
    assert (drawn(tuned, pivot) - picture).abs().mean() > 0.01
    after = tuned.state_dict()
    for name, value in tiny_generator.state_dict().items():
        assert torch.equal(value, before[name])
        if name in delta.tensors:
            wanted = value + unit(name, value) * delta.tensors[name].float()
            assert torch.allclose(after[name], wanted, atol=1e-7)
        else:
            # Megabytes that are equal are not kept twice.
            assert after[name].data_ptr() == value.data_ptr()
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


def test_of_another_generator_is_refused(tiny_generator: MobileStyleGAN) -> None:
    other = make_tiny_generator(seed=1)
    delta = a_delta(tiny_generator)
    with pytest.raises(IncompatibleLatent, match=tiny_generator.fingerprint):
        delta.applied(other)
    for name, value in (("blocks.0.conv1.bias", torch.zeros(3)), ("mood", torch.zeros(3))):
        with pytest.raises(IncompatibleLatent):
            GeneratorDelta({**delta.tensors, name: value}, delta.fingerprint).applied(tiny_generator)
    with pytest.raises(IncompatibleLatent):
        Latent(torch.zeros(1, 8, 512), "g", other.fingerprint, delta=delta).generator_for(tiny_generator)


def test_stylegan2_is_tuned_too() -> None:
    generator = StyleGAN2("two", StyleGAN2Config((16, 16, 16), w_dim=32, z_dim=32)).requires_grad_(False)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    ws = torch.randn(1, generator.num_ws, 32, generator=torch.Generator().manual_seed(1))
    names = tunable(generator)
    assert names
    assert not any("affine" in name or "mapping" in name for name in names)
    tuned = a_delta(generator).applied(generator)
    assert (drawn(tuned, ws) - drawn(generator, ws)).abs().mean() > 0


# In latents


def test_latent_keeps_its_tuning(tmp_path: Path, tiny_generator: MobileStyleGAN, pivot: Tensor) -> None:
    delta = a_delta(tiny_generator)
    latent = Latent(pivot, tiny_generator.name, tiny_generator.fingerprint, delta=delta)
    path = tmp_path / "me.latent.safetensors"
    latent.save(path)
    read = Latent.load(path)
    assert read.delta is not None
    assert read.delta.tensors.keys() == delta.tensors.keys()
    assert all(torch.equal(value, delta.tensors[name]) for name, value in read.delta.tensors.items())
    pictures = [drawn(one.generator_for(tiny_generator), one.ws) for one in (latent, read)]
    assert torch.equal(*pictures)
    assert not torch.equal(pictures[0], drawn(tiny_generator, pivot))
    latent.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert read.with_ws(pivot + 1).delta is read.delta


def test_latents_without_a_tuning_are_what_they_were(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    latent = Latent(torch.zeros(1, 8, 512), tiny_generator.name, tiny_generator.fingerprint)
    latent.save(tmp_path / "a")
    tensors, metadata = load_tensors(tmp_path / "a")
    assert list(tensors) == ["ws"]
    # What an older facelatent wrote, and can read.
    assert metadata["format"] == 1
    assert "delta" not in metadata
    read = Latent.load(tmp_path / "a")
    assert read.delta is None
    assert read.generator_for(tiny_generator) is tiny_generator


def test_tuned_latents_are_a_format_of_their_own(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    """An older facelatent would draw them untuned without a word."""
    fingerprint = tiny_generator.fingerprint
    Latent(torch.zeros(1, 8, 512), "g", fingerprint, delta=a_delta(tiny_generator)).save(tmp_path / "a")
    tensors, metadata = load_tensors(tmp_path / "a")
    assert metadata["format"] == 2
    for version, kept in ((1, tensors), (2, {"ws": tensors["ws"]})):
        save_tensors(tmp_path / "b", kept, metadata | {"format": version})
        with pytest.raises(InvalidFile, match="damaged"):
            Latent.load(tmp_path / "b")


# Tuning


@pytest.mark.assets
def test_tuned_generator_draws_the_target(tiny_generator: MobileStyleGAN, target: Image.Image, pivot: Tensor) -> None:
    before = {key: value.clone() for key, value in tiny_generator.state_dict().items()}
    delta = tune(tiny_generator, pivot, target, TuneSettings(steps=40, learning_rate=0.02))
    assert all(torch.equal(value, before[key]) for key, value in tiny_generator.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in tiny_generator.parameters())
    wanted = to_tensor(target)

    def error(generator: Generator) -> float:
        return float((drawn(generator, pivot) - wanted).square().mean())

    assert error(delta.applied(tiny_generator)) < error(tiny_generator) / 4
    assert all(value.dtype == torch.float16 for value in delta.tensors.values())
    assert delta.fingerprint == tiny_generator.fingerprint


@pytest.mark.assets
def test_equal_seeds_give_equal_tunings(tiny_generator: MobileStyleGAN, target: Image.Image, pivot: Tensor) -> None:
    first, again = (tune(tiny_generator, pivot, target, FEW) for _ in range(2))
    assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items())


@pytest.mark.assets
def test_ends_when_it_is_near_enough(tiny_generator: MobileStyleGAN, target: Image.Image, pivot: Tensor) -> None:
    long = TuneSettings(steps=10**6, enough=1e6)
    one = tune(tiny_generator, pivot, target, long)
    assert max(float(value.abs().max()) for value in one.tensors.values()) <= long.learning_rate


@pytest.mark.assets
def test_pieces_are_of_the_full_picture() -> None:
    generator = make_tiny_generator(3, (8,) * 7)
    square = draw(generator, generator.broadcast(generator.w_avg[None]))[0]
    assert square.width == 512
    likeness = Likeness(square, generator, 1, 1, 0, 4)
    pieces = _Pieces(likeness, TuneSettings(seed=2))
    assert float(pieces.loss(likeness.target)) == pytest.approx(0, abs=1e-6)
    # A lattice that 256 px do not show.
    lattice = 0.2 * ((torch.arange(512)[:, None] + torch.arange(512)) % 2 * 2.0 - 1)
    assert (
        float(
            likeness.perceived(likeness.target[..., :256, :256], likeness.features_of(likeness.target[..., :256, :256]))
        )
        < 1e-6
    )
    assert float(pieces.loss(likeness.target + lattice)) > 0.05


# Descending


class Bar:
    """What a descent needs of a progress bar."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0

    def set_postfix(self, **values: object) -> None:
        pass

    def update(self) -> None:
        self.done += 1


def descent(limits: Limits, pause: float = 0.0) -> tuple[Bar, float]:
    x = torch.tensor(4.0, requires_grad=True)

    def loss_of(step: int) -> Tensor:
        time.sleep(pause)
        return x.square()

    bar = Bar(limits.steps)
    descend(loss_of, [x], 0.1, limits, bar)
    return bar, float(x.detach())


def test_descent_ends() -> None:
    for limits, least, most in (
        (Limits(60), 60, 60),
        (Limits(1), 1, 1),
        (Limits(1000, enough=4.0), 5, 100),
        (Limits(10**6, seconds=0.3), 5, 40),
        (Limits(10, seconds=60), 10, 10),
    ):
        bar, x = descent(limits, 0.0 if limits.seconds is None else 0.01)
        assert least <= bar.done <= most
        assert bar.total == bar.done
        assert abs(x) < 4
    assert abs(descent(Limits(100))[1]) < 0.5


# Methods


class Encoded:
    """An encoder that always gives the same codes."""

    name, num_ws, input_side = "same", 8, 32

    def __init__(self, ws: Tensor) -> None:
        self.ws = ws

    def encode(self, images: Tensor) -> Tensor:
        assert images.shape[-2:] == (32, 32)
        return self.ws.expand(len(images), -1, -1)

    def encode_for(self, images: Tensor, generator: Generator) -> Tensor:
        return self.encode(images)


def test_command_line_offers_every_method() -> None:
    assert OFFERED == METHODS


@pytest.mark.assets
def test_methods(tiny_generator: MobileStyleGAN, target: Image.Image, pivot: Tensor) -> None:
    encoder = Encoded(pivot)

    def inverted(method: str | None, **more: Any) -> Latent:
        return invert(target, tiny_generator, method, True, settings=SHORT, tune_settings=FEW, **more)

    latents = {method: inverted(method, encoder=encoder) for method in METHODS}
    assert torch.equal(latents["encoder"].ws, pivot)
    assert not torch.equal(latents["encoder+optimize"].ws, pivot)
    assert not torch.equal(latents["encoder+optimize"].ws, latents["optimize"].ws)
    for method, latent in latents.items():
        assert latent.method["method"] == method
        assert (latent.delta is not None) == ("tune" in method)
        assert {key for key in ("encoder", "settings", "tuning") if key in latent.method} == {
            {"encoder": "encoder", "optimize": "settings", "tune": "tuning"}[part] for part in method.split("+")
        }
        with torch.no_grad():
            again = latent.generator_for(tiny_generator).synthesis(latent.ws)
        assert latent.metrics["psnr"] == pytest.approx(
            10 * np.log10(4 / float((again.clamp(-1, 1) - to_tensor(target)).square().mean())), abs=1e-3
        )
    # Tuning leaves the code where it is.
    assert torch.equal(latents["optimize"].ws, latents["optimize+tune"].ws)
    assert inverted(None).method["method"] == "optimize+tune"
    assert inverted(None, encoder=encoder).method["method"] == "encoder+optimize+tune"


@pytest.mark.parametrize("method", ["encoder", "encoder+optimize", "encoder+optimize+tune"])
def test_methods_without_an_encoder(tiny_generator: MobileStyleGAN, target: Image.Image, method: str) -> None:
    with pytest.raises(FacelatentError, match=r"tiny-0 has no encoder of its own.*pass --encoder FILE"):
        invert(target, tiny_generator, method, aligned=True)


@pytest.mark.assets
def test_time_limit(tiny_generator: MobileStyleGAN, target: Image.Image) -> None:
    endless = OptimizeSettings(10**6, 10**6, patience=10**6), TuneSettings(steps=10**6, enough=0)
    began = time.monotonic()
    latent = invert(
        target, tiny_generator, "optimize+tune", True, settings=endless[0], tune_settings=endless[1], time_limit=4
    )
    assert time.monotonic() - began < 30
    assert latent.method["time_limit"] == 4
    assert latent.delta is not None


@pytest.mark.assets
def test_time_limit_does_not_pay_for_what_is_fetched(
    tiny_generator: MobileStyleGAN, target: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def optimised(square: Image.Image, generator: Generator, *arguments: Any) -> Tensor:
        given.append(arguments[-1])
        return generator.broadcast(generator.w_avg[None])

    monkeypatch.setattr(methods, "optimize", optimised)
    monkeypatch.setattr(methods, "load_dlib_face", lambda: time.sleep(3))
    invert(target, tiny_generator, "optimize", True, time_limit=4)
    assert 4 - methods._MEASURING - 0.5 < given[0] <= 4 - methods._MEASURING


# Commands


@pytest.fixture
def photo(tmp_path: Path, target: Image.Image) -> Path:
    target.save(tmp_path / "me.png")
    return tmp_path / "me.png"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


@pytest.mark.assets
def test_commands_draw_with_the_tuned_generator(
    tmp_path: Path, photo: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN
) -> None:
    worked(
        *("invert", photo, "--aligned", "--method", "optimize+tune", "--steps", "2", "--tune-steps", "3", *tiny),
        *("--preview", tmp_path / "preview.png"),
    )
    latent = Latent.load(tmp_path / "me.latent.safetensors")
    assert latent.delta is not None
    # A tuning that nobody could miss.
    bold = {name: (value.float() + 1).half() for name, value in latent.delta.tensors.items()}
    bold_delta = GeneratorDelta(bold, latent.fingerprint)
    latent = Latent(**{**vars(latent), "delta": bold_delta})
    latent.save(tmp_path / "me.latent.safetensors")
    tuned = draw(latent.generator_for(tiny_generator), latent.ws)[0]
    plain = draw(tiny_generator, latent.ws)[0]
    assert np.abs(np.asarray(tuned, np.float64) - np.asarray(plain)).mean() > 5
    normal = torch.nn.functional.normalize(torch.randn(512, generator=torch.Generator().manual_seed(0)), dim=0)
    grin = tmp_path / "grin.boundary.safetensors"
    Boundary("grin", normal, 0.0, 3.0, None, tiny_generator.name, tiny_generator.fingerprint).save(grin)
    for source in (photo, tmp_path / "me.latent.safetensors"):
        more = ("--aligned",) if source == photo else ()
        worked("edit", source, "--attr", grin, "--alpha", "0", "-o", tmp_path / "e.png", *more, *tiny)
        assert np.abs(pixels(tmp_path / "e.png") - np.asarray(tuned)).max() <= 1
    worked(
        *("animate", photo, "--aligned", "--attr", grin, "--from", "0", "--to", "0.001", "--frames", "2"),
        *("--size", "64", "-o", tmp_path / "a.webp", *tiny),
    )
    # The animation is lossy, in colours most of all.
    frame, *wanted = (
        np.asarray(one.convert("L"), np.float64) for one in (Image.open(tmp_path / "a.webp"), tuned, plain)
    )
    near, far = (np.abs(frame - one).mean() for one in wanted)
    assert near < far / 2
    pasted = paste_edit(Image.open(photo), latent, tiny_generator).image
    against = paste_edit(Image.open(photo), Latent(**{**vars(latent), "delta": None}), tiny_generator).image
    assert np.abs(np.asarray(pasted, np.float64) - np.asarray(against)).mean() > 0.5


@pytest.mark.assets
def test_kept_latents_know_their_method(
    tmp_path: Path, photo: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN
) -> None:
    steps = ("--steps", "2", "--tune-steps", "1")
    worked("invert", photo, "--aligned", *steps, *tiny)
    recipe = Recipe(None, OptimizeSettings.with_steps(2), TuneSettings(steps=1))
    path = tmp_path / "me.latent.safetensors"
    assert kept_latent(path, photo, tiny_generator, None, aligned=True) is not None
    assert kept_latent(path, photo, tiny_generator, recipe, aligned=True) is not None
    assert kept_latent(path, photo, tiny_generator, Recipe("optimize", recipe.optimize), aligned=True) is None


@pytest.mark.assets
def test_interrupted_tuning_leaves_nothing(
    tmp_path: Path, photo: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facelatent.inversion.tuning.descend", stop)
    result = run("invert", str(photo), "--aligned", "--steps", "2", *tiny)
    assert result.exit_code != 0
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]


def test_method_and_encoder_have_to_agree(tmp_path: Path, photo: Path, tiny: tuple[str, ...]) -> None:
    result = run("invert", str(photo), "--aligned", "--method", "optimize", "--encoder", "e4e.pt", *tiny)
    assert result.exit_code == 2
    assert "leave out --encoder" in result.output
    for method in ("encoder", "encoder+optimize+tune"):
        result = run("invert", str(photo), "--aligned", "--method", method, *tiny)
        assert result.exit_code == 1
        assert "pass --encoder" in result.output
        assert len(result.output.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["me.png"]

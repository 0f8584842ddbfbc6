"""Inversion by optimisation on a tiny generator, and what is measured on its results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from facelatent.editing import draw
from facelatent.errors import NoFaceFound, UnreadableImage
from facelatent.files import sha256_of
from facelatent.images import open_image, to_images, to_tensor
from facelatent.inversion import OptimizeSettings, Recipe, identity_distance, invert, reconstruction_metrics
from facelatent.inversion.optimize import face_weights, multiscale_mse, optimize
from facelatent.latent import Latent
from facelatent.photo_latents import invert_photo, kept_latent, latent_path
from facelatent.stylegan_ops import MobileStyleGAN

SHORT = OptimizeSettings(w_steps=2, ws_steps=3)


@pytest.fixture(scope="module")
def own_face(tiny_generator: MobileStyleGAN) -> Image.Image:
    """What the tiny generator draws: the one kind of picture that it can invert."""
    with torch.no_grad():
        return draw(tiny_generator, tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)))[0]


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("assets"):
        for name in ("lpips-vgg", "lpips-alex", "face-landmarks-68", "face-identity"):
            request.getfixturevalue("asset")(name)


def redrawn(generator: MobileStyleGAN, ws: Tensor) -> Tensor:
    with torch.no_grad():
        return generator.synthesis(ws)


# Inversion


@pytest.mark.assets
def test_own_sample_is_found_again(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    target = to_tensor(own_face)
    mean = redrawn(tiny_generator, tiny_generator.broadcast(tiny_generator.w_avg[None]))
    latent = invert(
        own_face, tiny_generator, method="optimize", aligned=True, settings=OptimizeSettings(w_steps=15, ws_steps=20)
    )
    assert latent.ws.shape == (1, 8, 512)
    before, after = reconstruction_metrics(target, mean), latent.metrics
    assert after["lpips_vgg"] < before["lpips_vgg"] / 2
    assert after["lpips_alex"] < before["lpips_alex"] / 2
    assert after["psnr"] > before["psnr"] + 6
    # The metrics are those of the picture that the latent draws.
    again = reconstruction_metrics(target, redrawn(tiny_generator, latent.ws))
    assert again == pytest.approx(after, abs=1e-4)


@pytest.mark.assets
def test_equal_settings_give_equal_codes(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    first, again = (invert(own_face, tiny_generator, method="optimize", aligned=True, settings=SHORT) for _ in range(2))
    assert torch.equal(first.ws, again.ws)
    assert first.metrics == again.metrics
    longer = invert(
        own_face, tiny_generator, method="optimize", aligned=True, settings=dataclasses.replace(SHORT, ws_steps=4)
    )
    assert not torch.equal(first.ws, longer.ws)


@pytest.mark.assets
def test_what_the_latent_remembers(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    latent = invert(own_face, tiny_generator, method="optimize", aligned=True, settings=SHORT, photo_sha256="ab" * 32)
    assert (latent.generator, latent.fingerprint) == (tiny_generator.name, tiny_generator.fingerprint)
    assert latent.quad is None
    assert latent.photo_sha256 == "ab" * 32
    assert (latent.method["method"], latent.method["aligned"]) == ("optimize", True)
    assert latent.method["settings"] == dataclasses.asdict(SHORT)
    assert not latent.ws.requires_grad
    latent.check(tiny_generator)


@pytest.mark.assets
def test_photo_is_aligned_first(
    tiny_generator: MobileStyleGAN, asset: Callable[[str], Path], own_face: Image.Image
) -> None:
    latent = invert(open_image(asset("astronaut")), tiny_generator, "optimize", settings=SHORT)
    quad = np.array(latent.quad)
    assert quad.shape == (4, 2)
    assert quad.mean(0) == pytest.approx([222, 115], abs=12)
    assert latent.method["aligned"] is False
    with pytest.raises(NoFaceFound, match="--face 99"):
        invert(open_image(asset("astronaut")), tiny_generator, face=99)


@pytest.mark.assets
def test_generator_is_left_as_it_was(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    before = {key: value.clone() for key, value in tiny_generator.state_dict().items()}
    invert(own_face, tiny_generator, method="optimize", aligned=True, settings=SHORT)
    assert all(torch.equal(value, before[key]) for key, value in tiny_generator.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_generator.parameters())


class Steps:
    """Counts what a run draws."""

    def __init__(self, generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[Tensor] = []
        real = generator.synthesis

        def counted(ws: Tensor, *arguments: object, **options: object) -> Tensor:
            self.codes.append(ws.detach().clone())
            return real(ws, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(generator, "synthesis", counted)


@pytest.mark.assets
def test_steps_first_in_w_then_in_w_plus(
    tiny_generator: MobileStyleGAN, own_face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(tiny_generator, monkeypatch)
    optimize(own_face, tiny_generator, SHORT)
    assert len(steps.codes) == 5
    spread = [float((codes - codes[:, :1]).abs().max()) for codes in steps.codes]
    # One w for all layers, from the mean face on; the layers part after the first step in W+.
    assert spread[:3] == [0, 0, 0]
    assert min(spread[3:]) > 0
    assert torch.allclose(steps.codes[0][0, 0], tiny_generator.w_avg)


@pytest.mark.assets
def test_stops_when_the_loss_no_longer_falls(
    tiny_generator: MobileStyleGAN, own_face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a learning rate the loss stands still: the first step of each phase is its best.
    still = OptimizeSettings(w_steps=50, ws_steps=50, learning_rate=0.0, patience=4)
    steps = Steps(tiny_generator, monkeypatch)
    optimize(own_face, tiny_generator, still)
    assert len(steps.codes) == 2 * (1 + 4)


@pytest.mark.assets
def test_patience_outlasts_a_falling_loss(
    tiny_generator: MobileStyleGAN, own_face: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(tiny_generator, monkeypatch)
    optimize(own_face, tiny_generator, OptimizeSettings(w_steps=10, ws_steps=10, patience=6))
    assert len(steps.codes) == 20


@pytest.mark.assets
def test_penalties_do_what_they_are_for(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    def codes(**weights: float) -> Tensor:
        return optimize(own_face, tiny_generator, OptimizeSettings(w_steps=4, ws_steps=8, **weights))

    free, tied = codes(), codes(spread_weight=100.0)

    def spread(ws: Tensor) -> float:
        return float((ws - ws.mean(1, keepdim=True)).square().mean())

    assert spread(tied) < spread(free) / 2


def test_steps_are_shared_out() -> None:
    assert OptimizeSettings.with_steps(None, 7) == OptimizeSettings(seed=7)
    default = OptimizeSettings()
    assert OptimizeSettings.with_steps(default.w_steps + default.ws_steps) == default
    for steps in (2, 3, 10, 1000):
        chosen = OptimizeSettings.with_steps(steps)
        assert chosen.w_steps >= 1
        assert chosen.ws_steps >= 1
        assert chosen.w_steps + chosen.ws_steps == steps


def test_unknown_method(tiny_generator: MobileStyleGAN, own_face: Image.Image) -> None:
    with pytest.raises(ValueError, match="unknown inversion method 'magic'; known: encoder, "):
        invert(own_face, tiny_generator, method="magic")


def test_no_face(tiny_generator: MobileStyleGAN) -> None:
    with pytest.raises(NoFaceFound, match="no face found in the picture"):
        invert(Image.new("RGB", (100, 100)), tiny_generator)


# What is measured


def test_multiscale_error_by_hand() -> None:
    a, even = torch.zeros(1, 3, 512, 512), torch.ones(1, 1, 512, 512)
    assert float(multiscale_mse(a, a, even)) == 0
    # A constant offset counts the same at all four sizes.
    assert float(multiscale_mse(a + 0.5, a, even)) == pytest.approx(4 * 0.25)
    # A chequerboard averages out at all but the full size.
    board = (torch.arange(512)[:, None] + torch.arange(512)) % 2 * 2.0 - 1
    assert float(multiscale_mse(a + board, a, even)) == pytest.approx(1)
    # Only places with weight count.
    half = torch.cat([torch.zeros(1, 1, 512, 256), 2 * torch.ones(1, 1, 512, 256)], dim=3)
    left = torch.zeros(1, 3, 512, 512)
    left[..., :256] = 1
    assert float(multiscale_mse(a + left, a, half)) == 0


def test_face_weights() -> None:
    weights = face_weights(256, 4.0)
    assert weights.shape == (1, 1, 256, 256)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[0, 0, 148, 128] / weights[0, 0, 2, 2]) == pytest.approx(5, rel=0.01)
    assert torch.equal(face_weights(64, 0.0), torch.ones(1, 1, 64, 64))


@pytest.mark.assets
def test_psnr_has_a_peak_of_two() -> None:
    target = torch.zeros(1, 3, 64, 64)
    metrics = reconstruction_metrics(target, target + 0.02)
    assert metrics["psnr"] == pytest.approx(10 * math.log10(2**2 / 0.02**2))  # 40 dB
    # The same two pictures in 8 bits, whose peak is 255.
    noise = 0.4 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.2
    first, second = (np.asarray(to_images(images)[0], np.float64) for images in (target, target + noise))
    in_bytes = 10 * math.log10(255**2 / np.mean((first - second) ** 2))
    assert reconstruction_metrics(target, target + noise)["psnr"] == pytest.approx(in_bytes, abs=0.1)


@pytest.mark.assets
def test_values_outside_the_range_are_clipped_as_in_a_picture() -> None:
    white = torch.ones(1, 3, 64, 64)
    metrics = reconstruction_metrics(white, white * 1.5)
    assert metrics["psnr"] == pytest.approx(10 * math.log10(4 / 1e-10))
    assert metrics["lpips_alex"] == 0
    assert metrics["lpips_vgg"] == 0


@pytest.mark.assets
def test_identity_needs_two_faces(astronaut: Tensor) -> None:
    plain = torch.zeros(1, 3, 128, 128)
    assert identity_distance(plain, plain) is None
    assert identity_distance(astronaut, plain) is None
    assert identity_distance(plain, astronaut) is None
    assert "identity" not in reconstruction_metrics(plain, plain)


@pytest.mark.assets
def test_identity_of_one_person(astronaut: Tensor) -> None:
    portrait = astronaut[..., :256, 96:352]
    distance = identity_distance(portrait, (portrait + 0.1).clamp(-1, 1))
    assert distance is not None
    assert 0 < distance < 0.4
    assert reconstruction_metrics(portrait, portrait)["identity"] == 0


# The latent that is kept beside a photo


@pytest.mark.assets
def test_kept_latent_is_taken_only_if_inverting_would_make_it_again(
    tmp_path: Path, tiny_generator: MobileStyleGAN, own_face: Image.Image
) -> None:
    photo, path = tmp_path / "me.png", tmp_path / "me.latent.safetensors"
    own_face.save(photo)
    assert latent_path(photo) == path

    def kept(**arguments: Any) -> Latent | None:
        return kept_latent(path, photo, tiny_generator, **({"aligned": True} | arguments))

    assert kept() is None
    latent = invert_photo(photo, tiny_generator, Recipe("optimize", SHORT), aligned=True)
    assert latent.photo_sha256 == sha256_of(photo)
    latent.save(path)
    for same in ({}, {"face": 1}, {"recipe": Recipe("optimize", SHORT)}):
        found = kept(**same)
        assert found is not None
        assert torch.equal(found.ws, latent.ws)
    others = (
        Recipe("optimize", dataclasses.replace(SHORT, seed=1)),
        Recipe("optimize"),
        Recipe("optimize", SHORT, time_limit=60.0),
        Recipe("optimize+tune", SHORT),
        Recipe(),
    )
    for different in ({"face": 2}, {"aligned": False}, *({"recipe": recipe} for recipe in others)):
        assert kept(**different) is None
    own_face.rotate(1).save(photo)
    assert kept() is None


def test_kept_latent_of_a_missing_photo(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    with pytest.raises(UnreadableImage, match="does not exist"):
        kept_latent(tmp_path / "me.latent.safetensors", tmp_path / "me.png", tiny_generator)


@pytest.mark.parametrize("content", [b"", b"notes"])
def test_odd_file_beside_a_photo_is_ignored(tmp_path: Path, tiny_generator: MobileStyleGAN, content: bytes) -> None:
    photo, path = tmp_path / "me.png", tmp_path / "me.latent.safetensors"
    Image.new("RGB", (8, 8)).save(photo)
    path.write_bytes(content)
    assert kept_latent(path, photo, tiny_generator) is None

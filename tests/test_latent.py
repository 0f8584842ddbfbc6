"""Latent files: what goes in comes out, and codes of another generator are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_tiny_generator
from safetensors.torch import save_file

from facelatent import Latent
from facelatent.boundaries import Boundary
from facelatent.errors import FacelatentError, IncompatibleLatent, InvalidFile
from facelatent.files import save_tensors
from facelatent.stylegan_ops import MobileStyleGAN

QUAD = [[1.5, 2.0], [1.5, 40.25], [39.75, 40.25], [39.75, 2.0]]


def a_latent(generator: MobileStyleGAN) -> Latent:
    ws = torch.randn(2, generator.num_ws, 512, generator=torch.Generator().manual_seed(1))
    return Latent(
        ws,
        generator.name,
        generator.fingerprint,
        method={"method": "optimize", "steps": 12, "rate": 0.1, "face": None, "aligned": True, "note": 'café "x"\n'},
        quad=QUAD,
        photo_sha256="ab" * 32,
        metrics={"psnr": 24.125, "lpips_alex": 0.1},
    )


def test_round_trip(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    latent = a_latent(tiny_generator)
    path = tmp_path / "me.latent.safetensors"
    latent.save(path)
    read = Latent.load(path)
    assert torch.equal(read.ws, latent.ws)
    assert dataclasses.replace(read, ws=latent.ws) == latent
    assert [file.name for file in tmp_path.iterdir()] == ["me.latent.safetensors"]


def test_little_is_needed(tmp_path: Path) -> None:
    Latent(torch.zeros(1, 8, 512), "g", "f").save(tmp_path / "a.safetensors")
    read = Latent.load(str(tmp_path / "a.safetensors"))
    assert (read.method, read.quad, read.photo_sha256, read.metrics) == ({}, None, None, {})


def test_views_with_gradients_are_saved_as_plain_codes(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    w = torch.randn(1, 512, requires_grad=True)
    Latent(tiny_generator.broadcast(w), "g", "f").save(tmp_path / "a.safetensors")
    ws = Latent.load(tmp_path / "a.safetensors").ws
    assert ws.shape == (1, 8, 512)
    assert not ws.requires_grad
    assert torch.equal(ws[:, 3], w.detach())


def test_saved_twice_gives_equal_bytes(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    for name in "abcdef":
        a_latent(tiny_generator).save(tmp_path / name)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_with_ws_keeps_the_rest(tiny_generator: MobileStyleGAN) -> None:
    latent = a_latent(tiny_generator)
    other = latent.with_ws(latent.ws + 1)
    assert torch.equal(other.ws, latent.ws + 1)
    assert dataclasses.replace(other, ws=latent.ws) == latent


# Files that are no latents


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"me\.latent\.safetensors does not exist"):
        Latent.load(tmp_path / "me.latent.safetensors")


def test_boundary_is_not_a_latent(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    Boundary("smile", torch.ones(512), 0.0, 1.0).save(path)
    with pytest.raises(InvalidFile, match="not a latent"):
        Latent.load(path)


def test_generator_is_not_a_latent(tiny_generator_file: Path) -> None:
    with pytest.raises(InvalidFile, match="not a latent"):
        Latent.load(tiny_generator_file)


def test_other_peoples_safetensors(tmp_path: Path) -> None:
    save_file({"ws": torch.zeros(1, 18, 512)}, tmp_path / "a.safetensors")
    with pytest.raises(InvalidFile, match="not a latent"):
        Latent.load(tmp_path / "a.safetensors")
    save_file({"ws": torch.zeros(1, 18, 512)}, tmp_path / "b.safetensors", {"kind": "latent"})  # no JSON
    with pytest.raises(InvalidFile):
        Latent.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"PK\3\4" + b"x" * 50])
def test_not_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.latent.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidFile, match=re.escape(str(path))):
        Latent.load(path)


@pytest.mark.parametrize("shape", [(8, 512), (512,), (1, 1, 8, 512)])
def test_wrong_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_tensors(tmp_path / "a", {"ws": torch.zeros(shape)}, {"kind": "latent", "format": 1})
    with pytest.raises(InvalidFile, match="not a latent"):
        Latent.load(tmp_path / "a")


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_other_format(tmp_path: Path, version: object) -> None:
    metadata = {"kind": "latent", "format": version, "generator": "g", "fingerprint": "f"}
    save_tensors(tmp_path / "a", {"ws": torch.zeros(1, 8, 512)}, metadata)
    with pytest.raises(InvalidFile, match=rf"has latent format {version!r}; this facelatent reads 1 and 2: upgrade"):
        Latent.load(tmp_path / "a")


@pytest.mark.parametrize("change", [{"generator": ...}, {"fingerprint": ...}, {"mood": "good"}])
def test_metadata_missing_or_unknown(tmp_path: Path, change: dict[str, object]) -> None:
    metadata = {"kind": "latent", "format": 1, "generator": "g", "fingerprint": "f"} | change
    metadata = {key: value for key, value in metadata.items() if value is not ...}
    save_tensors(tmp_path / "a", {"ws": torch.zeros(1, 8, 512)}, metadata)
    with pytest.raises(InvalidFile):
        Latent.load(tmp_path / "a")


def test_metadata_is_readable_by_anyone(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    path = tmp_path / "a"
    a_latent(tiny_generator).save(path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert header["ws"]["shape"] == [2, 8, 512]
    assert json.loads(header["__metadata__"]["generator"]) == "tiny-0"
    assert json.loads(header["__metadata__"]["quad"]) == QUAD


# Whose latent


def test_own_generator_is_accepted(tiny_generator: MobileStyleGAN) -> None:
    a_latent(tiny_generator).check(tiny_generator)


def test_another_generator_is_refused_with_both_names(tiny_generator: MobileStyleGAN) -> None:
    other = make_tiny_generator(seed=1)
    with pytest.raises(IncompatibleLatent) as caught:
        a_latent(tiny_generator).check(other)
    message = str(caught.value)
    assert isinstance(caught.value, FacelatentError)
    for word in ("tiny-0", "tiny-1", tiny_generator.fingerprint, other.fingerprint):
        assert word in message
    assert "\n" not in message


def test_same_name_but_other_weights_is_refused(tiny_generator: MobileStyleGAN) -> None:
    other = make_tiny_generator(seed=1)
    other.name = tiny_generator.name
    with pytest.raises(IncompatibleLatent):
        a_latent(tiny_generator).check(other)


def test_wrong_number_of_layers_is_refused(tiny_generator: MobileStyleGAN) -> None:
    latent = a_latent(tiny_generator)
    with pytest.raises(IncompatibleLatent):
        latent.with_ws(latent.ws[:, :6]).check(tiny_generator)


def test_file_still_draws_the_same_picture(tmp_path: Path, tiny_generator: MobileStyleGAN) -> None:
    with torch.no_grad():
        ws = tiny_generator.broadcast(tiny_generator.sample_w(3, 0.7))
        Latent(ws, tiny_generator.name, tiny_generator.fingerprint).save(tmp_path / "a")
        images = [tiny_generator.synthesis(codes).numpy() for codes in (ws, Latent.load(tmp_path / "a").ws)]
    assert np.allclose(*images, atol=1e-6)

"""The encoder that comes with the default generator, with everybody's real weights."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
from torch import Tensor

from facelatent.editing import draw
from facelatent.inversion import Recipe, invert, load_encoder, lpips
from facelatent.inversion.encoders import CompactEncoder, shipped_encoder
from facelatent.inversion.methods import default_encoder
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator

pytestmark = pytest.mark.assets

#: Seeds that no training drew.
SEEDS = (2_000_100, 2_000_101, 2_000_102, 2_000_103)


@pytest.fixture(autouse=True)
def weights(request: pytest.FixtureRequest) -> None:
    for name in ("lpips-vgg", "lpips-alex", "face-landmarks-68", "face-identity"):
        request.getfixturevalue("asset")(name)


@pytest.fixture(scope="module")
def encoder(mobile: Generator) -> CompactEncoder:
    found = default_encoder(mobile)
    assert isinstance(found, CompactEncoder)
    return found


@pytest.fixture(scope="module")
def faces(mobile: Generator) -> Tensor:
    with torch.no_grad():
        ws = [mobile.broadcast(mobile.sample_w(seed, 0.8)).contiguous() for seed in SEEDS]
        images = torch.cat([mobile.synthesis(one, resolution=256) for one in ws])
    return images.clamp(-1, 1)


def test_file_is_small_and_ours() -> None:
    path = Path(str(resources.files("facelatent.inversion.encoders"))) / "library"
    file = path / f"{DEFAULT_GENERATOR}.encoder.safetensors"
    assert file.stat().st_size < 30e6
    encoder = load_encoder(file, "cpu")
    assert isinstance(encoder, CompactEncoder)
    assert encoder.home.name == DEFAULT_GENERATOR
    assert all(value.isfinite().all() for value in encoder.state_dict().values())


def test_faces_are_found_again(mobile: Generator, encoder: CompactEncoder, faces: Tensor) -> None:
    with torch.no_grad():
        mapped = mobile.synthesis(encoder.encode(faces), resolution=256).clamp(-1, 1)
        looked = mobile.synthesis(encoder.encode_for(faces, mobile), resolution=256).clamp(-1, 1)
        mean = mobile.synthesis(mobile.broadcast(mobile.w_avg[None]), resolution=256).clamp(-1, 1)
    distances = [float(lpips(faces, one.expand_as(faces)).mean()) for one in (looked, mapped, mean)]
    assert distances[0] < 0.14
    assert distances[0] < distances[1] < distances[2]


def test_it_is_the_default(mobile: Generator, encoder: CompactEncoder) -> None:
    assert shipped_encoder(DEFAULT_GENERATOR) is encoder
    assert Recipe().method_for(mobile) == "encoder+optimize+tune"


def test_invert_by_the_encoder_alone(mobile: Generator, encoder: CompactEncoder) -> None:
    with torch.no_grad():
        crop = draw(mobile, mobile.broadcast(mobile.sample_w(SEEDS[0], 0.8)))[0]
    latent = invert(crop, mobile, "encoder", aligned=True)
    assert latent.method["encoder"] == encoder.name
    assert latent.delta is None
    assert latent.metrics["lpips_alex"] < 0.2

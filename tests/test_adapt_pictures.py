"""References, their parts, the pool, and what is measured in pictures."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from adapt_fixtures import painting
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from facelatent.domain_adapt import pictures, prepare_reference
from facelatent.domain_adapt import pool as pool_module
from facelatent.domain_adapt.parts import PARTS, portrait_parts
from facelatent.domain_adapt.pool import source_pool
from facelatent.domain_adapt.reference import MIN_SIDE, cleaned
from facelatent.domain_adapt.vgg_terms import _detail
from facelatent.errors import FacelatentError
from facelatent.images import to_images
from facelatent.stylegan_ops import MobileStyleGAN


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_a_lattice_is_seen_where_it_is_and_texture_is_not() -> None:
    texture = 0.2 * noise(1, 1, 128, 128)
    lattice = torch.zeros(1, 1, 128, 128)
    lattice[..., :64, ::4] = 0.1
    plain, woven = (pictures.phase_pattern(one).abs().mean((1, 4, 5))[0] for one in (texture, texture + lattice))
    assert float(woven[0].min()) > 2 * float(plain.max())
    assert float(woven[1].max()) < 1.2 * float(plain.max())


def test_haar_details_of_flat_and_of_stripes() -> None:
    assert not pictures.haar_details(torch.full((1, 1, 8, 8), 0.3)).any()
    stripes = torch.tensor([1.0, -1.0]).repeat(8, 4)[None, None]
    assert pictures.haar_details(stripes).abs().mean((0, 2, 3, 4)).tolist() == [0, 1, 0]


def test_colour_quantiles_do_not_depend_on_order_or_number() -> None:
    colours = noise(3, 500)
    weights = torch.ones(500)
    found = pictures.colour_quantiles(colours, weights)
    turned = pictures.colour_quantiles(colours.flip(1).repeat(1, 2), weights.repeat(2))
    assert (found - turned).abs().max() < 0.02
    assert (pictures.colour_quantiles(colours + 0.5, weights) - found).abs().mean() > 0.2


def test_colour_quantiles_leave_out_what_weighs_nothing() -> None:
    colours = torch.cat([torch.zeros(3, 100), torch.ones(3, 300)], 1)
    weights = torch.cat([torch.ones(100), torch.zeros(300)])
    assert not pictures.colour_quantiles(colours, weights).any()


def test_luminance_is_that_of_yuv() -> None:
    images = noise(2, 3, 8, 8)
    assert torch.allclose(pictures.luminance(images)[:, 0], pictures.yuv(images)[:, 0], atol=1e-6)


def test_cleaning_takes_cracks_and_keeps_edges() -> None:
    pixels = np.full((64, 64, 3), 200, np.uint8)
    pixels[:, 32:] = 60
    cracked = pixels.copy()
    cracked[20, :] = 255 - cracked[20, :] // 2
    found = np.asarray(cleaned(Image.fromarray(cracked)), int)
    assert abs(found[20, 5:28] - 200).max() <= 3
    assert abs(found[:, 30].mean() - 200) < 4 and abs(found[:, 33].mean() - 60) < 4


def test_a_reference_without_a_face_is_its_middle_and_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facelatent.inversion.alignment.find_faces", lambda image: [])
    wide = painting((300, 100))
    with caplog.at_level(logging.WARNING):
        reference = prepare_reference(wide, "wide.png", clean=False)
    assert "no face found in wide.png" in caplog.text
    assert "its middle is used" in caplog.text
    assert not reference.aligned
    middle = wide.crop((100, 0, 200, 100)).resize((256, 256), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(to_images(reference.image)[0]), np.asarray(middle))


def test_alpha_is_laid_on_white(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facelatent.inversion.alignment.find_faces", lambda image: [])
    clear = Image.new("RGBA", (80, 80), (10, 20, 30, 0))
    assert float(prepare_reference(clear).image.min()) == 1


def test_tiny_references_are_refused() -> None:
    with pytest.raises(FacelatentError, match=f"tiny.png has 63 x 200 pixels.*at least {MIN_SIDE}"):
        prepare_reference(painting((63, 200)), "tiny.png")


def portrait() -> tuple[np.ndarray, np.ndarray]:
    """A drawn head: ochre face, dark hair, blue ground, with landmarks roughly where they would be."""
    side = 256
    y, x = np.mgrid[:side, :side]
    pixels = np.full((side, side, 3), (70, 100, 160), np.uint8)
    hair = ((x - 128) / 78) ** 2 + ((y - 118) / 96) ** 2 <= 1
    face = ((x - 128) / 56) ** 2 + ((y - 146) / 76) ** 2 <= 1
    pixels[hair | ((abs(x - 128) < 78) & (y > 118))] = (50, 30, 20)
    pixels[face] = (220, 170, 130)
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([128 + 56 * np.cos(angle), 146 + 76 * np.sin(angle)], 1)
    brows = np.stack([np.linspace(84, 172, 10), np.full(10, 112.0)], 1)
    nose = np.stack([np.full(9, 128.0), np.linspace(120, 160, 9)], 1)
    eyes = [np.stack([c + 12 * np.cos(a), 124 + 5 * np.sin(a)], 1) for c in (104, 152) for a in [np.linspace(0, 5, 6)]]
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    mouth = np.stack([128 + 24 * np.cos(turn), 184 + 9 * np.sin(turn)], 1)
    return pixels, np.concatenate([jaw, brows, nose, *eyes, mouth])


def test_parts_of_a_portrait() -> None:
    pixels, landmarks = portrait()
    parts = portrait_parts(pixels, landmarks)
    assert parts.shape == (4, 64, 64)
    assert torch.allclose(parts.sum(0), torch.ones(64, 64), atol=1e-5)

    def at(x: int, y: int) -> str:
        return PARTS[int(parts[:, y // 4, x // 4].argmax())]

    assert at(128, 100) == at(90, 150) == "skin"
    assert at(128, 30) == at(60, 120) == "hair"
    assert at(58, 180) == "hair"
    assert at(8, 40) == at(248, 100) == "ground"
    assert at(104, 124) == at(128, 184) == "features"


def test_parts_without_landmarks_are_face_and_ground() -> None:
    parts = portrait_parts(np.zeros((256, 256, 3), np.uint8), None)
    assert parts[0, 37, 32] > 0.9 and parts[2, 3, 3] > 0.9
    assert not parts[1].any() and not parts[3].any()


def test_the_pool_is_what_the_seeds_say_and_is_kept(
    tiny_generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = source_pool(tiny_generator, 3, 0.85, 5)
    assert torch.equal(pool.ws[1, 0], tiny_generator.sample_w(6, 0.85)[0])
    with torch.no_grad():
        drawn = tiny_generator.synthesis(pool.ws)
    assert (pool.images.float() / 127.5 - 1 - drawn.clamp(-1, 1)).abs().max() < 0.005
    monkeypatch.setattr(pool_module, "_drawn", lambda *arguments: pytest.fail("it was drawn again"))
    assert torch.equal(source_pool(tiny_generator, 3, 0.85, 5).images, pool.images)


@pytest.mark.assets
def test_a_real_portrait_is_aligned_and_taken_apart(astronaut: Tensor) -> None:
    reference = prepare_reference(to_images(astronaut)[0])
    assert reference.aligned
    assert reference.image.shape == (1, 3, 256, 256)
    shares = reference.parts.mean((1, 2))
    assert 0.15 < float(shares[0]) < 0.6
    assert float(shares[1]) > 0.03
    small = F.interpolate(reference.image, 64, mode="area")[0]
    skin, hair = ((small.mean(0) * mask).sum() / mask.sum() for mask in reference.parts[:2])
    assert float(skin) > float(hair) + 0.3


def test_detail_may_fade_but_neither_go_nor_be_made_up() -> None:
    source = torch.cat([noise(1, 3, 64, 32) * 0.4, noise(1, 3, 64, 32) * 0.02], 3)
    spot = torch.zeros_like(source)
    spot[..., 8:12, 8:12] = 10 * noise(1, 3, 4, 4)
    weave = torch.zeros_like(source)
    weave[..., 32:] = 0.03 * torch.tensor([1.0, -1.0]).repeat(32)[:, None] * torch.tensor([1.0, -1.0]).repeat(16)
    cost = {
        name: float(_detail(image, source))
        for name, image in {"same": source, "faint": 0.8 * source, "gone": 0 * source}.items()
    }
    assert cost["same"] < 1e-3 and cost["faint"] < 1e-3
    assert cost["gone"] == pytest.approx(0.7, abs=0.02)
    assert float(_detail(0 * source + spot, source)) > 0.9 * cost["gone"]
    assert float(_detail(source + weave, source)) > 0.02

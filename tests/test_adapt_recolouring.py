"""Colours moved by a generator's weights."""

from __future__ import annotations

import pytest
import torch
from adapt_fixtures import small_stylegan2

from facelatent.domain_adapt.recolouring import colour_map, recoloured
from facelatent.stylegan_ops import Generator, MobileStyleGAN

MATRIX = torch.tensor([[0.9, 0.2, -0.1], [0.1, 0.7, 0.1], [0.0, -0.2, 1.1]])
OFFSET = torch.tensor([0.2, -0.1, 0.05])


def colours(count: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    mixed = torch.randn(count, 3, generator=random) @ torch.randn(3, 3, generator=random)
    return 0.2 * mixed + torch.rand(3, generator=random)


def test_the_map_gives_mean_and_covariance() -> None:
    source, wanted = colours(4000, 1), colours(3000, 2)
    matrix, offset = colour_map(source, wanted)
    moved = source @ matrix.T + offset
    assert torch.allclose(moved.mean(0), wanted.mean(0), atol=1e-5)
    assert torch.allclose(moved.T.cov(), wanted.T.cov(), atol=2e-3)  # the floor of variances
    assert torch.allclose(matrix, matrix.T, atol=1e-5)  # the map of least movement is symmetric


def test_shares_of_the_map() -> None:
    source, wanted = colours(4000, 1), colours(3000, 2)
    (matrix, offset), (half, part) = (colour_map(source, wanted, share) for share in (1.0, 0.5))
    assert torch.allclose(source @ half.T + part, torch.lerp(source, source @ matrix.T + offset, 0.5), atol=1e-5)
    nowhere = colour_map(source, wanted, 0.0)
    assert torch.equal(nowhere[0], torch.eye(3)) and not nowhere[1].any()


def test_grey_pictures_have_a_map() -> None:
    grey = torch.linspace(-1, 1, 50)[:, None].repeat(1, 3)
    for source, wanted in ((grey, colours(100, 1)), (colours(100, 1), grey), (grey * 0, grey)):
        matrix, offset = colour_map(source, wanted)
        assert bool(matrix.isfinite().all()) and bool(offset.isfinite().all())
        assert torch.allclose((source @ matrix.T + offset).mean(0), wanted.mean(0), atol=1e-5)


@pytest.mark.parametrize("kind", ["mobile", "stylegan2"])
def test_weights_draw_mapped_colours(kind: str, tiny_generator: MobileStyleGAN) -> None:
    generator: Generator = tiny_generator if kind == "mobile" else small_stylegan2()
    before = {name: weight.detach().clone() for name, weight in generator.named_parameters()}
    with torch.no_grad():
        ws = generator.broadcast(generator.sample_w(3, 0.8))
        wanted = torch.einsum("oc,nchw->nohw", MATRIX, generator.synthesis(ws)) + OFFSET[:, None, None]
        weights = recoloured(generator, MATRIX, OFFSET)
        assert all(torch.equal(before[name], weight) for name, weight in generator.named_parameters())
        named = dict(generator.named_parameters())
        for name, weight in weights.items():
            named[name].copy_(weight)
        found = generator.synthesis(ws)
        for name in weights:
            named[name].copy_(before[name])
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()

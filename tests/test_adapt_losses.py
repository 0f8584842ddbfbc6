"""DIFA's losses against the published code's numbers, and what they must do at the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from goldens.fill import normal
from torch import Tensor
from torch.nn import functional as F

from facelatent.domain_adapt.losses import ConsistencyLoss, directional_loss, local_style_loss


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, np.ndarray]:
    return dict(np.load(goldens / "difa_losses.npz"))


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(normal("s" + name, shape))


def unit(values: Tensor) -> Tensor:
    return F.normalize(values, dim=-1)


def test_direction_is_the_published_one(golden: dict[str, np.ndarray]) -> None:
    direction = unit(drawn("tar", (1, 512))) - 0.8 * unit(drawn("mean", (512,)))
    loss = directional_loss(unit(drawn("a", (2, 512))), unit(drawn("b", (2, 512))), direction)
    assert float(loss) == pytest.approx(float(golden["global_"]), abs=1e-5)


def test_style_is_the_published_one(golden: dict[str, np.ndarray]) -> None:
    loss = local_style_loss(drawn("tok", (2, 49, 64)), drawn("sty", (1, 30, 64)))
    assert float(loss) == pytest.approx(float(golden["local"]), abs=1e-5)


def test_consistency_is_the_published_one(golden: dict[str, np.ndarray]) -> None:
    steps, width = int(golden["iters"]), int(golden["layers"]) * 512
    loss = ConsistencyLoss(int(golden["window"]), float(golden["alpha"]), steps)
    bias = drawn("bias", (1, width))
    losses, shares = [], []
    for step in range(steps):
        source = drawn(f"src{step}", (2, width))
        adapted = source + 0.3 * drawn(f"d{step}", (2, width)) + bias * min(1.0, step / 10)
        losses.append(float(loss(source, adapted, step)))
        assert loss.mask is not None
        shares.append(float(loss.mask.mean()))
    assert np.abs(np.array(losses) - golden["scc_losses"]).max() <= 1e-5
    assert np.abs(np.array(shares) - golden["mask_mean"]).max() <= 1e-5
    assert max(losses) > 0.05


def test_equal_pictures_have_a_finite_gradient() -> None:
    source = unit(torch.ones(2, 8))
    adapted = source.clone().requires_grad_(True)
    loss = directional_loss(source, adapted, torch.arange(8.0))
    loss.backward()
    assert float(loss.detach()) == 1
    assert adapted.grad is not None
    assert bool(adapted.grad.isfinite().all())
    assert float(adapted.grad.abs().sum()) > 0


def test_moving_along_the_direction_costs_nothing() -> None:
    source, direction = unit(torch.randn(3, 16, generator=torch.Generator().manual_seed(0))), torch.ones(16)
    assert float(directional_loss(source, source + 0.3 * direction, 5 * direction)) == pytest.approx(0, abs=1e-6)
    assert float(directional_loss(source, source - 0.3 * direction, direction)) == pytest.approx(2, abs=1e-6)


def test_style_is_no_nearer_by_using_one_token_only() -> None:
    reference = torch.eye(4)[None]
    assert float(local_style_loss(torch.eye(4)[None], reference)) == pytest.approx(0, abs=1e-6)
    collapsed = torch.eye(4)[:1].repeat(4, 1)[None]
    assert float(local_style_loss(collapsed, reference)) == pytest.approx(0.75, abs=1e-6)


def test_consistency_holds_the_channels_that_differ_least() -> None:
    loss = ConsistencyLoss(1, 0.5, 10)
    source = torch.zeros(2, 2, 4)
    adapted = torch.tensor([0.0, 5, 1, 6, 2, 7, 3, 8]).reshape(1, 2, 4).expand(2, -1, -1)
    assert float(loss(source, adapted, 10)) == pytest.approx((0 + 1 + 2 + 3) / 8)
    assert loss.mask is not None
    assert loss.mask.tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    assert float(loss(source, adapted, 1)) == 0


@pytest.mark.parametrize(("window", "keep"), [(0, 0.5), (3, 1.5), (3, -0.1)])
def test_consistency_refuses_nonsense(window: int, keep: float) -> None:
    with pytest.raises(ValueError, match="window is at least 1"):
        ConsistencyLoss(window, keep, 10)

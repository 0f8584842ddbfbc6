"""upfirdn2d and bias_act against the public operators' values and gradients, and against their definitions.

Every test runs with plain PyTorch and with the CPU's compiled kernels.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens.fill import normal

from facelatent import cuda_kernels
from facelatent.errors import KernelsUnavailable
from facelatent.stylegan_ops import bias_act, setup_filter, upfirdn2d, upsample2d
from facelatent.stylegan_ops.bias_act import ACTIVATIONS

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "ops.json").read_text())
BAR = 1e-5


@pytest.fixture(autouse=True, params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "cpu":
        try:
            cuda_kernels.library("cpu")
        except KernelsUnavailable as error:
            pytest.skip(f"no kernels for the CPU: {error}")
    monkeypatch.setenv("FACELATENT_BACKEND", request.param)


def golden(name: str) -> torch.Tensor:
    with np.load(GOLDENS / "ops.npz") as stored:
        return torch.from_numpy(stored[name]).double()


def drawn(name: str, shape: torch.Size | list[int]) -> torch.Tensor:
    return torch.from_numpy(normal(CASES["seed"] + name, tuple(shape)).astype(np.float64))


def worst(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).detach().abs().max())


@pytest.mark.parametrize("index", range(len(CASES["upfirdn2d"])))
def test_upfirdn2d_matches_the_public_operator(index: int) -> None:
    case = dict(CASES["upfirdn2d"][index])
    x = drawn(f"x{index}", case.pop("x")).requires_grad_()
    f = case.pop("f")
    y = upfirdn2d(x, None if f is None else torch.tensor(f), **case)
    assert worst(y, golden(f"up{index}_y")) <= BAR
    (gx,) = torch.autograd.grad(y, x, drawn(f"g{index}", y.shape))
    assert worst(gx, golden(f"up{index}_gx")) <= BAR


@pytest.mark.parametrize("index", range(len(CASES["bias_act"])))
def test_bias_act_matches_the_public_operator(index: int) -> None:
    case = dict(CASES["bias_act"][index])
    x = drawn(f"bx{index}", case.pop("x")).requires_grad_()
    b = drawn(f"bb{index}", [x.shape[case["dim"]]]).requires_grad_()
    y = bias_act(x, b, **case)
    assert worst(y, golden(f"bias{index}_y")) <= BAR
    gx, gb = torch.autograd.grad(y, (x, b), drawn(f"bg{index}", y.shape), create_graph=True)
    assert worst(gx, golden(f"bias{index}_gx")) <= BAR
    assert worst(gb, golden(f"bias{index}_gb")) <= BAR
    ggx = torch.zeros_like(x)
    if gx.requires_grad:
        (found,) = torch.autograd.grad((gx * drawn(f"bh{index}", x.shape)).sum(), x, allow_unused=True)
        ggx = ggx if found is None else found
    assert worst(ggx, golden(f"bias{index}_ggx")) <= BAR


def test_upsampling_a_constant_image_keeps_it_but_for_the_border() -> None:
    y = upsample2d(torch.ones(1, 1, 8, 8), setup_filter([1, 3, 3, 1]))[0, 0]
    assert torch.allclose(y[1:-1, 1:-1], torch.ones(14, 14))
    assert float(y[0, 5]) == pytest.approx(0.75)
    assert float(y[0, 0]) == pytest.approx(0.5625)


@pytest.mark.parametrize("flip", [False, True])
def test_upfirdn2d_second_gradient(flip: bool) -> None:
    x = torch.randn(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    f = torch.tensor([[0.1, 0.2, 0.3], [0.4, -0.1, 0.7]])

    def op(value: torch.Tensor) -> torch.Tensor:
        return upfirdn2d(value, f, up=(2, 1), down=(1, 2), padding=(1, 2, -1, 3), flip_filter=flip, gain=1.3) ** 2

    assert torch.autograd.gradcheck(op, (x,))
    assert torch.autograd.gradgradcheck(op, (x,))


def test_half_precision_is_filtered_in_float32() -> None:
    x = torch.randn(1, 3, 16, 16).half()
    f = setup_filter([1, 2, 5, 1])
    assert torch.equal(upfirdn2d(x, f, padding=1), upfirdn2d(x.float(), f, padding=1).half())


def test_a_channels_last_image_gives_the_same_values() -> None:
    x = torch.randn(2, 5, 9, 7)
    f = setup_filter([1, 3, 3, 1])
    y = upfirdn2d(x.to(memory_format=torch.channels_last), f, up=2, padding=(2, 1, 2, 1), gain=4)
    assert torch.allclose(y, upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1), gain=4), atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"up": 0}, {"down": 0}, {"padding": -4}],
)
def test_upfirdn2d_refuses_what_makes_no_image(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1|smaller than the filter"):
        upfirdn2d(torch.ones(1, 1, 8, 8), setup_filter([1, 3, 3, 1]), **arguments)


def test_upfirdn2d_refuses_a_picture_without_a_batch() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        upfirdn2d(torch.ones(3, 8, 8), None)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_second_gradient(act: str) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, b: bias_act(x, b, act=act, clamp=5.0) ** 2, (x, b))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"act": "gelu"}, "unknown activation 'gelu'"),
        ({"clamp": -1.0}, "clamp"),
        ({"b": torch.ones(3)}, "does not fit"),
        ({"b": torch.ones(2), "dim": 7}, "does not fit"),
    ],
)
def test_bias_act_names_what_is_wrong(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bias_act(torch.ones(2, 2), **arguments)  # type: ignore[arg-type]

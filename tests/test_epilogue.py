"""The fused epilogue against its plain PyTorch twin: values, gradients, gradients of gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facelatent import cuda_kernels
from facelatent.stylegan_ops.epilogue import GAIN, SLOPE, epilogue, skip_add

pytestmark = pytest.mark.skipif(not cuda_kernels.available("cpu"), reason="no C++ compiler")

NAMES = ("demodulation", "noise", "bias", "style", "rgb_weight")


def example(
    n: int, c: int, h: int, w: int, blur: bool, dtype: torch.dtype = torch.float32, missing: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Arguments of :func:`epilogue` with random tensors; the noise is every sample's own where h is odd."""
    random = torch.Generator().manual_seed(n + 7 * c + 31 * h + 101 * w)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = {
        "demodulation": (n, c),
        "noise": (n if h % 2 else 1, 1, h, w),
        "bias": (c,),
        "style": (n, c),
        "rgb_weight": (n, 3, c),
    }
    tensors = {
        name: None if name in missing else torch.randn(shape, generator=random, dtype=exact)
        for name, shape in shapes.items()
    }
    x = torch.randn(n, c, h + blur, w + blur, generator=random, dtype=exact).to(dtype)
    return {"x": x, "blur": blur, **tensors}


def close(found: Tensor | None, expected: Tensor | None, bar: float = 1e-5) -> None:
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.shape == expected.shape and found.dtype == expected.dtype
        found, expected = found.detach().double(), expected.detach().double()
        assert float((found - expected).abs().max()) <= bar * max(float(expected.abs().max()), 1.0)


def both(bar: float = 1e-5, **arguments: Any) -> None:
    found = epilogue(**arguments, backend="cpu")
    expected = epilogue(**arguments, backend="reference")
    for one, other in zip(found, expected, strict=True):
        close(one, other, bar)


shapes = {"n": st.integers(1, 3), "c": st.integers(1, 40), "h": st.integers(1, 9), "w": st.integers(1, 19)}


@settings(deadline=None, max_examples=60)
@given(**shapes, blur=st.booleans(), clamp=st.sampled_from([None, 0.5]), missing=st.sets(st.sampled_from(NAMES)))
def test_any_shape_equals_the_twin(
    n: int, c: int, h: int, w: int, blur: bool, clamp: float | None, missing: set[str]
) -> None:
    arguments = example(n, c, h, w, blur, missing=tuple(missing))
    both(**arguments, clamp=clamp)
    both(**{**arguments, "x": arguments["x"].contiguous(memory_format=torch.channels_last)}, want_y=False)


@pytest.mark.parametrize("blur", [False, True])
def test_other_dtypes_equal_the_twin(blur: bool) -> None:
    both(1e-12, **example(2, 20, 5, 6, blur, torch.float64))
    both(8e-3, **example(2, 20, 5, 6, blur, torch.bfloat16))


@pytest.mark.parametrize("blur", [False, True])
def test_the_number_of_threads_changes_nothing(blur: bool) -> None:
    arguments = example(2, 16, 9, 8, blur)
    single = epilogue(**arguments, backend="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        several = epilogue(**arguments, backend="cpu")
        gradients(example(2, 16, 9, 8, blur), None)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(single, several, strict=True):
        assert one is not None and other is not None and torch.equal(one, other)


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_nan_stays_nan(blur: bool, clamp: float | None) -> None:
    arguments = example(1, 8, 6, 6, blur)
    arguments["x"][0, 3, 3, 3] = float("nan")
    found, expected = (epilogue(**arguments, clamp=clamp, backend=name) for name in ("cpu", "reference"))
    for one, other in zip(found, expected, strict=True):
        assert one is not None and other is not None
        assert one.isnan().any() and torch.equal(one.isnan(), other.isnan())


def gradients(arguments: dict[str, Any], clamp: float | None, bar: float = 1e-4, want_y: bool = True) -> None:
    tensors = [t for t in arguments.values() if isinstance(t, Tensor)]
    found: list[tuple[Tensor, ...]] = []
    for name in ("cpu", "reference"):
        for t in tensors:
            t.requires_grad_()
        parts = [p for p in epilogue(**arguments, clamp=clamp, want_y=want_y, backend=name) if p is not None]
        loss = sum(((p.double() + i) ** 2).sum() for i, p in enumerate(parts))
        found.append(torch.autograd.grad(loss, tensors, allow_unused=True))
    for one, other in zip(*found, strict=True):
        assert one is not None
        close(one, torch.zeros_like(one) if other is None else other, bar)


@settings(deadline=None, max_examples=40)
@given(**shapes, blur=st.booleans(), clamp=st.sampled_from([None, 0.5]), missing=st.sets(st.sampled_from(NAMES)))
def test_gradients_equal_the_twins(
    n: int, c: int, h: int, w: int, blur: bool, clamp: float | None, missing: set[str]
) -> None:
    gradients(example(n, c, h, w, blur, missing=tuple(missing)), clamp)


def test_gradients_of_the_picture_alone_and_of_other_dtypes() -> None:
    gradients(example(2, 6, 5, 4, True), None, want_y=False)
    gradients(example(2, 6, 5, 4, True, torch.float64), None, 1e-10)
    gradients(example(2, 6, 5, 4, True, torch.bfloat16), None, 2e-2)


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_first_and_second_gradients_are_exact(blur: bool, clamp: float | None) -> None:
    arguments = example(2, 3, 2, 3, blur, torch.float64)
    keys = [key for key, value in arguments.items() if isinstance(value, Tensor)]

    def function(*tensors: Tensor) -> tuple[Tensor | None, ...]:
        return epilogue(**{**arguments, **dict(zip(keys, tensors, strict=True))}, clamp=clamp, backend="cpu")

    inputs = [arguments[key].requires_grad_() for key in keys]
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("missing", [(), NAMES, ("style", "noise")])
def test_the_operator_is_registered_as_torch_asks(missing: tuple[str, ...]) -> None:
    arguments = example(2, 5, 3, 4, True, missing=missing)
    tensors = {key: value.requires_grad_() if isinstance(value, Tensor) else value for key, value in arguments.items()}
    x, blur, demodulation, noise, bias, style, rgb_weight = tensors.values()
    call = (x, blur, demodulation, noise, bias, SLOPE, GAIN, -1.0, style, rgb_weight, True)
    torch.library.opcheck(torch.ops.facelatent.epilogue, (*call, "cpu"))
    torch.library.opcheck(torch.ops.facelatent.epilogue, (*call, "reference"))


@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_skip_add(previous: bool, clamp: float | None) -> None:
    for h, w in ((2, 2), (6, 4), (10, 14)):
        rgb = torch.randn(2, 3, h, w, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
        smaller = torch.randn(2, 3, h // 2, w // 2, dtype=torch.float64, requires_grad=True) if previous else None
        found, expected = (skip_add(rgb, bias, clamp, smaller, backend=name) for name in ("cpu", "reference"))
        close(found, expected, 1e-12)
        single = [None if t is None else t.detach().float() for t in (rgb, bias, smaller)]
        close(skip_add(single[0], single[1], clamp, single[2], backend="cpu"), expected.float(), 1e-6)
    inputs = [t for t in (rgb, bias, smaller) if t is not None]

    def function(rgb: Tensor, bias: Tensor, smaller: Tensor | None = None) -> Tensor:
        return skip_add(rgb, bias, clamp, smaller, backend="cpu")

    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)
    torch.library.opcheck(torch.ops.facelatent.skip_add, (rgb, bias, -1.0 if clamp is None else clamp, smaller, "cpu"))


def test_what_does_not_fit_is_refused() -> None:
    arguments = example(2, 5, 3, 4, True)
    with pytest.raises(ValueError, match=r"style must be torch.float32 \[2, 5\], got torch.float32 \[2, 4\]"):
        epilogue(**{**arguments, "style": torch.ones(2, 4)})
    with pytest.raises(ValueError, match=r"noise must be torch.float32 \[2, 1, 3, 4\]"):
        epilogue(**{**arguments, "noise": torch.ones(1, 1, 4, 5)})
    with pytest.raises(ValueError, match="with pixels"):
        epilogue(torch.ones(1, 2, 1, 5), blur=True)
    with pytest.raises(ValueError, match="half of"):
        skip_add(torch.ones(1, 3, 4, 4), torch.ones(3), None, torch.ones(1, 3, 3, 2))

"""The CPU's compiled upfirdn2d and bias_act against plain PyTorch, and as registered operators."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from facelatent import cuda_kernels
from facelatent.cuda_kernels import arguments
from facelatent.errors import FacelatentError, KernelsUnavailable
from facelatent.stylegan_ops import bias_act, setup_filter, upfirdn2d
from facelatent.stylegan_ops.bias_act import ACTIVATIONS

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
ASYMMETRIC = torch.tensor([[0.1, 0.2, 0.3], [0.4, -0.1, 0.7]])


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    try:
        cuda_kernels.library("cpu")
    except KernelsUnavailable as error:
        pytest.skip(f"no kernels for the CPU: {error}")


def close(found: Tensor, wanted: Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)


@st.composite
def images(draw: st.DrawFn, max_side: int = 20) -> Tensor:
    """[n, c, h, w] of any dtype and layout: dense, channels_last, cropped, every other pixel, transposed."""
    n, c, h, w = draw(st.integers(0, 2)), draw(st.integers(1, 6)), *(draw(st.integers(1, max_side)) for _ in range(2))
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(n, c, 2 * h, 2 * w, generator=random, dtype=torch.float64).to(draw(st.sampled_from([*TOLERANCE])))
    layout = draw(st.sampled_from(["dense", "channels_last", "crop", "crop_channels_last", "strided", "transposed"]))
    if layout.endswith("channels_last"):
        x = x.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        return x[:, :, ::2, ::2]
    x = x[:, :, :h, :w] if layout.startswith("crop") else x[:, :, :h, :w].clone(memory_format=torch.preserve_format)
    return x.transpose(2, 3) if layout == "transposed" else x


@st.composite
def filters(draw: st.DrawFn) -> Tensor | None:
    """None, 1-D, outer products, and filters that are none."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["none", "1d", "stock", "separable", "any"]))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    if kind == "none":
        return None
    if kind == "stock":
        return setup_filter([1, 3, 3, 1])
    a, b = torch.randn(height, generator=random), torch.randn(width, generator=random)
    if kind == "1d":
        return b
    return torch.outer(a, b) if kind == "separable" else torch.randn(height, width, generator=random)


@settings(max_examples=300, deadline=None)
@given(
    x=images(),
    f=filters(),
    up=st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.integers(1, 2),
    down=st.tuples(st.integers(1, 3), st.integers(1, 3)) | st.integers(1, 2),
    padding=st.tuples(*[st.integers(-2, 6)] * 4),
    flip=st.booleans(),
)
def test_upfirdn2d_equals_plain_pytorch(
    x: Tensor, f: Tensor | None, up: Any, down: Any, padding: Any, flip: bool
) -> None:
    how = {"up": up, "down": down, "padding": padding, "flip_filter": flip, "gain": 1.5}
    try:
        wanted = upfirdn2d(x, f, **how, backend="reference")
    except (ValueError, RuntimeError):  # no picture is left, or more is cut off than there is
        assume(False)
    close(upfirdn2d(x, f, **how, backend="cpu"), wanted)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("how", [{"padding": 1}, {"up": 2, "padding": (2, 1, 2, 1)}, {"down": 2, "padding": 1}])
@pytest.mark.parametrize("size", [(33, 5000), (70, 64)])
def test_upfirdn2d_of_pictures_larger_than_a_block(
    how: dict[str, Any], size: tuple[int, int], channels_last: bool
) -> None:
    x = torch.randn(1, 5, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = upfirdn2d(x, setup_filter([1, 3, 2, 1]), **how, gain=4, backend="cpu")
    assert y.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    close(y, upfirdn2d(x, setup_filter([1, 3, 2, 1]), **how, gain=4, backend="reference"))


def test_upfirdn2d_uses_several_threads() -> None:
    x = torch.randn(2, 3, 130, 70)
    torch.set_num_threads(2)
    try:
        y = upfirdn2d(x, setup_filter([1, 3, 3, 1]), padding=1, backend="cpu")
    finally:
        torch.set_num_threads(1)
    close(y, upfirdn2d(x, setup_filter([1, 3, 3, 1]), padding=1, backend="reference"))


def test_a_filter_that_changes_is_read_again() -> None:
    x, f = torch.randn(1, 1, 9, 9), setup_filter([1, 3, 3, 1])
    upfirdn2d(x, f, backend="cpu")
    f.data.mul_(2)
    close(upfirdn2d(x, f, backend="cpu"), upfirdn2d(x, f, backend="reference"))


@pytest.mark.parametrize("f", [None, torch.tensor([0.2, 0.5, -0.1]), ASYMMETRIC, setup_filter([1, 3, 3, 1])])
@pytest.mark.parametrize(
    "how", [{"up": (2, 1), "down": (1, 3), "padding": (1, 2, -1, 3)}, {"padding": 2}, {"up": 2, "padding": 3}]
)
def test_upfirdn2d_gradients(f: Tensor | None, how: dict[str, Any]) -> None:
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)

    def op(value: Tensor) -> Tensor:
        return upfirdn2d(value, f, **how, gain=1.3, backend="cpu") ** 3

    assert torch.autograd.gradcheck(op, (x,))
    assert torch.autograd.gradgradcheck(op, (x,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_upfirdn2d_keeps_what_is_not_finite(value: float) -> None:
    x = torch.randn(1, 1, 8, 8)
    x[0, 0, 3, 4] = value
    for f in (setup_filter([1, 3, 3, 1]), ASYMMETRIC.abs()):
        wanted = upfirdn2d(x, f, up=2, padding=2, backend="reference")
        close(upfirdn2d(x, f, up=2, padding=2, backend="cpu").isfinite().float(), wanted.isfinite().float())


@st.composite
def dense_or_not(draw: st.DrawFn) -> tuple[Tensor, int]:
    """A tensor of any rank and layout, and one of its dimensions."""
    shape = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(shape, generator=random, dtype=torch.float64).mul(3).to(draw(st.sampled_from([*TOLERANCE])))
    x = x.permute(draw(st.permutations(range(x.ndim))))
    if draw(st.booleans()):
        x = x[..., ::2]
    if draw(st.booleans()):
        x = x.expand(2, *x.shape)
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


@settings(max_examples=300, deadline=None)
@given(
    case=dense_or_not(),
    act=st.sampled_from(list(ACTIVATIONS)),
    bias=st.booleans(),
    gain=st.none() | st.floats(-2, 2),
    clamp=st.none() | st.floats(0, 3),
)
def test_bias_act_equals_plain_pytorch(
    case: Any, act: str, bias: bool, gain: float | None, clamp: float | None
) -> None:
    x, dim = case
    b = torch.linspace(-1, 1, x.shape[dim], dtype=x.dtype) if bias else None
    y = bias_act(x, b, dim, act, 0.3, gain, clamp, backend="cpu")
    wanted = bias_act(x.double(), None if b is None else b.double(), dim, act, 0.3, gain, clamp, backend="reference")
    close(y, wanted.to(x.dtype))


def gradients(act: str, clamp: float | None, backend: Any, x: Tensor, b: Tensor) -> list[Tensor]:
    """First gradients by x and b, then second ones."""
    x, b = x.detach().requires_grad_(), b.detach().requires_grad_()
    y = bias_act(x, b, act=act, alpha=0.3, gain=1.7, clamp=clamp, backend=backend)
    first = torch.autograd.grad((y * torch.linspace(-1, 1, x.numel()).view_as(x)).sum(), (x, b), create_graph=True)
    sums = sum((g * g).sum() for g in first)
    second = torch.autograd.grad(sums, (x, b), allow_unused=True) if sums.requires_grad else (None, None)
    return [*first, *(torch.zeros_like(t) if g is None else g for g, t in zip(second, (x, b), strict=True))]


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("clamp", [None, 0.9])
@pytest.mark.parametrize("channels_last", [False, True])
def test_bias_act_gradients_equal_plain_pytorch(act: str, clamp: float | None, channels_last: bool) -> None:
    x, b = torch.randn(2, 5, 6, 3).double() * 3, torch.randn(5).double()
    x[0, :, 0, 0] = -b  # where slopes jump
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    compared = zip(gradients(act, clamp, "cpu", x, b), gradients(act, clamp, "reference", x, b), strict=True)
    for found, wanted in compared:
        close(found, wanted)


@pytest.mark.parametrize("act", ["linear", "relu", "lrelu"])
def test_the_gradient_at_the_limits_is_that_of_torch_clamp(act: str) -> None:
    x = torch.tensor([[-2.0, -1.0, -0.0, 0.0, 1.0, 2.0, float("nan"), float("inf"), -float("inf")]])
    found = []
    for backend in ("cpu", "reference"):
        leaf = x.clone().requires_grad_()
        y = bias_act(leaf, act=act, alpha=0.5, gain=1.0, clamp=1.0, backend=backend)  # type: ignore[arg-type]
        y.backward(torch.ones_like(y))
        found.append(torch.stack([y.detach(), leaf.grad]))  # type: ignore[list-item]
    torch.testing.assert_close(found[0], found[1], equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("clamp", [None, 5.0])
def test_extreme_values(act: str, clamp: float | None) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e4, -1e4, 100.0, -100.0, 21.0, -21.0, 0.0])
    y = bias_act(x, dim=0, act=act, clamp=clamp, backend="cpu")
    close(y, bias_act(x, dim=0, act=act, clamp=clamp, backend="reference"))


@pytest.mark.parametrize("act", ["tanh", "swish", "softplus", "selu"])
def test_bias_act_third_gradient(act: str) -> None:
    x = torch.linspace(-2, 2, 8).double().requires_grad_()

    def second(value: Tensor) -> Tensor:
        y = bias_act(value, dim=0, act=act, backend="cpu")
        (first,) = torch.autograd.grad((y**2).sum(), value, create_graph=True)
        return torch.autograd.grad((first**2).sum(), value, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, (x,))


def test_bias_act_gradgradcheck_through_the_kernels() -> None:
    x, b = torch.randn(3, 4).double().requires_grad_(), torch.randn(4).double().requires_grad_()
    for act in ("tanh", "sigmoid", "elu", "softplus", "swish"):
        assert torch.autograd.gradgradcheck(lambda x, b, act=act: bias_act(x, b, act=act, backend="cpu") ** 2, (x, b))


def test_nothing_is_saved_where_nothing_is_differentiated() -> None:
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    with torch.no_grad():
        assert upfirdn2d(x, None, up=2, backend="cpu").grad_fn is None
        assert bias_act(x, act="lrelu", backend="cpu").grad_fn is None
    assert bias_act(x.detach(), act="lrelu", backend="cpu").grad_fn is None


OPERATORS = {
    "upfirdn2d": (ASYMMETRIC, 2, 1, 1, 2, 1, -1, 12, 5, True, 1.5, ""),
    "bias_act": (torch.randn(3), 1, "swish", 0.0, 1.5, 0.5, ""),
    "bias_act_grad": (torch.randn(2, 3, 6, 5), None, 1, "tanh", 0.0, 1.5, -1.0, ""),
    "bias_act_grad2": (torch.randn(2, 3, 6, 5), torch.randn(2, 3, 6, 5), None, 1, "tanh", 0.0, 1.5, -1.0, ""),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_operators_are_registered_soundly(name: str, channels_last: bool) -> None:
    x = torch.randn(2, 3, 6, 5)
    x = (x.contiguous(memory_format=torch.channels_last) if channels_last else x).requires_grad_()
    torch.library.opcheck(getattr(torch.ops.facelatent, name).default, (x, *OPERATORS[name]))


def test_compiled_code_runs_the_kernels() -> None:
    f = setup_filter([1, 3, 3, 1])

    def layer(x: Tensor, b: Tensor) -> Tensor:
        return bias_act(upfirdn2d(x, f, up=2, padding=(2, 1, 2, 1), gain=4), b, act="lrelu", clamp=2.0)

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x, b = torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(3, requires_grad=True)
    close(compiled(x, b), layer(x, b))
    for found, wanted in zip(
        *(torch.autograd.grad(call(x, b).sum(), (x, b)) for call in (compiled, layer)), strict=True
    ):
        close(found, wanted)


def test_forward_mode_is_refused_rather_than_wrong() -> None:
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4))
        with pytest.raises(FacelatentError, match="reference"):
            upfirdn2d(x, None, backend="cpu")


@pytest.mark.parametrize("backend", ["cuda", "cpu"])
def test_a_backend_of_another_device_is_refused(backend: Any) -> None:
    x = torch.randn(1, 1, 4, 4, device="meta" if backend == "cpu" else "cpu")
    with pytest.raises(KernelsUnavailable, match="does not run on"):
        upfirdn2d(x, None, backend=backend)
    with pytest.raises(KernelsUnavailable, match="does not run on"):
        bias_act(x, act="relu", backend=backend)


@pytest.mark.parametrize("struct", [arguments.Upfirdn2dArguments, arguments.BiasActArguments])
def test_structs_of_another_version_are_refused(struct: Any) -> None:
    name = {"Upfirdn2dArguments": "upfirdn2d", "BiasActArguments": "bias_act"}[struct.__name__]
    call = arguments.stamped(struct())
    call.abi += 1
    with pytest.raises(FacelatentError, match="another version"):
        arguments.launch("cpu", name, call)
    call = arguments.stamped(struct())
    call.bytes -= 8
    with pytest.raises(FacelatentError, match="another version"):
        arguments.launch("cpu", name, call)
    call = arguments.stamped(struct())
    call.dtype = 9
    with pytest.raises(FacelatentError, match="dtype"):
        arguments.launch("cpu", name, call)
    assert ctypes.sizeof(struct) % 8 == 0

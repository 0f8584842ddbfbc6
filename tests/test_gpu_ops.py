"""The CUDA kernels against plain PyTorch on a GPU: dtypes, layouts, odd sizes, streams, devices, huge tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from facelatent import cuda_kernels
from facelatent.stylegan_ops import bias_act, setup_filter, upfirdn2d
from facelatent.stylegan_ops.bias_act import ACTIVATIONS

pytestmark = pytest.mark.gpu

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
STOCK = setup_filter([1, 3, 3, 1])
ASYMMETRIC = torch.outer(torch.tensor([0.1, 0.5, -0.3, 0.8]), torch.tensor([0.7, -0.2, 0.4, 0.3]))
GENERIC = torch.arange(1, 16).float().reshape(3, 5) / 15


@pytest.fixture(scope="module", autouse=True)
def kernels() -> None:
    cuda_kernels.library("cuda")


def close(found: Tensor, wanted: Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=tolerance, atol=tolerance, equal_nan=True)


def image(layout: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    n, c, h, w = shape
    x = torch.randn(n, c, 2 * h, 2 * w, device="cuda", dtype=torch.float64).to(dtype)
    if layout == "strided":
        return x[:, :, ::2, ::2]
    if layout.endswith("channels_last"):
        x = x.contiguous(memory_format=torch.channels_last)
    x = x[:, :, 1 : h + 1, 1 : w + 1]
    return x if layout.startswith("crop") else x.clone(memory_format=torch.preserve_format)


LAYOUTS = ["dense", "channels_last", "crop", "crop_channels_last", "strided"]
RESAMPLINGS: list[dict[str, Any]] = [
    {"padding": 1},
    {"padding": 2},
    {"up": 2, "padding": (2, 1, 2, 1)},
    {"up": 2, "padding": (3, -1, 1, 2)},
    {"down": 2, "padding": 1},
    {"down": 2, "padding": (-1, 3, 2, 0)},
    {"up": (2, 1), "down": (1, 3), "padding": 4},
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", RESAMPLINGS)
def test_upfirdn2d(dtype: torch.dtype, layout: str, how: dict[str, Any]) -> None:
    for shape in ((1, 3, 5, 7), (2, 40, 33, 65), (1, 8, 129, 130)):
        x = image(layout, shape, dtype)
        for f in (None, STOCK, ASYMMETRIC.cuda(), GENERIC, torch.tensor([0.2, 0.5, -0.1]).cuda()):
            y = upfirdn2d(x, f, **how, gain=1.5, backend="cuda")
            # In double: a GPU may compute the reference's convolutions in TF32.
            close(y, upfirdn2d(x.double(), f, **how, gain=1.5, backend="reference"))


def test_upfirdn2d_with_long_filters() -> None:
    x = torch.randn(1, 2, 40, 50, device="cuda")
    for f in (torch.randn(32, 31), torch.randn(12), torch.randn(40)):  # the last is left to plain PyTorch
        wanted = upfirdn2d(x.double(), f, up=2, padding=40, backend="reference")
        found = upfirdn2d(x, f, up=2, padding=40, backend="cuda")
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("clamp", [None, 0.9])
def test_bias_act(dtype: torch.dtype, act: str, clamp: float | None) -> None:
    for layout in LAYOUTS:
        x = image(layout, (2, 24, 9, 7), dtype)
        for dim in (0, 1, 3):
            b = torch.randn(x.shape[dim], device="cuda", dtype=dtype)
            y = bias_act(x, b, dim, act, clamp=clamp, backend="cuda")
            close(y, bias_act(x.double(), b.double(), dim, act, clamp=clamp, backend="reference"))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_gradients(act: str) -> None:
    x = torch.randn(2, 3, 4, device="cuda", dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, device="cuda", dtype=torch.float64, requires_grad=True)
    call = lambda x, b: bias_act(x, b, act=act, clamp=5.0, backend="cuda") ** 2  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, b))
    assert torch.autograd.gradgradcheck(call, (x, b))


@pytest.mark.parametrize("how", RESAMPLINGS)
def test_upfirdn2d_gradients(how: dict[str, Any]) -> None:
    x = torch.randn(1, 2, 4, 3, device="cuda", dtype=torch.float64, requires_grad=True)
    call = lambda x: upfirdn2d(x, ASYMMETRIC, **how, backend="cuda") ** 2  # noqa: E731
    assert torch.autograd.gradcheck(call, (x,))
    assert torch.autograd.gradgradcheck(call, (x,))


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_upfirdn2d_backward_of_the_tiled_kernels(dtype: torch.dtype) -> None:
    for layout in ("dense", "channels_last"):
        for how in RESAMPLINGS:
            x = image(layout, (2, 16, 33, 31), dtype).requires_grad_()
            y = upfirdn2d(x, ASYMMETRIC, **how, backend="cuda")
            g = torch.randn_like(y)
            wide = x.detach().double().requires_grad_()
            wanted = upfirdn2d(wide, ASYMMETRIC, **how, backend="reference")
            close(torch.autograd.grad(y, x, g)[0], torch.autograd.grad(wanted, wide, g.double())[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_finite_stays_so(dtype: torch.dtype) -> None:
    x = torch.zeros(1, 1, 16, 16, device="cuda", dtype=dtype)
    x[0, 0, 3, 4], x[0, 0, 9, 9] = float("nan"), float("inf")
    for act in ACTIVATIONS:
        assert bias_act(x, act=act, clamp=1.0, backend="cuda")[0, 0, 3, 4].isnan()
    y = upfirdn2d(x, STOCK, padding=1, backend="cuda")
    assert torch.equal(y.isfinite(), upfirdn2d(x.double(), STOCK, padding=1, backend="reference").isfinite())


def test_the_current_stream_is_used() -> None:
    stream = torch.cuda.Stream()
    x = torch.randn(1, 8, 512, 512, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        doubled = x * 2
        y = bias_act(upfirdn2d(doubled, STOCK, padding=1, backend="cuda"), act="lrelu", backend="cuda")
        assert not stream.query()  # the kernels wait for the sleep
    stream.synchronize()
    close(
        y, bias_act(upfirdn2d(x.double() * 2, STOCK, padding=1, backend="reference"), act="lrelu", backend="reference")
    )


def test_kernels_can_be_captured_in_a_graph() -> None:
    x, f = torch.randn(1, 8, 64, 64, device="cuda"), STOCK.cuda()
    upfirdn2d(x, f, padding=1, backend="cuda")  # reads the filter, which a capture may not
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = bias_act(upfirdn2d(x, f, padding=1, backend="cuda"), act="lrelu", backend="cuda")
    x.normal_()
    graph.replay()
    close(y, bias_act(upfirdn2d(x.double(), f, padding=1, backend="reference"), act="lrelu", backend="reference"))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_every_device() -> None:
    for index in range(torch.cuda.device_count()):
        x = torch.randn(1, 4, 20, 20, device=f"cuda:{index}")
        close(
            upfirdn2d(x, STOCK, padding=1, backend="cuda"), upfirdn2d(x.double(), STOCK, padding=1, backend="reference")
        )
        assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_more_than_2_to_the_31_elements(layout: torch.memory_format) -> None:
    shape = (72, 32, 1024, 1024)
    if torch.cuda.mem_get_info()[0] < 3 * 2 * 72 * 32 * 2**20:
        pytest.skip("too little GPU memory")
    x = torch.ones(shape, device="cuda", dtype=torch.float16).contiguous(memory_format=layout)
    x[-1, -1, -1] = 3
    b = torch.arange(32, device="cuda", dtype=torch.float16)
    y = bias_act(x, b, act="lrelu", gain=1.0, backend="cuda")
    assert torch.equal(y[-1], bias_act(x[-1:], b, act="lrelu", gain=1.0, backend="reference")[0])
    del y
    y = upfirdn2d(x, STOCK, padding=(2, 1, 2, 1), backend="cuda")
    close(y[-1:], upfirdn2d(x[-1:].double(), STOCK, padding=(2, 1, 2, 1), backend="reference"))


def test_compiled_code_runs_the_kernels() -> None:
    def layer(x: Tensor, b: Tensor) -> Tensor:
        return bias_act(upfirdn2d(x, STOCK, up=2, padding=(2, 1, 2, 1), gain=4), b, act="lrelu", clamp=2.0)

    x, b = torch.randn(1, 3, 8, 8, device="cuda"), torch.randn(3, device="cuda")
    close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x, b), layer(x, b))

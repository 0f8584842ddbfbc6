"""The fused epilogue and StyleGAN2's synthesis on a CUDA GPU, against plain PyTorch there and on the CPU."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_epilogue import NAMES, close, example
from torch import Tensor, nn

from facelatent import cuda_kernels
from facelatent.stylegan_ops import StyleGAN2, StyleGAN2Config
from facelatent.stylegan_ops.cuda_graph import Captured
from facelatent.stylegan_ops.epilogue import epilogue, skip_add

pytestmark = pytest.mark.gpu

BARS = {torch.float32: 2e-5, torch.float64: 1e-12, torch.float16: 4e-3, torch.bfloat16: 3e-2}
#: Vectors and none, more channels than a block has threads, tiles with remainders, one pixel.
SHAPES = [(2, 32, 70, 66), (1, 7, 9, 11), (1, 130, 3, 2), (1, 1032, 2, 3), (3, 40, 37, 5), (1, 512, 16, 16)]
SHAPES += [(1, 1, 1, 1)]
CONFIG = StyleGAN2Config((48, 32, 24, 7), z_dim=16, w_dim=16, mapping_layers=2)


@pytest.fixture(autouse=True)
def kernels_at_full_precision() -> Iterator[None]:
    """TF32 rounds convolutions to 10 bits. Without kernels these tests fail: a fallback would compare with itself."""
    cuda_kernels.library("cuda")
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def on(device: str, case: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in case.items()}


def random_generator(config: StyleGAN2Config = CONFIG) -> StyleGAN2:
    """Of random weights: styles near one, noise that shows."""
    torch.manual_seed(5)
    generator = StyleGAN2("random", config)
    for name, value in generator.named_parameters():
        nn.init.normal_(value, float(name.endswith("affine.bias")), 0.5)
    for name, value in generator.named_buffers():
        if name.endswith("noise"):
            nn.init.normal_(value)
    return generator


def some_ws(generator: StyleGAN2, count: int = 2) -> Tensor:
    return torch.randn(count, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(3)).cuda()


def relative(found: Tensor, expected: Tensor) -> float:
    """Root of the mean squared difference, of the expected values' own."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("blur", [False, True])
def test_the_epilogue_equals_its_twin(dtype: torch.dtype, blur: bool) -> None:
    missing = [(), NAMES, ("demodulation", "style"), ("noise", "bias"), ("rgb_weight",)]
    for shape, absent, clamp in itertools.product(SHAPES, missing, (None, 0.7)):
        case = example(*shape, blur, dtype, absent)
        for want_y in (True, False):
            found = epilogue(**on("cuda", case), clamp=clamp, want_y=want_y, backend="cuda")
            expected = epilogue(**case, clamp=clamp, want_y=want_y, backend="reference")
            for one, other in zip(found, expected, strict=True):
                close(None if one is None else one.cpu(), other, BARS[dtype])


@pytest.mark.parametrize("dtype", BARS)
@pytest.mark.parametrize("blur", [False, True])
def test_the_epilogues_gradients_equal_its_twins(dtype: torch.dtype, blur: bool) -> None:
    for shape, absent, clamp in itertools.product(SHAPES, [(), ("noise",), NAMES], (None, 0.7)):
        case = example(*shape, blur, dtype, absent)
        found = []
        for device, backend in (("cuda", "cuda"), ("cpu", "reference")):
            moved = on(device, case)
            tensors = [t.requires_grad_() for t in moved.values() if isinstance(t, Tensor)]
            parts = [p for p in epilogue(**moved, clamp=clamp, backend=backend) if p is not None]
            loss = sum(((p.double() + i) ** 2).sum() for i, p in enumerate(parts))
            found.append(torch.autograd.grad(loss, tensors))
        for one, other in zip(*found, strict=True):
            close(one.cpu(), other, 2 * BARS[dtype])


@pytest.mark.parametrize("blur", [False, True])
def test_first_and_second_gradients_are_exact(blur: bool) -> None:
    case = on("cuda", example(2, 3, 2, 3, blur, torch.float64))
    keys = [key for key, value in case.items() if isinstance(value, Tensor)]

    def function(*tensors: Tensor) -> tuple[Tensor | None, ...]:
        return epilogue(**{**case, **dict(zip(keys, tensors, strict=True))}, clamp=1.0, backend="cuda")

    inputs = [case[key].requires_grad_() for key in keys]
    torch.autograd.gradcheck(function, inputs)
    torch.autograd.gradgradcheck(function, inputs)


def test_the_operator_is_registered_as_torch_asks() -> None:
    case = on("cuda", example(2, 5, 3, 4, True))
    x, blur, demodulation, noise, bias, style, rgb_weight = (
        value.requires_grad_() if isinstance(value, Tensor) else value for value in case.values()
    )
    call = (x, blur, demodulation, noise, bias, 0.2, 1.4, -1.0, style, rgb_weight, True, "cuda")
    torch.library.opcheck(torch.ops.facelatent.epilogue, call)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("clamp", [None, 1.0])
def test_nan_stays_nan(dtype: torch.dtype, clamp: float | None) -> None:
    for blur in (False, True):
        case = example(1, 16, 6, 6, blur, dtype)
        case["x"][0, 3, 3, 3] = float("nan")
        found = epilogue(**on("cuda", case), clamp=clamp, backend="cuda")
        expected = epilogue(**case, clamp=clamp, backend="reference")
        for one, other in zip(found, expected, strict=True):
            assert one is not None and other is not None
            assert one.isnan().any() and torch.equal(one.isnan().cpu(), other.isnan())


def test_memory_beyond_two_to_the_31_elements() -> None:
    """The last pixels of 70 pictures of 1024 px and 32 channels lie beyond what 32 bits can count."""
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GB of free GPU memory")
    x = torch.zeros(70, 32, 1024, 1024, dtype=torch.float16, device="cuda").to(memory_format=torch.channels_last)
    x[-1] = torch.randn(32, 1024, 1024)
    y, _ = epilogue(x, backend="cuda")
    expected, _ = epilogue(x[-1:].clone(), backend="reference")
    assert y is not None and expected is not None
    close(y[-1:], expected, BARS[torch.float16])
    assert float(y[:-1].abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_skip_add(dtype: torch.dtype, clamp: float | None) -> None:
    for h, w in ((2, 2), (6, 4), (10, 14), (64, 128)):
        rgb, bias, smaller = (torch.randn(s, dtype=dtype) for s in ((2, 3, h, w), (3,), (2, 3, h // 2, w // 2)))
        for previous in (None, smaller):
            found = skip_add(rgb.cuda(), bias.cuda(), clamp, None if previous is None else previous.cuda(), "cuda")
            close(found.cpu(), skip_add(rgb, bias, clamp, previous, "reference"), BARS[dtype])


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("config", [CONFIG, StyleGAN2Config((512, 256, 64, 32), w_dim=16, conv_clamp=256.0)])
def test_pictures_equal_the_reference(noise: str, config: StyleGAN2Config) -> None:
    cpu = random_generator(config)
    gpu = copy.deepcopy(cpu).cuda()
    ws = some_ws(cpu)
    cpu.backend, gpu.backend = "reference", "cuda"
    found = gpu.synthesis(ws, noise)
    assert relative(found, cpu.synthesis(ws.cpu(), noise)) <= 1e-5
    gpu.backend = "reference"
    assert relative(found, gpu.synthesis(ws, noise)) <= 1e-5
    assert relative(found, copy.deepcopy(gpu).to(memory_format=torch.channels_last).synthesis(ws, noise)) <= 1e-5


@pytest.mark.parametrize(("dtype", "bar"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_half_precision_draws_nearly_the_same(dtype: torch.dtype, bar: float) -> None:
    generator = random_generator().cuda()
    ws = some_ws(generator)
    generator.backend = "reference"
    exact = generator.synthesis(ws)
    generator.backend = "cuda"
    generator.set_precision(dtype, 3)
    assert 0 < relative(generator.synthesis(ws), exact) <= bar
    # float16 ends at 65504: demodulation cancels the scale, before it overflows.
    for name, _, layer in generator.synthesis_network.named_layers():
        if not name.endswith("torgb"):
            layer.weight.mul_(3e4)
    assert relative(generator.synthesis(ws), exact) <= bar


def test_gradients_equal_the_references() -> None:
    """To ws and to every weight, once and, along the gradient to ws, twice."""
    generator = random_generator().cuda()
    generator.synthesis_network.requires_grad_(True)
    weights = list(generator.synthesis_network.parameters())
    found = []
    for backend in ("cuda", "reference"):
        generator.backend = backend
        ws = some_ws(generator).requires_grad_()
        loss = generator.synthesis(ws).square().mean()
        once = torch.autograd.grad(loss, (ws, *weights), retain_graph=True)
        (along,) = torch.autograd.grad(loss, ws, create_graph=True)
        twice = torch.autograd.grad(along.square().sum(), weights, allow_unused=True)
        found.append((*once, *(g for g in twice if g is not None)))
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        close(one, other, 2e-4)


def test_gradients_to_ws_alone_equal_those_of_the_cpu() -> None:
    gradients = []
    for device, backend in (("cuda", "cuda"), ("cpu", "reference")):
        generator = random_generator().to(device)
        generator.backend = backend
        ws = some_ws(generator).to(device).requires_grad_()
        generator.synthesis(ws).square().mean().backward()
        assert ws.grad is not None
        gradients.append(ws.grad)
    assert relative(*gradients) <= 1e-4


def test_another_stream() -> None:
    """Work is queued in the current stream: behind a slow neighbour there, and not before."""
    generator = random_generator().cuda()
    generator.backend = "cuda"
    ws = some_ws(generator)
    expected = generator.synthesis(ws)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    late = torch.zeros_like(ws)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(ws)
        found = generator.synthesis(late)
    stream.synchronize()
    assert torch.equal(found, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_gpu_that_is_not_the_current_one() -> None:
    generator = random_generator()
    pictures = []
    for device in ("cuda:0", "cuda:1"):
        there = copy.deepcopy(generator).to(device)
        there.backend = "cuda"
        pictures.append(there.synthesis(some_ws(generator).to(device)).cpu())
        assert torch.cuda.current_device() == 0
    assert relative(*pictures) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_graphs_draw_what_calls_draw(dtype: torch.dtype) -> None:
    generator = random_generator().cuda()
    generator.backend = "cuda"
    if dtype != torch.float32:
        generator.set_precision(dtype, 3)
    draw = Captured(generator, most=2)
    for count in (1, 2, 3, 1):
        for seed in range(3):
            torch.manual_seed(seed)
            ws = torch.randn(count, generator.num_ws, 16, device="cuda")
            assert relative(draw(ws), generator.synthesis(ws)) <= 1e-6
    assert len(draw._graphs) == 2
    first, second = draw(ws), draw(ws + 1)
    assert not torch.equal(first, second)
    assert relative(first, generator.synthesis(ws)) <= 1e-6


def test_a_graph_follows_changed_weights_and_precision() -> None:
    generator = random_generator().cuda()
    generator.backend = "cuda"
    draw, ws = Captured(generator), some_ws(generator)
    before = draw(ws)
    generator.synthesis_network.blocks[1].conv0.weight.mul_(1.5).add_(0.1)
    changed = draw(ws)
    assert not torch.equal(before, changed)
    assert relative(changed, generator.synthesis(ws)) <= 1e-6
    generator.set_precision(torch.float16, 3)
    assert not torch.equal(draw(ws), changed)
    assert relative(draw(ws), generator.synthesis(ws)) <= 1e-6
    ws.requires_grad_()
    assert draw(ws).requires_grad
    with torch.no_grad():
        assert not draw(ws).requires_grad


def test_random_noise_is_fresh_in_every_replay() -> None:
    generator = random_generator().cuda()
    generator.backend = "cuda"
    draw, ws = Captured(generator, "random"), some_ws(generator)
    first, second = draw(ws), draw(ws)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    again = draw(ws)
    torch.manual_seed(1)
    assert torch.equal(draw(ws), again)


def test_graphs_in_several_streams() -> None:
    generator = random_generator().cuda()
    generator.backend = "cuda"
    draw = Captured(generator)
    codes = [some_ws(generator) + index for index in range(8)]
    expected = [generator.synthesis(ws) for ws in codes]
    torch.cuda.synchronize()
    found = []
    for ws in codes:
        with torch.cuda.stream(torch.cuda.Stream()):
            found.append(draw(ws))
    torch.cuda.synchronize()
    for one, other in zip(found, expected, strict=True):
        assert relative(one, other) <= 1e-6


@pytest.mark.slow
def test_torch_compile_takes_the_whole_synthesis() -> None:
    generator = random_generator(StyleGAN2Config((16, 8), z_dim=8, w_dim=8, mapping_layers=1)).cuda()
    generator.backend = "cuda"
    ws = some_ws(generator)
    expected = generator.synthesis(ws)
    compiled = torch.compile(generator.synthesis, fullgraph=True)
    assert relative(compiled(ws), expected) <= 1e-5
    code = ws.clone().requires_grad_()
    compiled(code).square().mean().backward()
    plain = ws.clone().requires_grad_()
    generator.synthesis(plain).square().mean().backward()
    assert code.grad is not None and plain.grad is not None
    assert relative(code.grad, plain.grad) <= 1e-4

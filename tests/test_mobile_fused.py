"""MobileStyleGAN's compiled CPU kernel against its plain PyTorch twin."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator

import pytest
import torch
from conftest import make_tiny_generator
from torch import Tensor, nn

from facelatent import cuda_kernels
from facelatent.stylegan_ops import Generator, MobileStyleGAN, mobile_fused
from facelatent.stylegan_ops.mobile import StyledLayer

#: Channel counts that fill vectors, that do not, an odd last one, and a single block.
CHANNELS = [(32, 32, 32, 32), (20, 12, 24, 7), (128, 272, 64), (64, 40)]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    if not cuda_kernels.available("cpu"):
        pytest.skip("no C++ compiler")


def make_decided_generator(channels: tuple[int, ...]) -> MobileStyleGAN:
    """One whose activations are far from zero, on both sides: rounding cannot move one to the other slope."""
    generator = make_tiny_generator(channels=channels)
    for module in generator.modules():
        if isinstance(module, StyledLayer):
            module.weight.mul_(0.1)
            module.bias.copy_(torch.where(torch.arange(len(module.bias)) % 3 == 0, -1.0, 1.0))
    return generator


@pytest.fixture(scope="module", params=CHANNELS, ids=str)
def generator(request: pytest.FixtureRequest) -> MobileStyleGAN:
    return make_decided_generator(request.param)


@pytest.fixture(scope="module")
def small() -> MobileStyleGAN:
    return make_decided_generator((32, 32, 32, 32))


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def relative_rms(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def gradient_error(value: Tensor, expected: Tensor) -> float:
    """The largest relative rms of a W+ layer of gradients [n, num_ws, w_dim]."""
    return max(map(relative_rms, value.unbind(1), expected.unbind(1)))


def some_ws(generator: Generator, count: int) -> Tensor:
    w = torch.stack([generator.sample_w(seed)[0] for seed in range(count * generator.num_ws)])
    return w.reshape(count, generator.num_ws, -1)


def drawn(generator: Generator, backend: str, ws: Tensor, noise: str, resolution: int | None) -> tuple[Tensor, Tensor]:
    """The image, and the gradient to ws of its product with fixed random numbers."""
    generator = copy.copy(generator)
    generator.backend = backend  # type: ignore[assignment]
    ws = ws.clone().requires_grad_()
    torch.manual_seed(1)
    image = generator.synthesis(ws, noise, resolution)  # type: ignore[arg-type]
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(image, ws, weights)
    return image.detach(), gradient


@pytest.mark.parametrize("noise", ["const", "random", "none"])
@pytest.mark.parametrize("count", [1, 3])
def test_images_and_gradients(generator: MobileStyleGAN, threads: int, count: int, noise: str) -> None:
    ws = some_ws(generator, count)
    resolution = generator.resolution
    while resolution >= 1:
        image, gradient = drawn(generator, "cpu", ws, noise, resolution)
        expected_image, expected_gradient = drawn(generator, "reference", ws, noise, resolution)
        assert image.shape == (count, 3, resolution, resolution)
        assert relative_rms(image, expected_image) < 1e-5
        assert gradient_error(gradient, expected_gradient) < 1e-5
        resolution //= 4


def test_without_gradients_the_image_is_the_same(generator: MobileStyleGAN) -> None:
    ws = some_ws(generator, 2)
    with_gradients, _ = drawn(generator, "cpu", ws, "const", None)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(generator.synthesis(ws), with_gradients)
    # The workspace of inference mode serves a drawing with gradients too.
    assert torch.equal(drawn(generator, "cpu", ws, "const", None)[0], with_gradients)


def test_the_kernel_draws(generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MobileStyleGAN, "draw", lambda *_: pytest.fail("plain PyTorch drew"))
    drawn(generator, "cpu", some_ws(generator, 1), "const", None)
    drawn(generator, "auto", some_ws(generator, 1), "const", None)


def test_double_backward(small: MobileStyleGAN) -> None:
    def second(backend: str) -> tuple[Tensor, Tensor]:
        generator = copy.copy(small)
        generator.backend = backend  # type: ignore[assignment]
        ws = some_ws(generator, 2).requires_grad_()
        image = generator.synthesis(ws, resolution=16)
        (first,) = torch.autograd.grad(image.square().sum(), ws, create_graph=True)
        (gradient,) = torch.autograd.grad(first.square().sum(), ws)
        return first.detach(), gradient

    for fused, expected in zip(second("cpu"), second("reference"), strict=True):
        assert gradient_error(fused, expected) < 1e-5


def test_one_code_for_all_layers(small: MobileStyleGAN) -> None:
    w = small.sample_w(3).requires_grad_()
    (gradient,) = torch.autograd.grad(small.synthesis(small.broadcast(w)).sum(), w)
    plain = copy.copy(small)
    plain.backend = "reference"
    (expected,) = torch.autograd.grad(plain.synthesis(plain.broadcast(w)).sum(), w)
    assert relative_rms(gradient, expected) < 1e-5


def test_graphs_that_live_together_do_not_share_memory(small: MobileStyleGAN) -> None:
    codes = [some_ws(small, 1) * scale for scale in (1.0, 0.5)]
    expected = [drawn(small, "cpu", ws, "const", None)[1] for ws in codes]
    leaves = [ws.clone().requires_grad_() for ws in codes]
    images = [small.synthesis(ws) for ws in leaves]
    weights = torch.randn(images[0].shape, generator=torch.Generator().manual_seed(2))
    for image, leaf, gradient in zip(images, leaves, expected, strict=True):
        for _ in range(2):  # a graph that is kept can be used again
            (again,) = torch.autograd.grad(image, leaf, weights, retain_graph=True)
            assert torch.equal(again, gradient)


def test_workspaces_come_back(small: MobileStyleGAN) -> None:
    ws = some_ws(small, 1).requires_grad_()
    image = small.synthesis(ws)
    before = len(mobile_fused._free)
    image.sum().backward()
    assert len(mobile_fused._free) == before + 1  # although the image still lives
    for _ in range(5):
        small.synthesis(ws).sum().backward()
    assert len(mobile_fused._free) == before + 1


def test_workspaces_beyond_a_limit_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobile_fused, "_MOST_KEPT_BYTES", 1000)
    mobile_fused._free.clear()
    large, small, other = mobile_fused._lend(2000), mobile_fused._lend(600), mobile_fused._lend(700)
    assert (len(large), len(small), len(other)) == (2000, 600, 700)
    del large, small, other
    assert sorted(map(len, mobile_fused._free)) == [600, 700]
    again = mobile_fused._lend(500)
    assert len(again) == 500
    assert list(map(len, mobile_fused._free)) == [700]


def test_threads_at_once(small: MobileStyleGAN) -> None:
    codes = [some_ws(small, 1) * scale for scale in (1.0, 0.5, 0.2)]
    expected = [drawn(small, "cpu", ws, "const", None) for ws in codes]
    wrong: list[int] = []

    def work(index: int) -> None:
        ws = codes[index].clone().requires_grad_()
        for _ in range(20):
            image = small.synthesis(ws)
            weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2))
            (gradient,) = torch.autograd.grad(image, ws, weights)
            if not (torch.equal(image, expected[index][0]) and torch.equal(gradient, expected[index][1])):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(codes))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_repeated_runs_are_equal_to_the_bit(generator: MobileStyleGAN, threads: int) -> None:
    ws = some_ws(generator, 1)
    first, second = (drawn(generator, "cpu", ws, "const", None) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


# What plain PyTorch does instead


@pytest.fixture
def tunable(small: MobileStyleGAN) -> MobileStyleGAN:
    return copy.deepcopy(small)


def test_weights_that_are_tuned_get_their_gradients(tunable: MobileStyleGAN) -> None:
    block = tunable.blocks[1]
    assert isinstance(block, nn.Module)
    for parameter in block.parameters():
        parameter.requires_grad_()
    tunable.synthesis(some_ws(tunable, 1)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_affine_layers_can_be_tuned_with_the_kernel(tunable: MobileStyleGAN) -> None:
    gradients = []
    for backend in ("cpu", "reference"):
        tunable.backend = backend  # type: ignore[assignment]
        tunable.to_img.requires_grad_()
        (gradient,) = torch.autograd.grad(tunable.synthesis(some_ws(tunable, 1)).sum(), tunable.to_img.weight)
        gradients.append(gradient)
    assert relative_rms(*gradients) < 1e-5


def test_tuned_weights_are_seen(tunable: MobileStyleGAN) -> None:
    ws = some_ws(tunable, 1)
    before = tunable.synthesis(ws)
    tunable.blocks[-1].conv2.weight.data.mul_(1.1)  # type: ignore[union-attr, operator]
    image, _ = drawn(tunable, "cpu", ws, "const", None)
    assert relative_rms(image, before) > 1e-3
    assert relative_rms(image, drawn(tunable, "reference", ws, "const", None)[0]) < 1e-5


def test_a_weight_that_changes_before_backward_is_noticed(tunable: MobileStyleGAN) -> None:
    image = tunable.synthesis(some_ws(tunable, 1).requires_grad_())
    tunable.blocks[0].conv1.weight.mul_(1.1)  # type: ignore[union-attr, operator]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        image.sum().backward()


def test_float64_is_drawn_by_pytorch(tunable: MobileStyleGAN) -> None:
    ws = some_ws(tunable, 1)
    expected, _ = drawn(tunable, "reference", ws, "const", None)
    assert relative_rms(tunable.double().synthesis(ws.double()).float(), expected) < 1e-5


def test_autocast_is_drawn_by_pytorch(small: MobileStyleGAN) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert small.synthesis(some_ws(small, 1)).dtype == torch.bfloat16


def test_unknown_backend(tunable: MobileStyleGAN) -> None:
    tunable.backend = "fast"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="fast"):
        tunable.synthesis(some_ws(tunable, 1))


# The real weights


@pytest.mark.assets
@pytest.mark.parametrize("resolution", [1024, 512, 256])
def test_default_generator(mobile: Generator, resolution: int) -> None:
    ws = mobile.broadcast(mobile.truncate(mobile.sample_w(3), 0.7))
    image, gradient = drawn(mobile, "cpu", ws, "const", resolution)
    expected_image, expected_gradient = drawn(mobile, "reference", ws, "const", resolution)
    assert relative_rms(image, expected_image) < 1e-5
    # Rounding turns a few activations' signs around, and with them a part of a random gradient.
    assert relative_rms(gradient, expected_gradient) < 1e-2

"""StyleGAN2 drawn by fused layers against the plain path, and the convolution that they are made of."""

from __future__ import annotations

import copy
import pickle
import threading
from itertools import pairwise

import checkpoint_files as files
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from facelatent import cuda_kernels
from facelatent.errors import FacelatentError, KernelsUnavailable
from facelatent.stylegan_ops import StyleGAN2, StyleGAN2Config, fused, load_generator
from facelatent.stylegan_ops.checkpoints.layouts import to_facelatent
from facelatent.stylegan_ops.conv3x3 import Conv3x3, Derived, Mode, pack, run

pytestmark = pytest.mark.skipif(not cuda_kernels.available("cpu"), reason="no C++ compiler")

CONFIGS = {
    "tiny": files.TINY,
    "wide": StyleGAN2Config((24, 16, 32, 16, 8), z_dim=8, w_dim=8, mapping_layers=1),
    "clamped": StyleGAN2Config((8, 8, 8, 8), z_dim=8, w_dim=8, mapping_layers=1, conv_clamp=0.25),
    "classes": StyleGAN2Config((8, 8, 8, 8), z_dim=8, w_dim=8, mapping_layers=1, label_dim=3),
}


def make(config: StyleGAN2Config = files.TINY) -> StyleGAN2:
    generator = StyleGAN2("tiny", config)
    state = to_facelatent(files.nvidia_state(config), config, "nvidia")
    generator.load_state_dict({**generator.state_dict(), **state, "w_avg": files.average(config)})
    return generator.to(memory_format=torch.channels_last)


def codes(generator: StyleGAN2, count: int = 2) -> Tensor:
    return torch.randn(count, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(3))


def both(generator: StyleGAN2, ws: Tensor, noise: str = "const") -> tuple[Tensor, Tensor]:
    """By the compiled kernels and by plain PyTorch, with the same random numbers."""
    images = []
    for name in ("cpu", "reference"):
        generator.backend = name
        torch.manual_seed(5)
        images.append(generator.synthesis(ws, noise=noise))
    return images[0], images[1]


def difference(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("noise", ["const", "random", "none"])
@pytest.mark.parametrize("count", [1, 3])
def test_pictures_are_the_same(name: str, noise: str, count: int) -> None:
    generator = make(CONFIGS[name])
    with torch.no_grad():
        found, expected = both(generator, codes(generator, count), noise)
    assert difference(found, expected) <= 1e-5
    assert found.is_contiguous()


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_to_codes_are_the_same(name: str) -> None:
    generator = make(CONFIGS[name])
    ws = codes(generator).requires_grad_()
    found, expected = (torch.autograd.grad(i.square().mean(), ws)[0] for i in both(generator, ws))
    assert difference(found, expected) <= 1e-4


def test_gradients_of_gradients_to_codes_are_the_same() -> None:
    generator = make(CONFIGS["wide"])
    ws = codes(generator).requires_grad_()
    second = []
    for image in both(generator, ws):
        first = torch.autograd.grad(image.square().mean(), ws, create_graph=True)[0]
        second.append(torch.autograd.grad(first.square().sum(), ws)[0])
    assert difference(*second) <= 1e-3


def test_gradients_reach_every_parameter() -> None:
    """As tuning a generator needs them: weights, noise strengths, biases, the constant, the affine layers."""
    generator = make(CONFIGS["wide"])
    network = generator.synthesis_network.requires_grad_()
    grads = []
    for image in both(generator, codes(generator)):
        grads.append(torch.autograd.grad(image.square().mean(), list(network.parameters())))
    for (key, _), found, expected in zip(network.named_parameters(), *grads, strict=True):
        assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7, key
        assert found.abs().max() > 0, key


@pytest.mark.parametrize("count", [1, 2])
def test_bfloat16_blocks_are_near(count: int) -> None:
    generator = make(CONFIGS["wide"])
    ws = codes(generator, count)
    with torch.no_grad():
        exact = both(generator, ws)[1]
        generator.set_precision(torch.bfloat16)
        found, expected = both(generator, ws)
    assert 0 < difference(found, exact) <= 0.02
    assert difference(expected, exact) <= 0.02
    ws.requires_grad_()
    gradients = [torch.autograd.grad(image.square().mean(), ws)[0] for image in both(generator, ws)]
    assert difference(*gradients) <= 0.1


def test_changed_weights_are_seen_however_they_are_written() -> None:
    generator = make(CONFIGS["wide"])
    ws = codes(generator)
    layer = generator.synthesis_network.blocks[2].conv1
    with torch.no_grad():
        seen = [both(generator, ws)[0]]
        layer.weight.mul_(torch.linspace(0.5, 2, layer.weight.shape[1])[:, None, None])
        seen.append(both(generator, ws)[0])
        layer.weight.data.copy_(layer.weight.data.flip(1))
        seen.append(both(generator, ws)[0])
        layer.weight = torch.nn.Parameter(layer.weight + 0.1)
        found, expected = both(generator, ws)
        seen.append(found)
    assert difference(found, expected) <= 1e-5
    assert all(not torch.allclose(one, other, atol=1e-4) for one, other in pairwise(seen))


def test_copies_and_pickles_carry_no_derived_weights() -> None:
    generator = make()
    with torch.no_grad():
        expected = generator.synthesis(codes(generator))
        keys = set(generator.state_dict())
        assert not any("derived" in key for key in keys)
        for other in (copy.deepcopy(generator), pickle.loads(pickle.dumps(generator))):  # noqa: S301
            assert not other.synthesis_network.blocks[1].conv1.derived._values
            assert torch.equal(other.synthesis(codes(generator)), expected)


def test_pictures_outlive_the_next_drawing() -> None:
    generator = make()
    with torch.no_grad():
        first = generator.synthesis(codes(generator))
        kept = first.clone()
        generator.synthesis(codes(generator) + 1)
    assert torch.equal(first, kept)


def test_threads_draw_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make(CONFIGS["wide"])
    ws = codes(generator, 8)
    with torch.no_grad():
        expected = [generator.synthesis(w[None]) for w in ws]
    found: dict[int, Tensor] = {}

    def work(index: int) -> None:
        with torch.no_grad():
            for _ in range(10):
                found[index] = generator.synthesis(ws[index : index + 1])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(ws))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.allclose(found[index], picture, atol=1e-5) for index, picture in enumerate(expected))


def test_large_pictures_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_KEPT", 4096)
    monkeypatch.setattr(fused, "_workspace", fused._Workspace())
    generator = make(CONFIGS["wide"])
    with torch.no_grad():
        found, expected = both(generator, codes(generator))
    assert difference(found, expected) <= 1e-5
    assert all(len(buffer) <= 4096 for buffer in fused._workspace._buffers)


def test_inference_mode_and_gradients_take_turns() -> None:
    generator = make(CONFIGS["wide"])
    with torch.inference_mode():
        generator.synthesis(codes(generator))
    ws = codes(generator).requires_grad_()
    generator.synthesis(ws).sum().backward()
    with torch.inference_mode():
        made = make(CONFIGS["wide"])
        found, expected = both(made, codes(made))
        assert difference(found, expected) <= 1e-5


def test_styles_of_any_layout_are_drawn() -> None:
    generator = make(CONFIGS["wide"])
    with torch.no_grad():
        styles = generator.styles(codes(generator))
        expected = generator.draw_styles(styles)
        turned = {name: style.T.contiguous().T for name, style in styles.items()}
        assert difference(generator.draw_styles(turned), expected) <= 1e-5


def test_the_backend_is_chosen_when_loading(tiny_generator_file, tmp_path) -> None:
    assert load_generator(tiny_generator_file, device="cpu").backend is None
    assert load_generator(tiny_generator_file, device="cpu", backend="reference").backend == "reference"
    with pytest.raises(ValueError, match="backend must be one of"):
        load_generator(tiny_generator_file, device="cpu", backend="fast")
    with pytest.raises(KernelsUnavailable, match="does not run on cpu"):
        load_generator(tiny_generator_file, device="cpu", backend="cuda")


def test_the_reference_runs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make()
    generator.backend = "reference"
    monkeypatch.setattr("facelatent.cuda_kernels.load.library", lambda kind: pytest.fail("asked for kernels"))
    monkeypatch.setattr("facelatent.cuda_kernels.arguments.library", lambda kind: pytest.fail("asked for kernels"))
    generator.synthesis(generator.broadcast(generator.mapping(torch.randn(1, 8))))


def test_without_kernels_plain_pytorch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make()
    with torch.no_grad():
        expected = both(generator, codes(generator))[1]
        generator.backend = None
        monkeypatch.setattr(cuda_kernels, "available", lambda kind: False)
        assert torch.equal(generator.synthesis(codes(generator)), expected)


def test_no_samples_draw_no_pictures() -> None:
    generator = make()
    with torch.no_grad():
        assert generator.synthesis(codes(generator)[:0]).shape == (0, 3, 32, 32)


def test_compilers_and_fake_tensors_follow_the_layers() -> None:
    generator = make(CONFIGS["wide"])
    ws = codes(generator)
    with torch.no_grad():
        expected = generator.synthesis(ws)
        compiled = torch.compile(generator.synthesis, backend="eager")
        assert difference(compiled(ws), expected) <= 1e-5
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert generator.synthesis(mode.from_tensor(ws)).shape == expected.shape


def test_tangents_are_refused_rather_than_lost() -> None:
    generator = make()
    ws = codes(generator)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(ws, torch.ones_like(ws))
        with pytest.raises(FacelatentError, match="forward-mode"):
            generator.synthesis(dual)


# The convolution


def plain(x: Tensor, weight: Tensor, mode: Mode) -> Tensor:
    if mode == Mode.SAME:
        return F.conv2d(x, weight, padding=1)
    return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2) if mode == Mode.UP else F.conv2d(x, weight, stride=2)


@settings(deadline=None, max_examples=60)
@given(
    mode=st.sampled_from(Mode),
    n=st.integers(1, 3),
    inputs=st.integers(1, 40),
    outputs=st.one_of(st.integers(1, 20), st.sampled_from([32, 64, 96])),
    h=st.integers(1, 13),
    w=st.integers(1, 40),
    threads=st.integers(1, 3),
)
def test_convolutions_of_any_shape(mode: Mode, n: int, inputs: int, outputs: int, h: int, w: int, threads: int) -> None:
    if mode == Mode.DOWN:
        h, w = 2 * h + 1, 2 * w + 1
    random = torch.Generator().manual_seed(h * w)
    x = torch.randn(n, inputs, h, w, generator=random).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs, 3, 3, generator=random)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run(x, pack(weight, mode), outputs, mode)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    expected = plain(x.double(), weight.double(), mode).float()
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max()) + 1e-6


@pytest.mark.parametrize("mode", [Mode.SAME, Mode.UP])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_convolutions(mode: Mode, layout: torch.memory_format) -> None:
    x = torch.randn(2, 20, 9, 7, requires_grad=True)
    weight = torch.randn(12, 20, 3, 3).contiguous(memory_format=layout)
    y = Conv3x3.apply(x, weight, mode, Derived())
    expected = plain(x, weight, mode)
    g = torch.randn_like(expected)
    assert torch.allclose(y, expected, atol=1e-4)
    first, other = (torch.autograd.grad(t, x, g, retain_graph=True)[0] for t in (y, expected))
    assert torch.allclose(first, other, atol=1e-4)
    g.requires_grad_()
    (gx,) = torch.autograd.grad(y, x, g, create_graph=True)
    v = torch.randn_like(gx)
    assert torch.allclose(gx, other, atol=1e-4)
    assert torch.allclose(torch.autograd.grad(gx, g, v)[0], plain(v, weight, mode), atol=1e-4)


def test_nan_reaches_the_picture() -> None:
    x = torch.zeros(1, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    x[0, 3, 4, 4] = float("nan")
    found = run(x, pack(torch.ones(16, 16, 3, 3), Mode.SAME), 16, Mode.SAME)
    assert found is not None and found[0, :, 3:6, 3:6].isnan().all()

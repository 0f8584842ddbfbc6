"""What needs a CUDA GPU: the same pictures and gradients as on the CPU. Run by benchmarks/gpu_check.sh."""

from __future__ import annotations

import pytest
import torch

from facelatent.stylegan_ops import load_generator

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def full_precision():
    """TF32 rounds convolutions to 10 bits: off, so that the two devices can be compared."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_pictures_equal_those_of_the_cpu(tiny_generator_file):
    cpu, gpu = load_generator(tiny_generator_file, "cpu"), load_generator(tiny_generator_file, "cuda")
    ws = cpu.broadcast(cpu.sample_w(3)).contiguous()
    expected = cpu.synthesis(ws)
    found = gpu.synthesis(ws.cuda()).cpu()
    assert (found - expected).abs().max() < 1e-4 * expected.std()


def test_gradients_equal_those_of_the_cpu(tiny_generator_file):
    gradients = []
    for device in ("cpu", "cuda"):
        generator = load_generator(tiny_generator_file, device)
        ws = generator.broadcast(generator.sample_w(3)).clone().requires_grad_(True)
        generator.synthesis(ws).square().mean().backward()
        gradients.append(ws.grad.cpu())
    assert (gradients[0] - gradients[1]).abs().max() < 1e-3 * gradients[0].abs().max()


def test_a_seed_is_one_face_on_every_device(tiny_generator_file):
    codes = [load_generator(tiny_generator_file, device).sample_w(5).cpu() for device in ("cpu", "cuda")]
    assert torch.allclose(*codes, atol=1e-4)

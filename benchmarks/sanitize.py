"""Every CUDA kernel once or twice on small odd shapes, forward and backward: what compute-sanitizer runs.

FACELATENT_BACKEND=cuda compute-sanitizer python benchmarks/sanitize.py
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from facelatent.stylegan_ops import StyleGAN2Config
from facelatent.stylegan_ops.bias_act import ACTIVATIONS, bias_act
from facelatent.stylegan_ops.stylegan2 import StyleGAN2
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def image(*shape: int, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    x = torch.randn(shape, device="cuda").to(dtype)
    return x.contiguous(memory_format=layout).requires_grad_(True)


def backward(result: Tensor) -> None:
    result.float().square().sum().backward()


def operators() -> None:
    taps = setup_filter([1, 3, 3, 1]).cuda()
    uneven = setup_filter([[1, 2, 0], [3, 1, 4]]).cuda()
    for dtype, layout in itertools.product(DTYPES, LAYOUTS):
        for filter_, up, down, padding in (
            (taps, 1, 1, 1),
            (taps, 2, 1, 2),
            (taps, 1, 2, 1),
            (uneven, 3, 2, [2, -1, 0, 3]),
        ):
            x = image(2, 5, 19, 33, dtype=dtype, layout=layout)
            backward(upfirdn2d(x, filter_, up=up, down=down, padding=padding, gain=2))
        bias = torch.randn(5, device="cuda", requires_grad=True)
        for act in ACTIVATIONS:
            x = image(2, 5, 7, 9, dtype=dtype, layout=layout)
            backward(bias_act(x, bias, act=act, clamp=1.0))


def generator() -> None:
    """A small StyleGAN2, random, in float32 and with half-precision blocks: the fused layers."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        network = StyleGAN2("small", StyleGAN2Config((24, 24, 20, 12), w_dim=16, z_dim=16)).cuda()
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
        network.set_precision(dtype, blocks=2)
        ws = torch.randn(2, network.num_ws, 16, device="cuda", requires_grad=True)
        backward(network.synthesis(ws))


if __name__ == "__main__":
    operators()
    generator()
    torch.cuda.synchronize()
    print("done")

"""StyleGAN2's synthesis in plain PyTorch with the structure of NVIDIA's: what the benchmarks compare with.

Each sample's weights are modulated and demodulated, and a grouped convolution applies them; up-sampling is a transposed
convolution and a 4x4 filter; noise, bias and activation, clamp, colours and their enlarging are steps of their own; in
the layout [n, c, h, w]. It draws with the weights of one of our generators.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.stylegan_ops import StyleGAN2, setup_filter, upfirdn2d, upsample2d
from facelatent.stylegan_ops.stylegan2 import StyledConv, ToRGB


def modulated(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool, taps: Tensor) -> Tensor:
    """x [n, inputs, h, w], weight [outputs, inputs, k, k], style [n, inputs] -> [n, outputs, h or 2h, w or 2w]."""
    n, inputs, h, w = x.shape
    outputs, _, k, _ = weight.shape
    if x.dtype == torch.float16 and demodulate:
        weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(inputs * k * k))
        style = style / style.abs().amax(1, keepdim=True)
    weights = weight[None] * style[:, None, :, None, None]
    if demodulate:
        weights = weights * (weights.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    weights = weights.to(x.dtype)
    x = x.reshape(1, n * inputs, h, w)
    if up:
        weights = weights.transpose(1, 2).reshape(n * inputs, outputs, k, k)
        x = F.conv_transpose2d(x, weights, stride=2, groups=n)
        x = upfirdn2d(x, taps, padding=1, gain=4, backend="reference")
    else:
        x = F.conv2d(x, weights.reshape(n * outputs, inputs, k, k), padding=k // 2, groups=n)
    return x.reshape(n, outputs, *x.shape[2:])


def styled(x: Tensor, layer: StyledConv, style: Tensor, taps: Tensor, clamp: float | None) -> Tensor:
    x = modulated(x, layer.weight, style, True, layer.up, taps)
    x = x + (layer.noise * layer.noise_strength).to(x.dtype)
    x = F.leaky_relu(x + layer.bias.to(x.dtype)[:, None, None], 0.2) * math.sqrt(2)
    return x if clamp is None else x.clamp(-clamp, clamp)


def colours(x: Tensor, layer: ToRGB, style: Tensor, taps: Tensor, clamp: float | None) -> Tensor:
    x = modulated(x, layer.weight, style / math.sqrt(style.shape[1]), False, False, taps)
    x = x + layer.bias.to(x.dtype)[:, None, None]
    return x if clamp is None else x.clamp(-clamp, clamp)


class NvidiaStructure:
    """Draws as :meth:`StyleGAN2.synthesis` does, with weights of its own in the layout [o, i, h, w]."""

    def __init__(self, generator: StyleGAN2) -> None:
        self.generator = generator.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.taps = setup_filter([1, 3, 3, 1]).to(generator.device)

    def synthesis(self, ws: Tensor) -> Tensor:
        """ws [n, num_ws, w_dim] -> [n, 3, resolution, resolution]."""
        styles = self.generator.styles(ws)
        network = self.generator.synthesis_network
        x = network.const.expand(len(ws), -1, -1, -1)
        image: Tensor | None = None
        for site, block in network.resolutions():
            x = x.to(block.dtype)
            for name, layer in block.layers():
                style = styles[f"{site}.{name}"]
                if isinstance(layer, StyledConv):
                    x = styled(x, layer, style, self.taps, network.clamp)
                    continue
                drawn = colours(x, layer, style, self.taps, network.clamp).float()
                if image is not None:
                    drawn = drawn + upsample2d(image, self.taps, backend="reference")
                image = drawn
        assert image is not None
        return image

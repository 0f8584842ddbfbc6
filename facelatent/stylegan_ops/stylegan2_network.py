"""The networks of StyleGAN2, in plain PyTorch: mapping, and synthesis from style space.

Weights are kept as public checkpoints store them, before the equalised learning rate's factors, so that converting
between layouts moves every bit unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.stylegan_ops.bias_act import bias_act
from facelatent.stylegan_ops.conv3x3 import Derived
from facelatent.stylegan_ops.epilogue import TAPS
from facelatent.stylegan_ops.generator import Noise, Styles
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

#: Added under the square roots of the mapping's normalisation and of demodulation.
EPSILON = 1e-8
#: Learning-rate multiplier of the mapping network; stored weights are effective weights divided by it.
MAPPING_RATE = 0.01


@dataclass(frozen=True)
class StyleGAN2Config:
    """The shape of a StyleGAN2.

    Attributes:
        channels: feature maps at 4, 8, 16, ... px; the last entry is the full resolution's.
        z_dim: size of z.
        w_dim: size of w.
        label_dim: number of classes; 0 for an unconditional generator.
        mapping_layers: fully connected layers of the mapping network.
        conv_clamp: limit of activations, None for none.
        half_blocks: how many of the largest resolutions were trained in half precision.
    """

    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    label_dim: int = 0
    mapping_layers: int = 8
    conv_clamp: float | None = None
    half_blocks: int = 0

    @property
    def resolution(self) -> int:
        """Side of the picture in pixels."""
        return 4 << (len(self.channels) - 1)

    @property
    def sides(self) -> tuple[int, ...]:
        """4, 8, 16, ... up to the resolution."""
        return tuple(4 << index for index in range(len(self.channels)))


def channels_for(resolution: int, base: int = 32768, maximum: int = 512) -> tuple[int, ...]:
    """Feature maps at 4 px to ``resolution``: ``min(base // side, maximum)``; the defaults are config-f's.

    >>> channels_for(1024)
    (512, 512, 512, 512, 512, 256, 128, 64, 32)
    """
    return tuple(min(base // (4 << index), maximum) for index in range(int(math.log2(resolution)) - 1))


class Dense(nn.Module):
    """A fully connected layer under the equalised learning rate: ``x W^T rate / sqrt(inputs) + b rate``."""

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.rate = rate
        self.scale = rate / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, inputs] -> [n, outputs]."""
        return torch.addmm(self.bias * self.rate, x, self.weight.T, alpha=self.scale)


def normalized(x: Tensor) -> Tensor:
    """x [n, dim] scaled to a mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


class Mapping(nn.Module):
    """z, and a label where there are classes, to w."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.embed = Dense(config.label_dim, config.w_dim) if config.label_dim else None
        first = config.z_dim + (config.w_dim if config.label_dim else 0)
        self.layers = nn.ModuleList(
            Dense(config.w_dim if index else first, config.w_dim, MAPPING_RATE)
            for index in range(config.mapping_layers)
        )

    def forward(self, z: Tensor, label: Tensor | None) -> Tensor:
        """z [n, z_dim], label [n, label_dim] -> w [n, w_dim]."""
        x = normalized(z.float())
        if self.embed is not None and label is not None:
            x = torch.cat([x, normalized(self.embed(label.to(x)))], dim=1)
        for layer in self.layers:
            x = bias_act(layer(x), act="lrelu", backend="reference")  # too small to gain by another
        return x


# Demodulation cancels the factors of these two; without them the squares under its root overflow half precision.


def weight_in_range(weight: Tensor) -> Tensor:
    """weight [outputs, inputs, kh, kw] with each output's weights scaled to at most 1 / sqrt(their number)."""
    return weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel()))


def style_in_range(style: Tensor) -> Tensor:
    """style [n, inputs] scaled to a largest magnitude of 1."""
    return style / style.abs().amax(1, keepdim=True)


def modulated_conv2d(x: Tensor, weight: Tensor, style: Tensor, up_filter: Tensor | None = None) -> Tensor:
    """Convolve with ``weight`` modulated by ``style`` and demodulated (Karras et al. 2020, equations 1 and 3).

    Scaling the input by the style and the output by the demodulation factor is the same as scaling each sample's
    weights, and shares one convolution among the samples.

    Args:
        x: [n, inputs, h, w].
        weight: [outputs, inputs, 3, 3].
        style: [n, inputs], float32.
        up_filter: [4, 4]; given, the result is [n, outputs, 2h, 2w], else [n, outputs, h, w].
    """
    if x.dtype != torch.float32:
        weight, style = weight_in_range(weight), style_in_range(style)
    energy = weight.square().sum((2, 3))  # [outputs, inputs]
    demodulation = (F.linear(style.square(), energy) + EPSILON).rsqrt().to(x.dtype)
    x = x * style.to(x.dtype)[:, :, None, None]
    weight = weight.to(x.dtype)
    if up_filter is None:
        x = F.conv2d(x, weight, padding=1)
    else:
        # A transposed convolution is the true convolution of the zero-stuffed image; 2h + 1 becomes 2h.
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        x = upfirdn2d(x, up_filter, padding=1, gain=4, backend="reference")
    return x * demodulation[:, :, None, None]


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; doubles the side if ``up``."""

    noise: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, config: StyleGAN2Config, up: bool) -> None:
        super().__init__()
        self.up = up
        self.affine = Dense(config.w_dim, inputs)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise", torch.zeros(side, side))
        self.derived = Derived()

    def forward(self, x: Tensor, style: Tensor, noise: Noise, up_filter: Tensor, clamp: float | None) -> Tensor:
        """x [n, inputs, h, w], style [n, inputs] -> [n, outputs, side, side]."""
        x = modulated_conv2d(x, self.weight, style, up_filter if self.up else None)
        if noise == "const":
            x = x + (self.noise * self.noise_strength).to(x.dtype)
        elif noise == "random":
            drawn = torch.randn(len(x), 1, *self.noise.shape, device=x.device)
            x = x + (drawn * self.noise_strength).to(x.dtype)
        return bias_act(x, self.bias, act="lrelu", clamp=clamp, backend="reference")


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three colours, without demodulation or noise."""

    def __init__(self, inputs: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.affine = Dense(config.w_dim, inputs)
        self.weight = nn.Parameter(torch.zeros(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, style: Tensor, clamp: float | None) -> Tensor:
        """x [n, inputs, h, w], style [n, inputs] -> float32 [n, 3, h, w]."""
        style = style / math.sqrt(style.shape[1])
        x = F.conv2d(x * style.to(x.dtype)[:, :, None, None], self.weight.to(x.dtype))
        return bias_act(x, self.bias, clamp=clamp, backend="reference").float()

    def modulated(self, style: Tensor) -> Tensor:
        """The weights of each sample: style [n, inputs] -> [n, 3, inputs]."""
        return self.weight[:, :, 0, 0] * (style / math.sqrt(style.shape[1]))[:, None]


class Block(nn.Module):
    """One resolution: up-sampling convolution (none at 4 px), convolution, and its share of the picture."""

    def __init__(self, index: int, config: StyleGAN2Config) -> None:
        super().__init__()
        side, outputs = config.sides[index], config.channels[index]
        self.conv0 = StyledConv(config.channels[index - 1], outputs, side, config, up=True) if index else None
        self.conv1 = StyledConv(outputs, outputs, side, config, up=False)
        self.to_rgb = ToRGB(outputs, config)
        self.dtype = torch.float32

    def layers(self) -> Iterator[tuple[str, StyledConv | ToRGB]]:
        """Layers that take a style, in drawing order."""
        if self.conv0 is not None:
            yield "conv0", self.conv0
        yield "conv1", self.conv1
        yield "torgb", self.to_rgb


class Synthesis(nn.Module):
    """Styles to pictures. The picture is the sum of every block's, each enlarged to the next one's size."""

    up_filter: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.zeros(config.channels[0], 4, 4))
        self.blocks = nn.ModuleList(Block(index, config) for index in range(len(config.channels)))
        self.clamp = config.conv_clamp
        self.register_buffer("up_filter", setup_filter(TAPS), persistent=False)

    def resolutions(self) -> Iterator[tuple[str, Block]]:
        """(``b4``, ``b8``, ...; block), from the smallest."""
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            yield f"b{4 << index}", block

    def named_layers(self) -> Iterator[tuple[str, int, StyledConv | ToRGB]]:
        """(name, index of the w it takes, layer), in drawing order; a block's last w is shared with the next's first.

        Names are those of StyleGAN2-ADA: ``b4.conv1``, ``b4.torgb``, ``b8.conv0``, ...
        """
        index = 0
        for site, block in self.resolutions():
            for name, layer in block.layers():
                yield f"{site}.{name}", index, layer
                index += name != "torgb"

    def convolutions(self) -> Iterator[tuple[str, Block, StyledConv]]:
        """(name as in :meth:`named_layers`, its block, layer), in drawing order."""
        for site, block in self.resolutions():
            for name, layer in block.layers():
                if isinstance(layer, StyledConv):
                    yield f"{site}.{name}", block, layer

    def forward(self, styles: Styles, noise: Noise) -> Tensor:
        """Styles by layer name, each [n, channels] -> [n, 3, resolution, resolution], by plain PyTorch."""
        x = self.const.expand(len(styles["b4.conv1"]), -1, -1, -1)
        image: Tensor | None = None
        for site, block in self.resolutions():
            x = x.to(block.dtype)
            if image is not None:
                image = upsample2d(image, self.up_filter, backend="reference")
            for name, layer in block.layers():
                style = styles[f"{site}.{name}"]
                if isinstance(layer, ToRGB):
                    colours = layer(x, style, self.clamp)
                    image = colours if image is None else image + colours
                else:
                    x = layer(x, style, noise, self.up_filter, self.clamp)
        assert image is not None
        return image

"""The network of MobileStyleGAN, in plain PyTorch.

Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis", 2021.
This is the inference form: demodulation is static and folded into the weights, noise strengths into fixed noise maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.stylegan_ops.generator import Generator, Noise

SLOPE = 0.2


def inverse_haar(coefficients: Tensor) -> Tensor:
    """Inverse 2-D Haar transform: [n, 4C, h, w] -> [n, C, 2h, 2w].

    The first C channels are the LL band; the other 3C are (LH, HL, HH) of each channel in turn.

    >>> inverse_haar(torch.tensor([4.0, 0.0, 2.0, 0.0]).view(1, 4, 1, 1))[0, 0].tolist()
    [[3.0, 1.0], [3.0, 1.0]]
    """
    n, channels, h, w = coefficients.shape
    c = channels // 4
    # Channels last, as the convolutions on both sides have it: else every one of them turns its input around.
    halves = coefficients.permute(0, 2, 3, 1) * 0.5
    low, (lh, hl, hh) = halves[..., :c], halves[..., c:].reshape(n, h, w, c, 3).unbind(-1)
    above, below = low + lh, low - lh
    across, other = hl + hh, hl - hh
    rows = [torch.stack([above + across, above - across], 3), torch.stack([below + other, below - other], 3)]
    return torch.stack(rows, 2).reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


class Mapping(nn.Module):
    """StyleGAN2's mapping network with the learning-rate multipliers folded into its weights."""

    def __init__(self, dim: int = 512, layers: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        """z [n, dim] -> w [n, dim]."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE) * math.sqrt(2)
        return x


class StyledLayer(nn.Module):
    """Modulate, convolve (dense 3x3, or depthwise 3x3 and pointwise 1x1), add noise and bias, leaky ReLU (no gain)."""

    noise: Tensor

    def __init__(self, w_dim: int, inputs: int, outputs: int, side: int, separable: bool = True) -> None:
        super().__init__()
        self.affine = nn.Linear(w_dim, inputs)
        self.depthwise = nn.Parameter(torch.zeros(inputs, 1, 3, 3)) if separable else None
        kernel = 1 if separable else 3
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("noise", torch.zeros(1, 1, side, side))

    def noise_map(self, noise: Noise, count: int) -> Tensor | None:
        """What to add to ``count`` samples: [1 or count, 1, side, side], or None."""
        if noise == "const":
            return self.noise
        if noise == "none":
            return None
        # The strength is folded into the fixed map, so that map's own standard deviation stands for it.
        drawn = torch.randn(count, *self.noise.shape[1:], dtype=self.noise.dtype, device=self.noise.device)
        return drawn * self.noise.std()

    def styled(self, x: Tensor, style: Tensor, noise_map: Tensor | None) -> Tensor:
        """x [n, inputs, side, side], style [n, inputs] -> [n, outputs, side, side]."""
        x = x * style[:, :, None, None]
        if self.depthwise is not None:
            x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        x = F.conv2d(x, self.weight, self.bias, padding=0 if self.depthwise is not None else 1)
        # Cast, for under autocast the sum and whatever follows it would be in float32 again.
        return F.leaky_relu(x if noise_map is None else x + noise_map.to(x.dtype), SLOPE)

    def forward(self, x: Tensor, w: Tensor, noise: Noise) -> Tensor:
        """x [n, inputs, side, side], w [n, w_dim] -> [n, outputs, side, side]."""
        return self.styled(x, self.affine(w), self.noise_map(noise, len(x)))


class Block(nn.Module):
    """Double the resolution by an inverse wavelet transform, then two styled layers."""

    def __init__(self, w_dim: int, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.up = nn.Linear(w_dim, inputs)
        self.conv1 = StyledLayer(w_dim, inputs // 4, outputs, side)
        self.conv2 = StyledLayer(w_dim, outputs, outputs, side)

    def forward(self, x: Tensor, styles: Sequence[Tensor], noise_maps: Sequence[Tensor | None]) -> Tensor:
        """x [n, inputs, side/2, side/2] -> [n, outputs, side, side], with the styles of ``up`` and of both layers."""
        x = inverse_haar(x * styles[0][:, :, None, None])
        return self.conv2.styled(self.conv1.styled(x, styles[1], noise_maps[0]), styles[2], noise_maps[1])


class MobileNetwork(Generator):
    """A generator but for its synthesis, with ``channels[0]`` at 4 px and ``channels[b + 1]`` at ``8 * 2**b`` px.

    The image is twice as large as the last block, since that block predicts wavelet coefficients of it.
    W+ layer 0 acts at 4 px; layers 1 + 2b and 2 + 2b at ``8 * 2**b``; the last one on the image head.
    """

    def __init__(self, name: str, channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128, 64), dim: int = 512):
        sides = tuple(8 << block for block in range(len(channels) - 1))
        resolution = 2 * sides[-1]
        super().__init__(name, resolution, (4, *(side for side in sides for _ in range(2)), resolution), dim, dim)
        self.channels = channels
        self.mapping_network = Mapping(dim)
        self.const = nn.Parameter(torch.zeros(1, channels[0], 4, 4))
        self.conv1 = StyledLayer(dim, channels[0], channels[0], 4, separable=False)
        self.blocks = nn.ModuleList(
            Block(dim, inputs, outputs, side)
            for inputs, outputs, side in zip(channels, channels[1:], sides, strict=False)
        )
        self.to_img = nn.Linear(dim, channels[-1])
        self.to_img_weight = nn.Parameter(torch.zeros(12, channels[-1], 1, 1))
        self.to_img_bias = nn.Parameter(torch.zeros(12))
        self.requires_grad_(False)

    def mapping(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z [n, 512] to w [n, 512]; there are no classes, so ``label`` must be None."""
        self._check_label(label, len(z))
        w: Tensor = self.mapping_network(z)
        return w

    def layers(self) -> Iterator[StyledLayer]:
        """The styled layers after the first one."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield from (block.conv1, block.conv2)

    def sites(self) -> Iterator[tuple[str, int, nn.Linear]]:
        """(name, index of the w it takes, affine) of each modulation, in drawing order.

        ``up`` and ``conv1`` of a block share one w.
        """
        yield "b4.conv1", 0, self.conv1.affine
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            first = 1 + 2 * index
            yield f"b{8 << index}.up", first, block.up
            yield f"b{8 << index}.conv1", first, block.conv1.affine
            yield f"b{8 << index}.conv2", first + 1, block.conv2.affine
        yield f"b{self.resolution}.to_img", self.num_ws - 1, self.to_img

    def draw(self, x: Tensor, styles: Sequence[Tensor], noise_maps: Sequence[Tensor | None], bands: int) -> Tensor:
        """The blocks and the image head in plain PyTorch.

        Args:
            x: [n, channels[0], 4, 4], the first layer's result.
            styles: [n, channels] of each modulation after the first layer's.
            noise_maps: of each layer after the first.
            bands: 12 for the image; 3 for half its LL band, [n, 3, H/2, W/2].
        """
        for index, block in enumerate(self.blocks):
            x = block(x, styles[3 * index : 3 * index + 3], noise_maps[2 * index : 2 * index + 2])
        x = x * styles[-1][:, :, None, None]
        if bands == 3:
            return F.conv2d(x, self.to_img_weight[:3] * 0.5, self.to_img_bias[:3] * 0.5)
        return inverse_haar(F.conv2d(x, self.to_img_weight, self.to_img_bias)).contiguous()

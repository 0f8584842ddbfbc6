"""MobileStyleGAN: StyleGAN2 distilled into depthwise-separable convolutions that predict wavelet coefficients.

Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis", 2021.
This is the inference form: demodulation is static and folded into the weights, noise strengths into fixed noise maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops import mobile_fused
from facelatent.stylegan_ops.generator import Generator, Noise, check_noise, pooled
from facelatent.stylegan_ops.openvino_ir import OpenVinoIR

SLOPE = 0.2


def inverse_haar(coefficients: Tensor) -> Tensor:
    """Inverse 2-D Haar transform: [n, 4C, h, w] -> [n, C, 2h, 2w].

    The first C channels are the LL band; the other 3C are (LH, HL, HH) of each channel in turn.
    """
    n, channels, h, w = coefficients.shape
    c = channels // 4
    low = coefficients[:, :c] * 0.5
    lh, hl, hh = (coefficients[:, c:].reshape(n, c, 3, h, w) * 0.5).unbind(2)
    above, below = low + lh, low - lh
    across, other = hl + hh, hl - hh
    corners = torch.stack([above + across, above - across, below + other, below - other], dim=2)
    return F.pixel_shuffle(corners.reshape(n, channels, h, w), 2)


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
        return F.leaky_relu(x if noise_map is None else x + noise_map, SLOPE)

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


class MobileStyleGAN(Generator):
    """MobileStyleGAN with ``channels[0]`` at 4 px and ``channels[b + 1]`` at ``8 * 2**b`` px.

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

    def synthesis(self, ws: Tensor, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """Draw images; see :meth:`Generator.synthesis`."""
        check_noise(noise)
        size = self.resolution if resolution is None else resolution
        codes = ws.unbind(1)
        x = self.conv1(self.const.expand(len(ws), -1, -1, -1), codes[0], noise)
        styles = [site(codes[index]) for index, site in self.sites()]
        noise_maps = [layer.noise_map(noise, len(ws)) for layer in self.layers()]
        # Half the LL band is the exact 2x2 mean of the image: smaller pictures never need the full one.
        bands = 12 if size == self.resolution else 3
        if mobile_fused.fits(self, x, noise_maps):
            image = mobile_fused.draw(self, x, torch.cat(styles, 1), noise_maps, bands)
        else:
            image = self.draw(x, styles, noise_maps, bands)
        return pooled(image, size, self.resolution)

    def layers(self) -> Iterator[StyledLayer]:
        """The styled layers after the first one."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield from (block.conv1, block.conv2)

    def sites(self) -> Iterator[tuple[int, nn.Linear]]:
        """Modulations after the first layer's, each with its W+ layer: ``up`` and ``conv1`` of a block share one."""
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            first = 1 + 2 * index
            yield from ((first, block.up), (first, block.conv1.affine), (first + 1, block.conv2.affine))
        yield self.num_ws - 1, self.to_img

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
        return inverse_haar(F.conv2d(x, self.to_img_weight, self.to_img_bias))


def read_random_face(folder: Path, name: str) -> MobileStyleGAN:
    """Build the network from the four OpenVINO files of the PyPI package ``random_face`` in ``folder``.

    Raises:
        UnsupportedCheckpoint: the files do not hold this architecture.
    """
    generator = MobileStyleGAN(name)
    state = dict(_mapping_weights(OpenVinoIR(folder / "MappingNetwork.xml", folder / "MappingNetwork.bin")))
    state |= dict(_synthesis_weights(OpenVinoIR(folder / "SynthesisNetwork.xml", folder / "SynthesisNetwork.bin")))
    target = generator.state_dict()
    expected = {key for key in target if not key.startswith("w_")}
    if state.keys() != expected:
        raise UnsupportedCheckpoint(f"{folder}: weights missing or unknown: {sorted(state.keys() ^ expected)[:5]}")
    for key, value in state.items():
        target[key].copy_(torch.from_numpy(np.array(value, np.float32)).reshape(target[key].shape))
    generator.measure_w()
    return generator


def _mapping_weights(graph: OpenVinoIR) -> Iterator[tuple[str, np.ndarray]]:
    for index, key in enumerate(key for key, kind in graph.types.items() if kind == "MatMul"):
        weight = graph.constant_input(key)
        bias = graph.constant_input(graph.next_layer(key, "Add"))
        if weight is None or bias is None:
            raise UnsupportedCheckpoint("MappingNetwork.xml: a linear layer without constant weights")
        yield f"mapping_network.layers.{index}.weight", weight
        yield f"mapping_network.layers.{index}.bias", bias


def _synthesis_weights(graph: OpenVinoIR) -> Iterator[tuple[str, np.ndarray]]:
    constants = graph.constants("m.")
    if "m.input.input" not in constants:
        raise UnsupportedCheckpoint("SynthesisNetwork.xml: no constant 'm.input.input'")
    yield "const", constants["m.input.input"]
    for name, value in constants.items():
        if ".modulation." in name:
            yield _affine_name(name), value
    convolutions = [key for key, kind in graph.types.items() if kind in ("Convolution", "GroupConvolution")]
    layers = ["conv1", *(f"blocks.{block}.conv{conv}" for block in range(7) for conv in (1, 2)), "to_img"]
    depthwise: np.ndarray | None = None
    for key in convolutions:
        weight = graph.constant_input(key)
        if weight is None:
            raise UnsupportedCheckpoint("SynthesisNetwork.xml: a convolution without constant weights")
        if graph.types[key] == "GroupConvolution":
            depthwise = weight
            continue
        layer = layers.pop(0)
        # The style of each convolution carries 1 / sqrt(Cin k^2) (equalised learning rate); k = 3 for separable pairs.
        kernel = 1 if layer == "to_img" else 3
        weight = weight / math.sqrt(weight.shape[1] * kernel * kernel)
        first = graph.next_layer(key, "Add")
        addend = graph.constant_input(first)
        if layer == "to_img":
            yield "to_img_weight", weight
            yield "to_img_bias", addend if addend is not None else constants["m.layers.6.to_img.bias"]
            continue
        yield f"{layer}.weight", weight
        if depthwise is not None:
            yield f"{layer}.depthwise", depthwise
        bias = graph.constant_input(graph.next_layer(first, "Add"))
        if addend is None or bias is None:
            raise UnsupportedCheckpoint("SynthesisNetwork.xml: a convolution without its noise map and bias")
        yield f"{layer}.noise", addend
        yield f"{layer}.bias", bias


def _affine_name(name: str) -> str:
    """``m.layers.3.conv1.conv.modulation.weight`` -> ``blocks.3.conv1.affine.weight``."""
    site, kind = name.removeprefix("m.").split(".modulation.")
    site = site.removesuffix(".conv").replace("layers.6.to_img", "to_img").replace("layers.", "blocks.")
    return f"{site}.{kind}" if site.endswith(("up", "to_img")) else f"{site}.affine.{kind}"

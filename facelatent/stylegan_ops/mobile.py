"""MobileStyleGAN: StyleGAN2 distilled into depthwise-separable convolutions that predict wavelet coefficients.

Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis", 2021.
This is the inference form: demodulation is static and folded into the weights, noise strengths into fixed noise maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops import mobile_fused
from facelatent.stylegan_ops.generator import Noise, Styles, check_noise, check_styles, pooled
from facelatent.stylegan_ops.mobile_network import MobileNetwork
from facelatent.stylegan_ops.openvino_ir import OpenVinoIR


class MobileStyleGAN(MobileNetwork):
    """MobileStyleGAN: a StyleGAN2 distilled into depthwise convolutions that predict wavelet coefficients.

    W+ layer 0 acts at 4 px; layers 1 + 2b and 2 + 2b at ``8 * 2**b``; the last one on the image head.

    Args:
        name: what it is called.
        channels: feature maps at 4 px, then at ``8 * 2**b`` px; the picture is twice as large as the last.
        dim: size of z and w.
    """

    def synthesis(self, ws: Tensor, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """Draw images; see :meth:`Generator.synthesis`."""
        return self.draw_styles(self.styles(ws), noise, resolution)

    @property
    def style_names(self) -> tuple[str, ...]:
        """See :attr:`Generator.style_names`."""
        return tuple(name for name, _, _ in self.sites())

    def styles(self, ws: Tensor) -> Styles:
        """See :meth:`Generator.styles`."""
        codes = ws.unbind(1)
        return {name: site(codes[index]) for name, index, site in self.sites()}

    def draw_styles(self, styles: Styles, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """See :meth:`Generator.draw_styles`."""
        check_noise(noise)
        check_styles(styles, {name: len(site.bias) for name, _, site in self.sites()})
        first, *others = (styles[name] for name in self.style_names)
        size, count = self.resolution if resolution is None else resolution, len(first)
        x = self.conv1.styled(self.const.expand(count, -1, -1, -1), first, self.conv1.noise_map(noise, count))
        noise_maps = [layer.noise_map(noise, count) for layer in self.layers()]
        # Half the LL band is the exact 2x2 mean of the image: smaller pictures never need the full one.
        bands = 12 if size == self.resolution else 3
        if mobile_fused.fits(self, x, noise_maps):
            image = mobile_fused.draw(self, x, torch.cat(others, 1), noise_maps, bands)
        else:
            image = self.draw(x, others, noise_maps, bands)
        return pooled(image, size, self.resolution)


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

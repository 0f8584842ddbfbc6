"""StyleGAN2: the generator of most public face checkpoints.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020 (weight demodulation, skip generator) and
"Training Generative Adversarial Networks with Limited Data", 2020 (class conditions, half-precision blocks).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from facelatent.stylegan_ops import stylegan2_fused
from facelatent.stylegan_ops.backend import chosen
from facelatent.stylegan_ops.generator import Generator, Noise, Styles, check_noise, check_styles, pooled
from facelatent.stylegan_ops.stylegan2_network import Mapping, StyleGAN2Config, Synthesis

#: What half precision limits activations to, as in training.
HALF_CLAMP = 256.0

_LAZY_STATISTICS = ("w_std", "w_components", "w_scales")


class StyleGAN2(Generator):
    """StyleGAN2 of any resolution, width and number of classes.

    W+ layer 0 acts at 4 px; layers 2b + 1 and 2b + 2 at ``8 * 2**b`` px; the last one on the full-size colours.

    ``w_std``, ``w_components`` and ``w_scales`` are measured when first asked for: it takes seconds, and drawing does
    not need them. :attr:`measured` says whether they are known.

    Args:
        name: what it is called.
        config: its shape.
    """

    measured = True

    def __init__(self, name: str, config: StyleGAN2Config) -> None:
        sides = config.sides
        layer_resolutions = (4, *(side for side in sides[1:] for _ in range(2)), sides[-1])
        super().__init__(name, config.resolution, layer_resolutions, config.z_dim, config.w_dim)
        self.config = config
        self.label_dim = config.label_dim
        self.mapping_network = Mapping(config)
        self.synthesis_network = Synthesis(config)
        self.requires_grad_(False)
        self.measured = False

    def __getattr__(self, name: str) -> Any:
        # nn.Module keeps buffers where only this method finds them.
        if name in _LAZY_STATISTICS and not self.measured:
            self.measure_w()
        return super().__getattr__(name)

    def measure_w(self) -> None:
        """As :meth:`Generator.measure_w`, but ``w_avg`` stays what the checkpoint says."""
        self.measured = True
        average = self.w_avg.clone()
        super().measure_w()
        self.w_avg.copy_(average)

    def mapping(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z [n, z_dim] to w [n, w_dim].

        Args:
            z: standard normal.
            label: [n, classes], one-hot (or a mixture), where the generator has classes.

        Raises:
            ValueError: a label is missing, or given to a generator without classes.
        """
        self._check_label(label, len(z))
        w: Tensor = self.mapping_network(z, label)
        return w

    def synthesis(self, ws: Tensor, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """Draw images; see :meth:`Generator.synthesis`."""
        return self.draw_styles(self.styles(ws), noise, resolution)

    @property
    def style_names(self) -> tuple[str, ...]:
        """See :attr:`Generator.style_names`."""
        return tuple(name for name, _, _ in self.synthesis_network.named_layers())

    def styles(self, ws: Tensor) -> Styles:
        """See :meth:`Generator.styles`."""
        return {name: layer.affine(ws[:, index]) for name, index, layer in self.synthesis_network.named_layers()}

    def draw_styles(self, styles: Styles, noise: Noise = "const", resolution: int | None = None) -> Tensor:
        """See :meth:`Generator.draw_styles`."""
        check_noise(noise)
        check_styles(styles, {name: len(layer.affine.bias) for name, _, layer in self.synthesis_network.named_layers()})
        size = self.resolution if resolution is None else resolution
        kind = chosen(self.backend, self.device)
        if kind == "reference" or not stylegan2_fused.fits(self.synthesis_network, styles):
            images = self.synthesis_network(styles, noise)
        else:
            images = stylegan2_fused.draw(self.synthesis_network, styles, noise, kind)
        return pooled(images, size, self.resolution)

    def set_precision(self, dtype: torch.dtype, blocks: int | None = None) -> None:
        """Draw the largest ``blocks`` resolutions in ``dtype``; weights stay float32.

        Args:
            dtype: float16, bfloat16, or float32 to undo.
            blocks: how many; by default as many as in training, or 4 if that was done in float32. Blocks of 4 px
                never change. Activations are clamped to 256 unless the checkpoint says otherwise.

        Raises:
            ValueError: another dtype.
        """
        if dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"precision must be float32, float16 or bfloat16, got {dtype}")
        network = self.synthesis_network
        count = (self.config.half_blocks or 4) if blocks is None else blocks
        first = max(len(network.blocks) - count, 1)
        for index, (_, block) in enumerate(network.resolutions()):
            block.dtype = dtype if index >= first else torch.float32
        limited = self.config.conv_clamp is None and dtype != torch.float32
        network.clamp = HALF_CLAMP if limited else self.config.conv_clamp

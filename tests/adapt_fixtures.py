"""What the tests of adaptation share: guidance without weights, references, small generators."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from facelatent.domain_adapt import Reference
from facelatent.domain_adapt.guidance import VggGuidance
from facelatent.domain_adapt.parts import portrait_parts
from facelatent.images import to_tensor
from facelatent.inversion.perceptual import Features
from facelatent.stylegan_ops import StyleGAN2, StyleGAN2Config, channels_for


def blind_network() -> Features:
    """VGG16 with random weights that keep variances."""
    random = torch.Generator().manual_seed(0)
    network = Features("vgg").requires_grad_(False)
    for weight in network.parameters():
        scale = (2 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else 0.0
        weight.copy_(torch.randn(weight.shape, generator=random) * scale)
    return network


def blind_guidance() -> VggGuidance:
    """Guidance that has never seen a picture."""
    return VggGuidance(blind_network())


def painting(size: tuple[int, int] = (256, 256), seed: int = 0) -> Image.Image:
    """Smooth blots of ochre and green."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(noise // 2 + np.array([90, 60, 10], np.uint8)).resize(size, Image.Resampling.BICUBIC)


def reference(seed: int = 0) -> Reference:
    """A prepared one, without looking for a face."""
    image = painting(seed=seed)
    return Reference(to_tensor(image), portrait_parts(np.asarray(image), None), False)


def small_stylegan2() -> StyleGAN2:
    """64 px, in the layout and proportions of the large ones, random weights as at the start of training."""
    random = torch.Generator().manual_seed(0)
    config = StyleGAN2Config(channels_for(64, 2048, 32), z_dim=64, w_dim=64, mapping_layers=2)
    generator = StyleGAN2("small", config)
    for name, value in generator.state_dict().items():
        if name.startswith("w_"):
            continue
        scale, offset = 1.0, 1.0 if name.endswith("affine.bias") else 0.0
        if name.endswith(("bias", "noise_strength")):
            scale = 0.05
        elif name.startswith("mapping_network"):
            scale = 100.0
        value.copy_(torch.randn(value.shape, generator=random) * scale + offset)
    return generator.eval()

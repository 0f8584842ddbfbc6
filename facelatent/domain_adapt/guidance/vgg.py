"""VGG16 as guidance: what the package registry carries, so that adapting needs nothing from a model hub."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.domain_adapt.guidance.interface import Described
from facelatent.domain_adapt.pictures import resized
from facelatent.inversion.perceptual import Features, half_precision, load_lpips

#: Side in pixels at which pictures are described.
SIDE = 256
#: Stages of VGG16 that are used: their last activations are relu1_2, relu2_2, relu3_3 and relu4_3.
STAGES = 4


class VggGuidance:
    """VGG16 trained on ImageNet.

    Args:
        network: its convolutions; those that LPIPS uses if None.
        device: where to compute.
        layer: the stage, from 0, whose places are the tokens.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """

    name = "vgg16"

    def __init__(
        self, network: Features | None = None, device: str | torch.device = "cpu", layer: int = STAGES - 1
    ) -> None:
        self._network = (network or load_lpips("vgg").features).to(device)
        self._layer = layer
        self.version = f"{self.name} {layer}"

    def maps(self, images: Tensor) -> list[Tensor]:
        """Activations of the four stages: [n, 64, 256, 256], [n, 128, 128, 128] ..., float32."""
        x = resized(images, SIDE).contiguous(memory_format=torch.channels_last)
        with half_precision(x.device):
            return [found.float() for found in self._network(x, STAGES)]

    def __call__(self, images: Tensor) -> Described:
        """See :class:`~facelatent.domain_adapt.guidance.interface.Guidance`."""
        maps = self.maps(images)
        embedding = torch.cat([F.normalize(found.mean((2, 3)), dim=1) for found in maps], 1)
        return Described(F.normalize(embedding, dim=1), maps[self._layer].flatten(2).transpose(1, 2))

"""LPIPS: a distance between pictures that agrees with people.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018; version 0.1 heads on
AlexNet ("alex", what papers report) and VGG16 ("vgg", the smoother loss).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.assets import asset_path, converted, load_numpy_pickle

Net = Literal["alex", "vgg"]

# ImageNet normalisation, restated for inputs in [-1, 1] as the LPIPS authors do.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

# One entry a stage whose last activation is compared: its convolutions (outputs, kernel, stride, padding), and the
# max pooling (kernel, stride) before it.
_Conv = tuple[int, int, int, int]
_Stage = tuple[tuple[int, int] | None, tuple[_Conv, ...]]
_STAGES: dict[str, tuple[_Stage, ...]] = {
    "alex": (
        (None, ((64, 11, 4, 2),)),
        ((3, 2), ((192, 5, 1, 2),)),
        ((3, 2), ((384, 3, 1, 1),)),
        (None, ((256, 3, 1, 1),)),
        (None, ((256, 3, 1, 1),)),
    ),
    "vgg": (
        (None, ((64, 3, 1, 1),) * 2),
        ((2, 2), ((128, 3, 1, 1),) * 2),
        ((2, 2), ((256, 3, 1, 1),) * 3),
        ((2, 2), ((512, 3, 1, 1),) * 3),
        ((2, 2), ((512, 3, 1, 1),) * 3),
    ),
}


class Features(nn.Module):
    """The convolutional part of AlexNet or VGG16, cut into the five stages that LPIPS compares."""

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self.stages = nn.ModuleList()
        channels = 3
        for pool, convolutions in _STAGES[net]:
            layers: list[nn.Module] = [nn.MaxPool2d(*pool)] if pool else []
            for outputs, kernel, stride, padding in convolutions:
                layers += [nn.Conv2d(channels, outputs, kernel, stride, padding), nn.ReLU()]
                channels = outputs
            self.stages.append(nn.Sequential(*layers))

    def forward(self, images: Tensor, stages: int | None = None) -> list[Tensor]:
        """images [n, 3, H, W] in [-1, 1] -> feature maps of the first ``stages`` stages; of all five if None."""
        x = (images - self.shift) / self.scale
        maps = []
        for stage in self.stages[:stages]:
            x = stage(x)
            maps.append(x)
        return maps


class LPIPS(nn.Module):
    """LPIPS with its published weights, frozen; called with two batches [n, 3, H, W] in [-1, 1] it gives [n].

    The target's features can be computed once with :meth:`normalised` and compared with many pictures.

    Args:
        net: ``alex`` or ``vgg``, the network whose features are compared.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.features = Features(net)
        self.heads = nn.ParameterList(torch.zeros(1, stage[1][-1][0], 1, 1) for stage in _STAGES[net])

        def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
            return _read_flax(load_numpy_pickle(asset_path(f"lpips-{net}")), self), {"source": f"lpips-{net}"}

        self.load_state_dict(converted(f"lpips-{net}", 1, build)[0])
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalised(self, images: Tensor, stages: int | None = None) -> list[Tensor]:
        """Feature maps of unit length at every pixel, for :meth:`distance`; of all stages, or the first few."""
        # Autocast may have computed them in half precision.
        maps = [x.float() for x in self.features(images, stages)]
        return [x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in maps]

    def distance(self, a: list[Tensor], b: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """LPIPS [n] between two results of :meth:`normalised`.

        Args:
            a: five feature maps.
            b: likewise.
            weights: [1, 1, H, W] of mean 1: how much each place counts; equally if None.
        """
        total = torch.zeros(len(a[0]), device=a[0].device)
        for x, y, head in zip(a, b, self.heads, strict=True):
            error = F.conv2d((x - y).square(), head)
            if weights is not None:
                error = error * F.interpolate(weights, error.shape[-2:], mode="area")
            total = total + error.mean((1, 2, 3))
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS [n] between pictures a, b [n, 3, H, W] in [-1, 1]."""
        return self.distance(self.normalised(a), self.normalised(b))


def lpips(a: Tensor, b: Tensor, net: Net = "alex") -> Tensor:
    """LPIPS distance [n] between pictures a, b [n, 3, H, W], RGB in [-1, 1]; 0 means equal.

    The value depends on the resolution: papers on inversion report ``net="alex"`` at 256 px.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """
    distance: Tensor = load_lpips(net).to(a.device)(a, b)
    return distance


@cache
def load_lpips(net: Net) -> LPIPS:
    """The network, loaded once a process."""
    return LPIPS(net)


def half_precision(device: torch.device) -> torch.autocast:
    """Convolutions in bfloat16 where the CPU has instructions for it: about twice as fast.

    For networks that judge pictures and for weights that are tuned; what is drawn for a user is in float32.
    """
    native = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return torch.autocast("cpu", torch.bfloat16, enabled=native)


def _read_flax(tree: dict[str, Any], model: LPIPS) -> dict[str, Tensor]:
    """State dict of ``model`` from a Flax parameter tree (HWIO kernels)."""
    backbone = next(value for key, value in tree.items() if not key.startswith("NetLinLayer"))
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    state = {}
    for index, name in enumerate(convolutions):
        state[f"{name}.weight"] = torch.from_numpy(backbone[f"Conv_{index}"]["kernel"]).permute(3, 2, 0, 1)
        state[f"{name}.bias"] = torch.from_numpy(backbone[f"Conv_{index}"]["bias"])
    for index in range(len(model.heads)):
        head = torch.from_numpy(tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"])
        state[f"heads.{index}"] = head.permute(3, 2, 0, 1)
    return state

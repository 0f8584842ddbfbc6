"""dlib's face recognition network in PyTorch, so that a loss can ask it whether two faces are one person.

A ResNet of 29 convolutions that maps an upright chip of a face to 128 numbers; two photos of one person lie within
about 0.6 (King, "High Quality Face Recognition with Deep Metric Learning", 2017). :func:`facelatent.faces.identity`
asks dlib itself, which has no gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.assets import asset_path, converted
from facelatent.assets.dlib_file import DlibLayer, read_dlib_layers
from facelatent.errors import UnsupportedCheckpoint

#: Side in pixels of the chips that the network takes.
CHIP_SIDE = 150
#: Length of an embedding.
EMBEDDING = 128

# (input - mean) / 256, for RGB in 0..255.
_MEAN = (122.782, 117.001, 104.298)
_SCALE = 256.0
#: Channels of each residual block, and whether it halves the resolution.
_BLOCKS = (
    *((32, False),) * 3,
    (64, True),
    *((64, False),) * 3,
    (128, True),
    *((128, False),) * 2,
    (256, True),
    *((256, False),) * 2,
    (256, True),
)


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; dlib adds maps of unlike shape by filling the smaller up with zeros."""

    def __init__(self, inputs: int, channels: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = nn.Conv2d(inputs, channels, 3, 2 if down else 1, 0 if down else 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        shortcut = F.avg_pool2d(x, 2) if self.down else x
        shape = [max(sizes) for sizes in zip(y.shape[1:], shortcut.shape[1:], strict=True)]
        return F.relu(_filled(y, shape) + _filled(shortcut, shape))


def _filled(x: Tensor, shape: list[int]) -> Tensor:
    """x [n, c, h, w] with zeros after its channels, rows and columns up to ``shape``."""
    missing = [wanted - size for wanted, size in zip(shape, x.shape[1:], strict=True)]
    return F.pad(x, [number for count in reversed(missing) for number in (0, count)]) if any(missing) else x


class DlibFace(nn.Module):
    """dlib's ``dlib_face_recognition_resnet_model_v1``; the affine layers are folded into the convolutions."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Conv2d(3, 32, 7, 2)
        widths = (32, *(channels for channels, _ in _BLOCKS))
        self.blocks = nn.Sequential(
            *(_Block(inputs, channels, down) for inputs, (channels, down) in zip(widths[:-1], _BLOCKS, strict=True))
        )
        self.head = nn.Linear(widths[-1], EMBEDDING, bias=False)

    def forward(self, chips: Tensor) -> Tensor:
        """Chips [n, 3, 150, 150], RGB in [-1, 1], as dlib cuts them -> embeddings [n, 128]."""
        x = ((chips + 1) * 127.5 - self.mean) / _SCALE
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        embeddings: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return embeddings

    def convolutions(self) -> Iterator[tuple[str, nn.Conv2d]]:
        """Every convolution with its name, from input to output."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                yield name, module


@cache
def load_dlib_face() -> DlibFace:
    """The network with its published weights, frozen; loaded once a process.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        layers = read_dlib_layers(asset_path("face-identity"))
        return state_from(layers), {"source": "face-identity"}

    network = DlibFace()
    network.load_state_dict(converted("face-identity", 1, build)[0])
    return network.requires_grad_(False).eval()


def state_from(layers: list[DlibLayer]) -> dict[str, Tensor]:
    """State dict of :class:`DlibFace` from the layers of dlib's file.

    Raises:
        UnsupportedCheckpoint: they are not that network's.
    """
    with torch.device("meta"):
        network = DlibFace()
    state: dict[str, Tensor] = {}
    convolutions = list(network.convolutions())
    names = [name for _ in convolutions for name in ("con_4", "affine_")]
    if [layer.name for layer in layers] != [*names, "fc_2"]:
        raise UnsupportedCheckpoint(f"not dlib's face recognition network: it has {len(layers)} layers with weights")
    for (name, module), convolution, affine in zip(convolutions, layers[0:-1:2], layers[1:-1:2], strict=True):
        state |= {f"{name}.{key}": value for key, value in _folded(module, convolution, affine).items()}
    state["head.weight"] = _shaped(layers[-1].values, (network.head.in_features, EMBEDDING)).T.contiguous()
    return state


def _folded(module: nn.Conv2d, convolution: DlibLayer, affine: DlibLayer) -> dict[str, Tensor]:
    """Weight and bias of scale * (filters * x + bias) + offset."""
    expected = (module.out_channels, *module.kernel_size, *module.stride, *module.padding)
    if convolution.settings != expected:
        raise UnsupportedCheckpoint(f"a convolution of another kind: {convolution.settings}, expected {expected}")
    count = module.weight.numel()
    filters = _shaped(convolution.values[:count], tuple(module.weight.shape))
    bias = _shaped(convolution.values[count:], (module.out_channels,))
    scale, offset = _shaped(affine.values, (2, module.out_channels))
    return {"weight": filters * scale[:, None, None, None], "bias": bias * scale + offset}


def _shaped(values: Any, shape: tuple[int, ...]) -> Tensor:
    tensor = torch.from_numpy(values)
    if tensor.numel() != torch.Size(shape).numel():
        raise UnsupportedCheckpoint(f"a layer has {tensor.numel()} numbers, expected shape {list(shape)}")
    return tensor.reshape(shape)

"""IR-SE50, the network below ArcFace's embedding and below pSp's and e4e's encoders; names as in public weight files.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019 (the residual unit); Hu et al.,
"Squeeze-and-Excitation Networks", 2018.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Units and channels of the four stages; the first unit of each halves the resolution.
_STAGES = ((3, 64), (4, 128), (14, 256), (3, 512))
_REDUCTION = 16
#: Units after which pSp and e4e read feature maps: of 1/4, 1/8 and 1/16 of the input's side.
TAPS = (6, 20, 23)
#: Channels of those feature maps.
TAP_CHANNELS = (128, 256, 512)


class SqueezeExcite(nn.Module):
    """Scale each channel by what the means of all channels say (Hu et al., section 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, channels, H, W] -> the same shape."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(means))))


class Unit(nn.Module):
    """A residual unit: batch norm, two 3x3 convolutions (the second strides), squeeze and excitation."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer: nn.Sequential | None = None
        if inputs != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            SqueezeExcite(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [n, inputs, H, W] -> [n, channels, H / stride, W / stride]."""
        # Where the width stays, the shortcut is every stride-th pixel (a max pooling of one pixel in the original).
        step = self.stride
        shortcut = x[:, :, ::step, ::step] if self.shortcut_layer is None else self.shortcut_layer(x)
        y: Tensor = self.res_layer(x) + shortcut
        return y


class Backbone(nn.Module):
    """IR-SE50 without a head: the base class of the encoders and of :class:`ArcFace`."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        widths = [(count, inputs, width) for (_, inputs), (count, width) in pairwise(((0, 64), *_STAGES))]
        self.body = nn.Sequential(
            *(
                Unit(width if index else inputs, width, 1 if index else 2)
                for count, inputs, width in widths
                for index in range(count)
            )
        )

    def taps(self, images: Tensor) -> list[Tensor]:
        """images [n, 3, H, W] in [-1, 1] -> the feature maps of :data:`TAPS`."""
        x = self.input_layer(images)
        maps = []
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in TAPS:
                maps.append(x)
        return maps

    def last(self, images: Tensor) -> Tensor:
        """images [n, 3, H, W] in [-1, 1] -> [n, 512, H / 16, W / 16]."""
        features: Tensor = self.body(self.input_layer(images))
        return features


class ArcFace(Backbone):
    """The face recogniser whose weights are commonly called ``model_ir_se50.pth``."""

    #: Side of the faces that it takes, in pixels.
    input_side = 112

    def __init__(self) -> None:
        super().__init__()
        width, pixels = _STAGES[-1][1], (self.input_side // 16) ** 2
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(width * pixels, width),
            nn.BatchNorm1d(width),
        )

    def forward(self, faces: Tensor) -> Tensor:
        """Faces [n, 3, 112, 112], RGB in [-1, 1] -> embeddings [n, 512] of unit length."""
        return F.normalize(self.output_layer(self.last(faces)))

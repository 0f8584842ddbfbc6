"""The public encoders: IR-SE50 with heads that turn its feature maps into codes; names as in public weight files.

Richardson et al., "Encoding in Style: a StyleGAN Encoder for Image-to-Image Translation", 2021 (pSp, W and W+ from the
last layer); Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", 2021 (e4e).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.inversion.encoders.irse import TAP_CHANNELS, Backbone

#: Width of a code, and of every feature map that a style is read from.
WIDTH = 512
#: Side in pixels of the pictures that the encoders take.
INPUT_SIDE = 256
#: The first style that reads each map, from the coarsest to the finest, and the side of that map.
_LEVELS = ((0, 16), (3, 32), (7, 64))


class EqualLinear(nn.Module):
    """A linear layer whose weights are scaled by 1 / sqrt(inputs) when used (equalised learning rate)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        if not self.weight.is_meta:  # where loaders build networks, a normal draw would import a second of compilers
            nn.init.normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, inputs] -> [n, outputs]."""
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


class MapToStyle(nn.Module):
    """One code from a feature map: convolutions of stride 2 until one pixel is left, then a linear layer."""

    def __init__(self, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(side))):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, 2, 1), nn.LeakyReLU()]
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, 512, side, side] -> [n, 512]."""
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code


class _Pyramid(Backbone):
    """What pSp and e4e share: a pyramid of three feature maps, and one style head for each W+ layer."""

    def __init__(self, num_ws: int) -> None:
        super().__init__()
        self.num_ws = num_ws
        self.styles = nn.ModuleList(MapToStyle(_LEVELS[_level(index)][1]) for index in range(num_ws))
        self.latlayer1 = nn.Conv2d(TAP_CHANNELS[1], WIDTH, 1)
        self.latlayer2 = nn.Conv2d(TAP_CHANNELS[0], WIDTH, 1)

    def style_codes(self, images: Tensor, count: int) -> Tensor:
        """The first ``count`` heads' codes [n, count, 512]; finer levels of the pyramid only where they are read."""
        fine, middle, coarse = self.taps(images)
        levels = [coarse]
        for (first, _), lateral, tap in zip(_LEVELS[1:], (self.latlayer1, self.latlayer2), (middle, fine), strict=True):
            if count > first:
                above = F.interpolate(levels[-1], tap.shape[-2:], mode="bilinear", align_corners=True)
                levels.append(above + lateral(tap))
        codes = [style(levels[_level(index)]) for index, style in enumerate(self.styles) if index < count]
        return torch.stack(codes, dim=1)


def _level(index: int) -> int:
    """Which of :data:`_LEVELS` a style reads."""
    return sum(index >= first for first, _ in _LEVELS[1:])


class PspEncoder(_Pyramid):
    """pSp's GradualStyleEncoder: each head gives the code of its layer."""

    def forward(self, images: Tensor) -> Tensor:
        """images [n, 3, 256, 256] in [-1, 1] -> codes [n, num_ws, 512], to which the mean w is added."""
        return self.style_codes(images, self.num_ws)


class E4eEncoder(_Pyramid):
    """e4e's Encoder4Editing: the first head gives one w, the others what their layers differ from it by.

    Its weights have the same names and shapes as pSp's, and mean something else.

    Attributes:
        stage: how many layers after the first may differ from it (progressive training); None means all of them.
    """

    def __init__(self, num_ws: int, stage: int | None = None) -> None:
        super().__init__(num_ws)
        self.stage = stage

    def forward(self, images: Tensor) -> Tensor:
        """images [n, 3, 256, 256] in [-1, 1] -> codes [n, num_ws, 512], to which the mean w is added."""
        count = self.num_ws if self.stage is None else min(self.stage + 1, self.num_ws)
        codes = self.style_codes(images, count)
        w, deltas = codes[:, :1], codes[:, 1:]
        return w + F.pad(deltas, (0, 0, 1, self.num_ws - count))


class WEncoder(Backbone):
    """pSp's BackboneEncoderUsingLastLayerIntoW: one w for all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = EqualLinear(WIDTH, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """images [n, 3, 256, 256] in [-1, 1] -> [n, 512], to which the mean w is added."""
        code: Tensor = self.linear(self.last(images).mean((2, 3)))
        return code


class WPlusEncoder(Backbone):
    """pSp's BackboneEncoderUsingLastLayerIntoWPlus: all layers' codes from the last feature map."""

    def __init__(self, num_ws: int) -> None:
        super().__init__()
        self.num_ws = num_ws
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(WIDTH), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(WIDTH * 7 * 7, WIDTH)
        )
        self.linear = EqualLinear(WIDTH, WIDTH * num_ws)

    def forward(self, images: Tensor) -> Tensor:
        """images [n, 3, 256, 256] in [-1, 1] -> codes [n, num_ws, 512], to which the mean w is added."""
        codes: Tensor = self.linear(self.output_layer_2(self.last(images)))
        return codes.reshape(-1, self.num_ws, WIDTH)

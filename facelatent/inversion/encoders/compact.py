"""Our own encoder: small, linear but for VGG16, and looking again at what it found.

A picture is described by pooled VGG16 features, and a linear map of low rank turns them into a code. Then the encoder
*looks*: the generator draws the code, and the code moves a fixed length down the gradient of LPIPS and squared error,
each coordinate divided by its sensitivity, which was measured in training as the lengths were. That is what ReStyle's
later passes are for (Alaluf et al., "ReStyle", 2021); a linear map from what still differs would learn nothing, since
what a difference means depends on the face. VGG16 is the one that LPIPS uses and is not part of the file, which
therefore stays small. ``facelatent train-encoder`` makes one for any generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.files import save_tensors
from facelatent.inversion.encoders.bundle import FORMAT
from facelatent.inversion.encoders.home import Home
from facelatent.inversion.perceptual import half_precision, load_lpips
from facelatent.stylegan_ops import Generator

#: Side in pixels at which pictures are described.
SIDE = 128
#: VGG16's stages (of five, from 0) that describe a picture, their channels, and the grid that each is averaged on.
_STAGES = ((1, 128, 8), (2, 256, 8), (3, 512, 4))
#: Length of a description.
DESCRIPTION = sum(channels * grid * grid for _, channels, grid in _STAGES)
#: Side to which looks draw: pictures at it are averaged down to :data:`SIDE`.
DRAWN_SIDE = 256
#: Of a look's loss, at :data:`SIDE` px: the mean squared error beside LPIPS (VGG16).
_PIXELS = 2.0
#: What is left of a look's movement in the next.
_MOMENTUM = 0.7


def describe(images: Tensor) -> Tensor:
    """VGG16's features, of unit length at every place, averaged on a grid of each stage.

    Args:
        images: [n, 3, H, W], RGB in [-1, 1]; averaged to :data:`SIDE` px.

    Returns:
        [n, :data:`DESCRIPTION`], with gradients to ``images``; computed in :func:`half_precision`.

    Raises:
        AssetUnavailable: VGG16's weights are not cached and cannot be fetched.
    """
    network = load_lpips("vgg").to(images.device)
    with half_precision(images.device):
        maps = network.normalised(_small(images), _STAGES[-1][0] + 1)
    return _description(maps)


def _small(images: Tensor) -> Tensor:
    return F.interpolate(images, (SIDE, SIDE), mode="area").contiguous(memory_format=torch.channels_last)


def _description(maps: list[Tensor]) -> Tensor:
    """What :func:`describe` makes of the network's maps."""
    return torch.cat([F.adaptive_avg_pool2d(maps[stage], grid).flatten(1) for stage, _, grid in _STAGES], 1)


def draw_small(generator: Generator, ws: Tensor) -> Tensor:
    """Pictures [n, 3, H, H] of codes [n, num_ws, 512], at most :data:`DRAWN_SIDE` px; not clipped."""
    side = min(DRAWN_SIDE, generator.resolution)
    # One at a time is no slower on a CPU, and needs the memory of one.
    parts = torch.split(ws, 1) if ws.device.type == "cpu" else [ws]
    return torch.cat([generator.synthesis(part, resolution=side) for part in parts])


class LowRank(nn.Sequential):
    """A linear map through ``rank`` numbers: [n, inputs] -> [n, outputs]."""

    def __init__(self, inputs: int, rank: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs))


class CompactEncoder(nn.Module):
    """Pictures to W+ codes; an :class:`~facelatent.inversion.encoders.Encoder`.

    Attributes:
        name: what it is called.
        num_ws: W+ layers of its codes.
        input_side: side of the pictures that it sees; others are averaged to it.
        map: from descriptions to whitened coordinates.
        w_avg: [512] the code that whitened coordinates of zero stand for.
        basis: [components, 512] one whitened coordinate each: ``w = w_avg + v @ basis``.
        sensitivity: [num_ws * components] root mean square of the loss's gradient by each coordinate.
        lengths: [looks] how far each look moves, in whitened coordinates.
        home: the generator that the codes are for.
    """

    w_avg: Tensor
    basis: Tensor
    sensitivity: Tensor
    lengths: Tensor

    def __init__(self, name: str, home: Home, w_avg: Tensor, basis: Tensor, rank: int, looks: int) -> None:
        super().__init__()
        self.name = name
        self.num_ws = len(home.layer_resolutions)
        self.input_side = DRAWN_SIDE
        self.home = home
        outputs = self.num_ws * len(basis)
        self.map = LowRank(DESCRIPTION, rank, outputs)
        self.register_buffer("w_avg", w_avg)
        self.register_buffer("basis", basis)
        self.register_buffer("sensitivity", torch.ones(outputs))
        self.register_buffer("lengths", torch.zeros(looks))

    def codes(self, coordinates: Tensor) -> Tensor:
        """Whitened coordinates [n, num_ws * components] -> W+ codes [n, num_ws, 512]."""
        codes: Tensor = self.w_avg + coordinates.view(len(coordinates), self.num_ws, -1) @ self.basis
        return codes

    def coordinates(self, ws: Tensor) -> Tensor:
        """W+ codes [n, num_ws, 512] -> whitened coordinates [n, num_ws * components]; the rest of it is lost."""
        directions = self.basis / self.basis.square().sum(1, keepdim=True)
        return ((ws - self.w_avg) @ directions.T).flatten(1)

    def encode(self, images: Tensor) -> Tensor:
        """Codes of faces by the map alone, with gradients if the caller wants them; :meth:`encode_for` also looks.

        Args:
            images: [n, 3, H, W] FFHQ-aligned crops, RGB in [-1, 1].

        Returns:
            [n, num_ws, 512] W+ codes.

        Raises:
            ValueError: another shape than [n, 3, H, W].
            AssetUnavailable: see :func:`describe`.
        """
        return self.codes(self.map(describe(self._checked(images))))

    def encode_for(self, images: Tensor, generator: Generator) -> Tensor:
        """As :meth:`encode`, looking at what ``generator`` draws: codes [n, generator.num_ws, 512], without gradients.

        Raises:
            IncompatibleLatent: it is neither the encoder's own generator nor one with the same W space.
        """
        layers = self.home.layers_for(generator, self.name)
        *_, last = self.each_look(images, generator, layers)
        return self.codes(last)[:, layers]

    def each_look(self, images: Tensor, generator: Generator, layers: list[int]) -> Iterator[Tensor]:
        """Whitened coordinates [n, num_ws * components] of the map, then of every look.

        Args:
            images: [n, 3, H, W].
            generator: draws.
            layers: which of the encoder's codes are for each layer of ``generator``.
        """
        target = Target(self._checked(images))
        with torch.no_grad():
            coordinates: Tensor = self.map(target.description)
        yield coordinates
        movement = torch.zeros_like(coordinates)
        for length in self.lengths:
            gradient = self.gradient(target, coordinates, generator, layers)
            movement = self.movement(movement, gradient, length)
            coordinates = coordinates + movement
            yield coordinates

    def gradient(self, target: Target, coordinates: Tensor, generator: Generator, layers: list[int]) -> Tensor:
        """How the distance to ``target`` changes by each coordinate: [n, num_ws * components]."""
        with torch.enable_grad():
            moved = coordinates.detach().requires_grad_(True)
            distance = target.distance(self.drawn(moved, generator, layers))
            (gradient,) = torch.autograd.grad(distance.sum(), moved)
        return gradient

    def movement(self, before: Tensor, gradient: Tensor, length: float | Tensor) -> Tensor:
        """What a look adds to the coordinates, [n, num_ws * components], after one that added ``before``."""
        return _MOMENTUM * before - length * F.normalize(gradient / self.sensitivity, dim=1)

    def drawn(self, coordinates: Tensor, generator: Generator, layers: list[int]) -> Tensor:
        """Pictures of coordinates, as :func:`draw_small` gives them."""
        return draw_small(generator, self.codes(coordinates)[:, layers])

    def save(self, path: str | Path, recipe: dict[str, object] | None = None) -> None:
        """Write the encoder as a safetensors file, its map in half precision, which :func:`load_encoder` reads.

        Args:
            path: where.
            recipe: how it was trained, for the record.

        Raises:
            UnwritableOutput: the file cannot be written.
        """
        metadata = {
            "format": FORMAT,
            "kind": "encoder",
            "encoder": "compact",
            "name": self.name,
            "recipe": recipe or {},
            **self.home.described(),
        }
        state = self.state_dict()
        halves = {key: value.half() for key, value in state.items() if key.startswith("map.")}
        save_tensors(path, {**state, **halves}, metadata)

    def _checked(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"encode takes images [n, 3, H, W], got {list(images.shape)}")
        return images.to(self.w_avg)


class Target:
    """Pictures that looks compare with what was drawn, at :data:`SIDE` px.

    Args:
        images: [n, 3, H, W].

    Attributes:
        description: of the pictures; see :func:`describe`.
    """

    def __init__(self, images: Tensor) -> None:
        self._network = load_lpips("vgg").to(images.device)
        self._small = _small(images)
        with torch.no_grad(), half_precision(images.device):
            self._features = self._network.normalised(self._small)
        self.description = _description(self._features)

    def distance(self, images: Tensor) -> Tensor:
        """LPIPS (VGG16) and a share of the squared error, [n], of images [n, 3, H, H] to the pictures."""
        small = _small(images)
        with half_precision(images.device):
            features = self._network.normalised(small)
        error = (small - self._small).square().mean((1, 2, 3))
        return self._network.distance(features, self._features) + _PIXELS * error

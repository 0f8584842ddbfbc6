"""An encoder with all that it takes to use it: the mean w, and which generator its codes are for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional as F

from facelatent.files import save_tensors
from facelatent.inversion.encoders.heads import INPUT_SIDE
from facelatent.inversion.encoders.home import Home
from facelatent.stylegan_ops import Generator

EncoderKind = Literal["psp", "e4e", "w", "wplus"]

#: Version of our encoder files.
FORMAT = 1


@runtime_checkable
class Encoder(Protocol):
    """What every encoder offers, a public one or our own.

    Attributes:
        name: what it is called.
        num_ws: W+ layers of its codes.
        input_side: side in pixels of the pictures that its network sees; others are resized to it.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def num_ws(self) -> int:
        """See above."""

    @property
    def input_side(self) -> int:
        """See above."""

    def encode(self, images: Tensor) -> Tensor:
        """FFHQ-aligned crops [n, 3, H, W], RGB in [-1, 1] -> codes [n, num_ws, 512]."""

    def encode_for(self, images: Tensor, generator: Generator) -> Tensor:
        """The same for ``generator``: [n, generator.num_ws, 512]; IncompatibleLatent if the codes are for another."""


def resized(images: Tensor, side: int) -> Tensor:
    """Images [n, 3, H, W] -> [n, 3, side, side]: antialiased bilinear, squashed if not square, as pSp's scripts do."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)


class EncoderBundle(nn.Module):
    """A public encoder, ready to use; an :class:`Encoder`. Its weights are frozen.

    Attributes:
        name: of the file it was read from.
        kind: ``psp``, ``e4e``, ``w`` or ``wplus``.
        network: the encoder alone.
        num_ws: W+ layers of its codes.
        input_side: 256.
        latent_avg: [1 or num_ws, 512] what is added to the network's codes.
        home: the generator that the codes are for.
        generator: that generator, if it was in the same file; else None.
    """

    latent_avg: Tensor

    def __init__(
        self,
        name: str,
        kind: EncoderKind,
        network: nn.Module,
        latent_avg: Tensor,
        num_ws: int,
        home: Home,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.kind = kind
        self.network = network
        self.num_ws = num_ws
        self.input_side = INPUT_SIDE
        self.home = home
        self.generator = generator
        self.register_buffer("latent_avg", latent_avg)

    @property
    def generator_fingerprint(self) -> str:
        """Fingerprint of the generator that the codes are for."""
        return self.home.fingerprint

    def encode(self, images: Tensor) -> Tensor:
        """Codes of faces, with gradients if the caller wants them.

        Args:
            images: [n, 3, H, W] FFHQ-aligned crops, RGB in [-1, 1], on any device. Sizes other than 256 px are
                resized (antialiased bilinear; a picture that is not square is squashed).

        Returns:
            [n, num_ws, 512] W+ codes, the mean w added, on the encoder's device.

        Raises:
            ValueError: another shape than [n, 3, H, W].
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"encode takes images [n, 3, H, W], got {list(images.shape)}")
        codes: Tensor = self.network(resized(images.to(self.latent_avg), self.input_side))
        if codes.ndim == 2:
            codes = codes[:, None]
        return (codes + self.latent_avg).expand(-1, self.num_ws, -1)

    def encode_for(self, images: Tensor, generator: Generator) -> Tensor:
        """As :meth:`encode`, for ``generator``: codes [n, generator.num_ws, 512].

        Raises:
            IncompatibleLatent: it is neither the encoder's own generator nor one with the same W space.
        """
        layers = self.home.layers_for(generator, self.name)
        return self.encode(images)[:, layers]

    def save(self, path: str | Path) -> None:
        """Write the encoder, without its generator, as a safetensors file that :func:`load_encoder` reads.

        Raises:
            UnwritableOutput: the file cannot be written.
        """
        metadata = {
            "format": FORMAT,
            "kind": "encoder",
            "encoder": self.kind,
            "name": self.name,
            "num_ws": self.num_ws,
            **self.home.described(),
        }
        tensors = {f"encoder.{key}": value for key, value in self.network.state_dict().items()}
        save_tensors(path, {**tensors, "latent_avg": self.latent_avg}, metadata)

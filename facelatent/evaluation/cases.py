"""Pictures to evaluate on: generated faces, whose codes are known, and photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from facelatent.editing import draw
from facelatent.errors import UnreadableImage
from facelatent.photo_latents import photo_crop
from facelatent.stylegan_ops import Generator

#: Seed of the first generated face; codes of training and of boundaries have lower ones.
FIRST_SEED = 2_000_000


@dataclass(frozen=True)
class Source:
    """A picture to invert.

    Attributes:
        image: aligned crop of the generator's resolution.
        ws: [1, num_ws, 512] the code that drew it; None for a photo.
    """

    image: Image.Image
    ws: Tensor | None = None


@dataclass(frozen=True)
class Case:
    """A picture that is opened, or drawn, when its turn comes.

    Attributes:
        name: what records call it.
        label: what a sheet calls it.
        load: opens it, and may raise FacelatentError.
    """

    name: str
    label: str
    load: Callable[[], Source]


def generated_cases(
    generator: Generator, count: int, first_seed: int = FIRST_SEED, psi: float = 0.8, mixed: bool = False
) -> list[Case]:
    """Faces of the seeds from ``first_seed`` on, truncated at ``psi``; ``mixed`` as :func:`mixed_ws`."""

    def load(seed: int) -> Source:
        with torch.no_grad():
            plain = generator.broadcast(generator.sample_w(seed, psi)).contiguous()
            ws = mixed_ws(generator, seed, psi) if mixed else plain
        return Source(draw(generator, ws)[0], ws)

    return [Case(f"seed {seed}", f"seed {seed}", partial(load, seed)) for seed in range(first_seed, first_seed + count)]


def mixed_ws(generator: Generator, seed: int, psi: float) -> Tensor:
    """W+ code [1, num_ws, 512] that changes from one w to another at one to three random layers (style mixing)."""
    random = torch.Generator().manual_seed(seed)
    parts = min(int(torch.randint(2, 5, (), generator=random)), generator.num_ws)
    cuts = sorted((torch.randperm(generator.num_ws - 1, generator=random)[: parts - 1] + 1).tolist())
    z = torch.randn(parts, generator.z_dim, generator=random)
    w = generator.truncate(generator.mapping(z.to(generator.device)), psi)
    part_of_layer = [sum(layer >= cut for cut in cuts) for layer in range(generator.num_ws)]
    return w[part_of_layer][None]


def photo_cases(photos: Iterable[Path], generator: Generator, aligned: bool = False) -> list[Case]:
    """The best face of each photo, aligned; or the photos themselves if they are ``aligned`` crops already."""

    def load(photo: Path) -> Source:
        image = photo_crop(photo, generator.resolution, aligned=aligned)
        if image.width != image.height:
            raise UnreadableImage(
                f"{photo} is {image.width} x {image.height}: an aligned crop is square; do not say aligned"
            )
        return Source(image.resize((generator.resolution,) * 2, Image.Resampling.LANCZOS))

    return [Case(str(photo), photo.name[-28:], partial(load, photo)) for photo in photos]

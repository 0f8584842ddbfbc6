"""From a photo or latent to edited pictures: the steps that commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from facelatent.boundaries import Boundary, edit, edit_layers
from facelatent.errors import FacelatentError, InvalidFile
from facelatent.files import sha256_of
from facelatent.images import check_file, open_image, to_images
from facelatent.inversion import OptimizeSettings, aligned_crop, invert
from facelatent.latent import SUFFIX, Latent
from facelatent.render import strip, there_and_back
from facelatent.stylegan_ops import Generator


@dataclass(frozen=True)
class AttributeEdit:
    """One attribute at one strength.

    Attributes:
        boundary: what to change.
        alpha: strength in standard deviations.
        resolutions: first and last resolution to change; None for the boundary's own default.
    """

    boundary: Boundary
    alpha: float
    resolutions: tuple[int, int] | None = None

    def apply(self, ws: Tensor, generator: Generator) -> Tensor:
        """Edited W+ codes [n, num_ws, 512]."""
        if self.resolutions is None:
            layers = edit_layers(self.boundary, generator)
        elif not (layers := generator.layers_between(*self.resolutions)):
            sides = ", ".join(str(side) for side in sorted(set(generator.layer_resolutions)))
            raise FacelatentError(
                "no layer of {} acts at resolutions {}-{}; it has {}".format(generator.name, *self.resolutions, sides)
            )
        return edit(ws, self.boundary, self.alpha, layers)


def apply_edits(ws: Tensor, edits: Sequence[AttributeEdit], generator: Generator) -> Tensor:
    """All edits, one after another (they add up, so their order does not matter)."""
    for one in edits:
        ws = one.apply(ws, generator)
    return ws


@torch.no_grad()
def draw(generator: Generator, ws: Tensor, size: int | None = None) -> list[Image.Image]:
    """Pictures of W+ codes [n, num_ws, 512], ``size`` px square (the generator's own resolution if None)."""
    side = generator.resolution if size is None else size
    # Draw at the smallest sufficient power-of-two fraction, then scale.
    resolution = generator.resolution
    while resolution // 2 >= side:
        resolution //= 2
    images = [
        to_images(generator.synthesis(code.to(generator.device), resolution=resolution))[0]
        for code in torch.split(ws, 1)
    ]
    if side == resolution:
        return images
    return [image.resize((side, side), Image.Resampling.LANCZOS) for image in images]


def edit_strip(
    generator: Generator, ws: Tensor, boundary: Boundary, alphas: Sequence[float], size: int = 256
) -> Image.Image:
    """One face at several strengths of one attribute, side by side, labelled."""
    codes = torch.cat([AttributeEdit(boundary, alpha).apply(ws, generator) for alpha in alphas])
    labels = [f"{boundary.attribute} {alpha:+g}" if alpha else "inverted" for alpha in alphas]
    return strip(draw(generator, codes, size), labels, size)


def animation_frames(
    generator: Generator,
    ws: Tensor,
    starts: Sequence[AttributeEdit],
    ends: Sequence[AttributeEdit],
    frames: int,
    size: int = 512,
    bounce: bool = True,
    progress: bool = False,
) -> list[Image.Image]:
    """Frames of an edit that runs from ``starts`` to ``ends`` (the same attributes in the same order).

    Args:
        generator: draws them.
        ws: [1, num_ws, 512] the face.
        starts: edits of the first frame.
        ends: edits of the last frame, or of the turning point.
        frames: how many; a there-and-back loop of an odd number loses one.
        size: side in pixels.
        bounce: run there and back, so that the loop closes; speed eases at both ends.
        progress: show a progress bar.
    """
    order = there_and_back(frames) if bounce else list(range(frames))
    count = max(order) + 1
    places = np.linspace(0, 1, count) if count > 1 else np.zeros(1)
    if bounce:
        places = (1 - np.cos(np.pi * places)) / 2
    first, last = apply_edits(ws, starts, generator), apply_edits(ws, ends, generator)
    drawn = [
        draw(generator, torch.lerp(first, last, float(place)), size)[0]
        for place in tqdm(places, desc="drawing", unit="frame", disable=not progress)
    ]
    return [drawn[index] for index in order]


def latent_path(photo: Path) -> Path:
    """Where the latent of a photo is kept: beside it."""
    return photo.with_name(photo.stem + SUFFIX)


def is_latent(path: Path) -> bool:
    """Whether a path names a latent file rather than a photo."""
    return path.suffix.lower() == ".safetensors"


def photo_crop(photo: Path, size: int, face: int | None = None, aligned: bool = False) -> Image.Image:
    """The aligned crop of a photo's face at ``size`` px, or the photo itself if it is one; errors as inversion."""
    image = open_image(photo)
    return image if aligned else aligned_crop(image, size, face, str(photo)).image


def invert_photo(
    photo: Path,
    generator: Generator,
    settings: OptimizeSettings | None = None,
    face: int | None = None,
    aligned: bool = False,
    progress: bool = False,
) -> Latent:
    """Invert a photo file; arguments and errors as :func:`open_image` and :func:`facelatent.inversion.invert`."""
    return invert(
        open_image(photo),
        generator,
        aligned=aligned,
        face=face,
        settings=settings,
        photo_sha256=sha256_of(photo),
        source=str(photo),
        progress=progress,
    )


def kept_latent(
    path: Path,
    photo: Path,
    generator: Generator,
    settings: OptimizeSettings | None = None,
    face: int | None = None,
    aligned: bool = False,
) -> Latent | None:
    """The latent at ``path``, if inverting ``photo`` with these arguments would make it again; else None.

    Without ``settings`` any will do: what a user inverted with care is not thrown away for the defaults.

    Raises:
        UnreadableImage: the photo's file is missing, empty or too large; it is not decoded.
    """
    check_file(photo)
    try:
        latent = Latent.load(path)
    except InvalidFile:
        return None
    same_file = latent.photo_sha256 == sha256_of(photo) and latent.fingerprint == generator.fingerprint
    same_crop = (latent.method.get("face") or 1, latent.method.get("aligned")) == (face or 1, aligned)
    same_settings = settings is None or latent.method.get("settings") == asdict(settings)
    return latent if same_file and same_crop and same_settings else None

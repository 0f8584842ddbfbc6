"""Edits of a face: their strengths, the pictures of them, and those pictures put back into the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facelatent.boundaries import (
    SCORERS,
    Boundary,
    Goal,
    draw_edited,
    edit,
    edit_layers,
    limited,
    reach,
    region_mask,
    score_faces,
    style_shift,
)
from facelatent.errors import FacelatentError, UnknownAttribute
from facelatent.images import to_images
from facelatent.inversion import (
    PasteMask,
    paste,
    paste_mask,
    photo_mask,
    quad_crop,
)
from facelatent.latent import Latent
from facelatent.note import EDITED, GENERATED
from facelatent.render import strip
from facelatent.stylegan_ops import Generator, Styles


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
        """Edited W+ codes [n, num_ws, 512]; what the boundary changes in style space is for :func:`shift_of`."""
        return edit(ws, self.boundary, self.alpha, self.layers(generator))

    def layers(self, generator: Generator) -> list[int]:
        """W+ layers to change.

        Raises:
            FacelatentError: no layer of the generator acts at the resolutions asked for.
        """
        if self.resolutions is None:
            return edit_layers(self.boundary, generator)
        if not (layers := generator.layers_between(*self.resolutions)):
            sides = ", ".join(str(side) for side in sorted(set(generator.layer_resolutions)))
            raise FacelatentError(
                "no layer of {} acts at resolutions {}-{}; it has {}".format(generator.name, *self.resolutions, sides)
            )
        return layers


def apply_edits(ws: Tensor, edits: Sequence[AttributeEdit], generator: Generator) -> Tensor:
    """All edits, one after another (they add up, so their order does not matter)."""
    for one in edits:
        ws = one.apply(ws, generator)
    return ws


def shift_of(edits: Sequence[AttributeEdit]) -> Styles:
    """What all edits add to style space."""
    return style_shift((one.boundary, one.alpha) for one in edits)


def targeted(
    edits: Sequence[AttributeEdit],
    goals: Sequence[tuple[AttributeEdit, float | None]],
    latent: Latent,
    generator: Generator,
) -> tuple[list[AttributeEdit], list[str]]:
    """Edits of a face that bring scores to values, with the strengths that they need.

    Args:
        edits: made in any case.
        goals: edits whose strength is to be found, each with the score to reach, None for what it is unedited.
        latent: the face.
        generator: whose the boundaries are.

    Returns:
        All edits, and a line for each score that cannot be reached.

    Raises:
        UnknownAttribute: nothing measures a goal's score.
        NoFaceFound: the unedited picture has no face to measure.
    """
    names = {one.boundary.score for one, _ in goals}
    scorers = tuple(scorer for scorer in SCORERS if names & set(scorer.attributes))
    if unknown := names - {name for scorer in scorers for name in scorer.attributes}:
        raise UnknownAttribute(
            f"nothing measures {', '.join(sorted(unknown))}; 'facelatent attributes scorers' lists what is measured"
        )
    found = reach(
        generator,
        latent.ws,
        [Goal(one.boundary, value, one.layers(generator)) for one, value in goals],
        lambda images: score_faces(images, scorers),
        latent.generator_for(generator),
        [(one.boundary, one.alpha, one.layers(generator)) for one in edits],
    )
    made = [replace(one, alpha=alpha) for (one, _), alpha in zip(goals, found.alphas, strict=True)]
    missed = [
        f"{one.boundary.attribute}: {one.boundary.score} is {score:.3g}, not {wanted:.3g}, at strength {one.alpha:+.2f}"
        for one, score, wanted, far in zip(made, found.scores, found.wanted, found.missed, strict=True)
        if far
    ]
    return [*edits, *made], missed


@torch.no_grad()
def draw(generator: Generator, ws: Tensor, size: int | None = None, shift: Styles | None = None) -> list[Image.Image]:
    """Pictures of W+ codes [n, num_ws, 512], ``size`` px square (the generator's own resolution if None).

    ``shift`` is added to their styles; see :func:`shift_of`.
    """
    side = generator.resolution if size is None else size
    # Draw at the smallest sufficient power-of-two fraction, then scale.
    resolution = generator.resolution
    while resolution // 2 >= side:
        resolution //= 2
    images = [
        to_images(draw_edited(generator, code.to(generator.device), shift or {}, resolution))[0]
        for code in torch.split(ws, 1)
    ]
    if side == resolution:
        return images
    return [image.resize((side, side), Image.Resampling.LANCZOS) for image in images]


def edit_strip(
    generator: Generator, ws: Tensor, boundary: Boundary, alphas: Sequence[float], size: int = 256
) -> Image.Image:
    """One face at several strengths of one attribute, side by side, labelled."""
    edits = [AttributeEdit(boundary, alpha) for alpha in alphas]
    images = [draw(generator, one.apply(ws, generator), size, shift_of([one]))[0] for one in edits]
    labels = [f"{boundary.attribute} {alpha:+g}" if alpha else "unedited" for alpha in alphas]
    return strip(images, labels, size)


def note_of(latent: Latent) -> str:
    """What pictures of a latent say of themselves: generated if it was drawn at random, else edited."""
    return GENERATED if latent.method.get("method") == "sample" else EDITED


@dataclass(frozen=True)
class Pasted:
    """A photo with an edited face in it.

    Attributes:
        image: the photo, in its own mode.
        mask: greyscale, of its size: where and how far it was changed.
    """

    image: Image.Image
    mask: Image.Image


def draw_edits(
    latent: Latent,
    generator: Generator,
    edits: Sequence[AttributeEdit],
    size: int | None = None,
    region: str | None = None,
) -> Image.Image:
    """The picture of a face with edits, within a region of it (see :func:`~facelatent.boundaries.region_mask`)."""
    drawing = latent.generator_for(generator)
    edited = draw(drawing, apply_edits(latent.ws, edits, generator), size, shift_of(edits))[0]
    if region is None:
        return edited
    plain = draw(drawing, latent.ws, size)[0]
    return limited(plain, edited, region_mask(region, plain))


def paste_edit(
    photo: Image.Image,
    latent: Latent,
    generator: Generator,
    edits: Sequence[AttributeEdit] = (),
    region: str | None = None,
) -> Pasted:
    """The photo with its face edited; without ``edits``, with the reconstruction in the face's place.

    A style is an edit: of an adapted ``generator`` the source's picture is the unedited one.

    Args:
        photo: the photo of the latent, upright, in any mode.
        latent: the face.
        generator: draws it.
        edits: what to change.
        region: where in the face.

    Raises:
        FacelatentError: the latent has no place in a photo.
    """
    quad, whole = crop_place(latent, photo.size)
    plain = draw(latent.generator_for(generator.source), latent.ws)[0]
    if edits or generator is not generator.source:
        original = quad_crop(photo, quad, plain.width)
        edited = draw_edits(latent, generator, edits, region=region)
        mask = paste_mask([edited], plain, original, whole)
        image = paste(photo, edited, quad, plain, mask)
    else:
        mask = paste_mask([plain], whole=whole)
        image = paste(photo, plain, quad, None, mask)
    return Pasted(image, photo_mask(mask, quad, photo.size))


def paste_frames(
    photo: Image.Image, latent: Latent, generator: Generator, frames: Sequence[Image.Image]
) -> list[Image.Image]:
    """The photo with each frame of an animation of its face, all under one mask, so that nothing jumps."""
    quad, whole = crop_place(latent, photo.size)
    plain = draw(latent.generator_for(generator.source), latent.ws, frames[0].width)[0]
    original = quad_crop(photo, quad, plain.width)
    distinct = list({id(frame): frame for frame in frames}.values())
    # The mask covers what any frame changes; neighbours hardly differ.
    mask: PasteMask = paste_mask([*distinct[:: max(len(distinct) // 8, 1)], distinct[-1]], plain, original, whole)
    done = {id(frame): paste(photo, frame, quad, plain, mask) for frame in distinct}
    return [done[id(frame)] for frame in frames]


def scaled_photo(
    photo: Image.Image, latent: Latent, generator: Generator, longest: int
) -> tuple[Image.Image, Latent, int]:
    """A photo scaled down to ``longest`` px, its latent with the crop's place there, and the side to draw its face at.

    The side is the crop's, but 64 px at least and the generator's at most.
    """
    quad, _ = crop_place(latent, photo.size)
    factor = min(longest / max(photo.size), 1.0)
    size = (max(round(photo.width * factor), 1), max(round(photo.height * factor), 1))
    if size != photo.size:
        quad = (quad + 0.5) * np.divide(size, photo.size) - 0.5
        photo = photo.resize(size, Image.Resampling.LANCZOS)
    side = int(np.ceil(np.hypot(*(quad[3] - quad[0]))))
    return photo, replace(latent, quad=quad.tolist()), min(max(side, 64), generator.resolution)


def crop_place(latent: Latent, size: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Where a latent's crop lies in its photo of ``size``: corners [4, 2], and whether it is the whole photo.

    Raises:
        FacelatentError: it was not made from a photo.
    """
    if latent.quad is not None:
        return np.array(latent.quad), False
    if not latent.method.get("aligned"):
        raise FacelatentError(
            "this latent was not made from a photo: there is nothing to paste it into; leave out --paste"
        )
    right, bottom = size[0] - 0.5, size[1] - 0.5
    return np.array([[-0.5, -0.5], [-0.5, bottom], [right, bottom], [right, -0.5]]), True

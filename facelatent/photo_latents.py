"""The latent of a photo: made, kept beside it, found there again; and the photo of a latent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from facelatent.errors import FacelatentError, InvalidFile, UnwritableOutput
from facelatent.files import sha256_of
from facelatent.images import check_file, open_image, picture_suffixes
from facelatent.inversion import Recipe, aligned_crop, invert_with
from facelatent.latent import SUFFIX, Latent
from facelatent.stylegan_ops import Generator


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
    recipe: Recipe | None = None,
    face: int | None = None,
    aligned: bool = False,
    progress: bool = False,
) -> Latent:
    """Invert a photo file; arguments and errors as :func:`open_image` and :func:`facelatent.inversion.invert`."""
    return invert_with(
        recipe or Recipe(),
        open_image(photo),
        generator,
        aligned=aligned,
        face=face,
        photo_sha256=sha256_of(photo),
        source=str(photo),
        progress=progress,
    )


def kept_latent(
    path: Path,
    photo: Path,
    generator: Generator,
    recipe: Recipe | None = None,
    face: int | None = None,
    aligned: bool = False,
) -> Latent | None:
    """The latent at ``path``, if inverting ``photo`` with these arguments would make it again; else None.

    Without a ``recipe`` any will do: what a user inverted with care is not thrown away for the defaults.

    Raises:
        UnreadableImage: the photo's file is missing, empty or too large; it is not decoded.
    """
    check_file(photo)
    generator = generator.source
    try:
        latent = Latent.load(path)
    except InvalidFile:
        return None
    same_file = latent.photo_sha256 == sha256_of(photo) and latent.fingerprint == generator.fingerprint
    same_crop = (latent.method.get("face") or 1, latent.method.get("aligned")) == (face or 1, aligned)
    wanted = {} if recipe is None else recipe.described(generator)
    # As JSON, in which numbers and lists are what the file gave back.
    same_recipe = recipe is None or {key: latent.method.get(key) for key in wanted} == json.loads(json.dumps(wanted))
    return latent if same_file and same_crop and same_recipe else None


@dataclass(frozen=True)
class Found:
    """The latent of a source.

    Attributes:
        latent: the latent.
        made: whether the photo was inverted for it, now.
        unkept: why it could not be kept beside the photo; None if it was, or was not to be.
    """

    latent: Latent
    made: bool = False
    unkept: UnwritableOutput | None = None


def latent_of(
    source: Path,
    generator: Generator,
    recipe: Recipe | None = None,
    face: int | None = None,
    aligned: bool = False,
    keep: bool = True,
    progress: bool = False,
) -> Found:
    """The latent of a latent file, or of a photo: the one beside it if it fits, else made, and kept there.

    Raises:
        IncompatibleLatent: the latent belongs to another generator.
        InvalidFile: it is none.
        FacelatentError: as :func:`invert_photo`.
    """
    if is_latent(source):
        latent = Latent.load(source)
        latent.check(generator)
        return Found(latent)
    target = latent_path(source)
    kept = kept_latent(target, source, generator, recipe, face, aligned)
    if kept is not None:
        return Found(kept)
    latent = invert_photo(source, generator, recipe, face, aligned, progress)
    if not keep:
        return Found(latent, made=True)
    try:
        if target.exists():
            raise UnwritableOutput(f"{target} is there already, of another file, face, generator or settings")
        latent.save(target)
    except UnwritableOutput as error:
        return Found(latent, made=True, unkept=error)
    return Found(latent, made=True)


def photo_of(latent: Latent, source: Path, given: Path) -> Path:
    """The photo that a latent was made from: ``given``, or the picture in the folder ``given`` that it is.

    Args:
        latent: of the photo.
        source: the latent's file, for messages.
        given: a photo, or a folder of photos.

    Raises:
        FacelatentError: it is another photo, or none of the folder's is it.
        UnreadableImage: there is no such file.
    """
    if latent.photo_sha256 is None:
        raise FacelatentError(
            f"{source} was not made from a photo: there is nothing to paste it into; leave out --paste"
        )
    if given.is_dir():
        pictures = (path for path in sorted(given.iterdir()) if path.name.lower().endswith(picture_suffixes()))
        for path in pictures:
            if path.is_file() and sha256_of(path) == latent.photo_sha256:
                return path
        raise FacelatentError(
            f"no picture in {given} is the photo of which {source} was made (by its SHA-256); name the folder that has "
            "it, unchanged"
        )
    check_file(given)
    if sha256_of(given) != latent.photo_sha256:
        raise FacelatentError(
            f"{given} is not the photo of which {source} was made (its SHA-256 differs); pass that one, or invert "
            f"{given}"
        )
    return given

"""What commands share that start from a photo or a latent: options, and the way to the latent and back to the photo."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    chosen_recipe,
    complete_attribute,
    device_option,
    generator_option,
    json_option,
    metrics_line,
    note_option,
    on_terminal,
    recipe_options,
    say,
)
from facelatent.commands.pipes import SourceFile, expanded, is_piped
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.boundaries import Boundary
    from facelatent.editing import AttributeEdit
    from facelatent.latent import Latent
    from facelatent.stylegan_ops import Generator

photos_argument = click.argument(
    "photos", metavar="PHOTO|FOLDER|-...", nargs=-1, required=True, type=SourceFile(), callback=expanded
)
sources_argument = click.argument(
    "sources", metavar="PHOTO|LATENT|FOLDER|-...", nargs=-1, required=True, type=SourceFile(), callback=expanded
)
source_argument = click.argument("source", metavar="PHOTO|LATENT|-", type=SourceFile())
attributes_option = click.option(
    "--attr",
    "--boundary",
    "attributes",
    multiple=True,
    metavar="NAME|FILE",
    shell_complete=complete_attribute,
    help="Attribute name, or a boundary file: ours, or .npy, .npz, .pt of other projects.",
)
_paste = click.option("--paste", is_flag=True, help="Put the face back into the whole photo.")
_photo = click.option(
    "--photo", type=click.Path(path_type=Path), help="With --paste, a latent's photo, or a folder that has it."
)
_face = click.option("--face", type=click.IntRange(1), help="Which face, 1 = the best-scored.  [default: 1]")
_aligned = click.option("--aligned", is_flag=True, help="The photo is an FFHQ-aligned crop: do not look for a face.")


def face_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that starts from a photo; they arrive as ``**options``."""
    for option in (json_option, device_option, generator_option, recipe_options, note_option, _aligned, _face):
        command = option(command)
    return command


def paste_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--paste`` and ``--photo``, which :func:`check_photo_option` and :func:`check_photo` check."""
    return _paste(_photo(command))


def check_photo_option(paste: bool, photo: Path | None) -> None:
    """Refuse ``--photo`` without ``--paste``."""
    if photo is not None and not paste:
        raise click.UsageError("--photo is for --paste")


def check_source(source: Path) -> None:
    """Complain about a photo that cannot be opened before the generator is loaded, or even fetched."""
    from facelatent.images import open_image
    from facelatent.photo_latents import is_latent

    if not is_latent(source):
        open_image(source)


def check_photo(source: Path, paste: bool, photo: Path | None) -> None:
    """Complain before the work about a latent without its photo, or a photo with another."""
    from facelatent.latent import Latent
    from facelatent.photo_latents import is_latent, photo_of

    if paste and is_latent(source):
        if photo is None:
            raise FacelatentError(f"{source} is a latent: --paste needs its photo, too; pass --photo")
        photo_of(Latent.load(source), source, photo)
    elif photo is not None:
        raise FacelatentError(f"--photo is the photo of a latent, and {source} is a photo itself; leave it out")


def photo_to_paste(source: Path, latent: Latent, photo: Path | None) -> Path:
    """The photo that a face goes back into: the source itself, or a latent's of ``--photo``."""
    from facelatent.photo_latents import photo_of

    return source if photo is None else photo_of(latent, source, photo)


def latent_for(source: Path, generator: Generator, options: dict[str, Any], progress: bool = True) -> Latent:
    """The latent of a latent file, or of a photo: kept beside it, or made now and kept there if that is possible."""
    from facelatent.photo_latents import latent_of, latent_path

    recipe, progress = chosen_recipe(options), progress and on_terminal()
    keep = not is_piped(source)
    found = latent_of(source, generator, recipe, options["face"], options["aligned"], keep, progress)
    if found.unkept is not None:
        say(f"facelatent: the latent was not kept: {found.unkept}; 'facelatent invert' can write it elsewhere", True)
    elif found.made and keep:
        say(f"wrote {latent_path(source)} ({metrics_line(found.latent.metrics)})")
    return found.latent


def chosen_note(latent: Latent, options: dict[str, Any]) -> str | None:
    """What pictures of a latent say of themselves, unless ``--no-note`` was given."""
    from facelatent.editing import note_of

    return note_of(latent) if options["note"] else None


def chosen_edits(
    generator: Generator, names: tuple[str, ...], alphas: tuple[float, ...], ranges: tuple[tuple[int, int] | None, ...]
) -> list[AttributeEdit]:
    """The edits of ``--attr``, each with its strength and its resolutions.

    Raises:
        UnknownAttribute, InvalidFile, IncompatibleLatent: see :func:`~facelatent.boundaries.load_boundary`.
    """
    from facelatent.boundaries import load_boundary
    from facelatent.editing import AttributeEdit

    boundaries: list[Boundary] = [load_boundary(name, generator) for name in names]
    return [AttributeEdit(*parts) for parts in zip(boundaries, alphas, ranges, strict=True)]


def one_each(attributes: tuple[str, ...], values: tuple[Any, ...], option: str) -> tuple[Any, ...]:
    """One value for each attribute; a single one serves all."""
    if len(values) == 1:
        return values * len(attributes)
    if len(values) != len(attributes):
        raise click.UsageError(f"{len(attributes)} --attr but {len(values)} {option}: give one each, or one for all")
    return values


def described(edits: list[AttributeEdit]) -> list[dict[str, Any]]:
    """What ``--json`` records of edits."""
    return [
        {"attribute": one.boundary.attribute, "alpha": one.alpha, "layers": one.resolutions or one.boundary.resolutions}
        for one in edits
    ]


def default_target(source: Path, ending: str) -> Path:
    """A result's default name: beside the source, ``me.jpg`` or ``me.latent.safetensors`` -> ``me`` + ending."""
    return source.with_name(source.name.removesuffix(".safetensors").removesuffix(".latent").rsplit(".", 1)[0] + ending)

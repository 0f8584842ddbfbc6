"""The command ``invert``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    check_outputs,
    chosen_generator,
    chosen_recipe,
    metrics_line,
    on_terminal,
    write_json,
)
from facelatent.commands.many import are_many, gathered, planned, run_all
from facelatent.commands.pipes import TargetFile, is_piped, to_stdout
from facelatent.commands.sources import chosen_note, face_options, photos_argument
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.commands.batch import Job
    from facelatent.inversion import Recipe
    from facelatent.latent import Latent
    from facelatent.stylegan_ops import Generator


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(invert)


@click.command()
@photos_argument
@click.option(
    "-o",
    "--out",
    type=TargetFile(str, ".latent.safetensors"),
    help="Latent file, - for stdout; for many photos, a folder.  [default: PHOTO.latent.safetensors]",
)
@click.option("--preview", type=click.Path(path_type=Path), help="Also write photo and reconstruction side by side.")
@click.option("--paste", is_flag=True, help="Let the preview be the photo with the reconstruction in it.")
@click.option("--overwrite", is_flag=True, help="Replace an existing latent.")
@face_options
def invert(
    photos: tuple[Path, ...], out: str | None, preview: Path | None, paste: bool, overwrite: bool, **options: Any
) -> None:
    """Find the latent code of the face in PHOTO and keep it.

    First the code whose picture is nearest is looked for, then the generator is tuned to the face, and what that
    changed is kept with the code. Takes about three minutes on two CPU cores; --time-limit 60 is a good start, and
    --method optimize leaves the generator alone. Edits of the same photo use the kept code. Of a FOLDER all pictures
    are inverted (not those of folders in it); run again, only those that are not done yet. Failures are listed at the
    end.

    \b
    Examples:
      facelatent invert me.jpg
      facelatent invert group.jpg --face 2 -o anna.latent.safetensors --preview anna.png
      facelatent invert me.jpg --preview found.jpg --paste
      facelatent invert photos/ -o latents/
      facelatent invert "photos/**/*.jpg"
      facelatent invert - < me.jpg > me.latent.safetensors
    """
    if paste and preview is None:
        raise click.UsageError("--paste is about the picture of --preview: name one")
    if are_many(photos, out):
        if preview is not None:
            raise click.UsageError("--preview is for one photo")
        if out is None and any(map(is_piped, photos)):
            raise click.UsageError("for '-' among many photos, -o names the folder of the latents")
        _invert_all(photos, Path(out) if out else None, overwrite, options)
    else:
        _invert_one(photos[0], Path(out) if out else None, preview, paste, overwrite, options)


def _invert_one(
    photo: Path, out: Path | None, preview: Path | None, paste: bool, overwrite: bool, options: dict[str, Any]
) -> None:
    from facelatent.images import open_image, picture_format
    from facelatent.latent import SUFFIX
    from facelatent.photo_latents import latent_path

    target = out or (to_stdout(click.get_current_context(), SUFFIX) if is_piped(photo) else latent_path(photo))
    if target.exists() and not overwrite:
        raise FacelatentError(f"{target} exists; pass --overwrite to replace it, or -o for another name")
    check_outputs(photo, target, preview, options["json_file"])
    if preview is not None:
        picture_format(preview)
    open_image(photo)
    recipe = chosen_recipe(options)
    latent = _inverted(photo, generator := chosen_generator(options), recipe, options)
    latent.save(target)
    click.echo(f"wrote {target} ({metrics_line(latent.metrics)})")
    if preview is not None:
        _save_preview(photo, latent, generator, preview, paste, options)
        click.echo(f"wrote {preview}")
    write_json(options["json_file"], {"latent": str(target), "metrics": latent.metrics, "method": latent.method})


def _save_preview(
    photo: Path, latent: Latent, generator: Generator, preview: Path, paste: bool, options: dict[str, Any]
) -> None:
    from facelatent.editing import draw, paste_edit
    from facelatent.images import save_image
    from facelatent.photo_latents import photo_crop
    from facelatent.photos import open_photo, save_photo
    from facelatent.render import strip

    if paste:
        opened = open_photo(photo)
        save_photo(paste_edit(opened.image, latent, generator).image, preview, opened, chosen_note(latent, options))
    else:
        crop = photo_crop(photo, generator.resolution, options["face"], options["aligned"])
        inverted = draw(latent.generator_for(generator), latent.ws)[0]
        save_image(strip([crop, inverted], ["photo", "inverted"], 512), preview, chosen_note(latent, options))


def _invert_all(photos: tuple[Path, ...], out: Path | None, overwrite: bool, options: dict[str, Any]) -> None:
    from facelatent.images import picture_suffixes
    from facelatent.inversion import Recipe, check_recipe
    from facelatent.photo_latents import kept_latent, latent_path

    sources = gathered(photos, picture_suffixes())
    jobs, failures = planned(
        sources, lambda photo: out / latent_path(photo).name if out else latent_path(photo), options
    )
    generator, recipe = chosen_generator(options), chosen_recipe(options)
    check_recipe(recipe or Recipe(), generator)

    def work(job: Job) -> dict[str, Any]:
        if not overwrite and job.target.exists():
            kept = kept_latent(job.target, job.source, generator, recipe, options["face"], options["aligned"])
            if kept is None:
                raise FacelatentError(
                    f"{job.target} exists, of another photo, face, generator or settings; pass --overwrite"
                )
            return {"latent": str(job.target), "metrics": kept.metrics, "kept": True}
        latent = _inverted(job.source, generator, recipe, options, progress=False)
        latent.save(job.target)
        return {"latent": str(job.target), "metrics": latent.metrics, "kept": False}

    run_all(jobs, failures, work, "inverting", options["json_file"])


def _inverted(
    photo: Path, generator: Generator, recipe: Recipe | None, options: dict[str, Any], progress: bool = True
) -> Latent:
    from facelatent.photo_latents import invert_photo

    progress = progress and on_terminal()
    return invert_photo(photo, generator, recipe, options["face"], options["aligned"], progress)

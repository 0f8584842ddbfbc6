"""The commands about photos: ``invert``, ``render`` and ``edit``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    check_outputs,
    chosen_generator,
    chosen_recipe,
    complete_attribute,
    device_option,
    generator_option,
    json_option,
    metrics_line,
    note_option,
    on_terminal,
    recipe_options,
    resolution_range,
    style_options,
    style_record,
    write_json,
)
from facelatent.commands.pipes import (
    FORMATS,
    SourceFile,
    TargetFile,
    expanded,
    format_option,
    is_piped,
    named,
    to_stdout,
)
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.boundaries import Boundary
    from facelatent.commands.batch import Failure, Job
    from facelatent.editing import AttributeEdit
    from facelatent.inversion import Recipe
    from facelatent.latent import Latent
    from facelatent.stylegan_ops import Generator

_photos = click.argument(
    "photos", metavar="PHOTO|FOLDER|-...", nargs=-1, required=True, type=SourceFile(), callback=expanded
)
_sources = click.argument(
    "sources", metavar="PHOTO|LATENT|FOLDER|-...", nargs=-1, required=True, type=SourceFile(), callback=expanded
)
_source = click.argument("source", metavar="PHOTO|LATENT|-", type=SourceFile())
_face = click.option("--face", type=click.IntRange(1), help="Which face, 1 = the best-scored.  [default: 1]")
_aligned = click.option("--aligned", is_flag=True, help="The photo is an FFHQ-aligned crop: do not look for a face.")
_paste = click.option("--paste", is_flag=True, help="Put the face back into the whole photo.")
_photo_of_latent = click.option(
    "--photo", type=click.Path(path_type=Path), help="With --paste, a latent's photo, or a folder that has it."
)


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    for command in (invert, render, edit):
        group.add_command(command)


def _face_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that starts from a photo; they arrive as ``**options``."""
    for option in (json_option, device_option, generator_option, recipe_options, note_option, _aligned, _face):
        command = option(command)
    return command


@click.command()
@_photos
@click.option(
    "-o",
    "--out",
    type=TargetFile(str, ".latent.safetensors"),
    help="Latent file, - for stdout; for many photos, a folder.  [default: PHOTO.latent.safetensors]",
)
@click.option("--preview", type=click.Path(path_type=Path), help="Also write photo and reconstruction side by side.")
@click.option("--paste", is_flag=True, help="Let the preview be the photo with the reconstruction in it.")
@click.option("--overwrite", is_flag=True, help="Replace an existing latent.")
@_face_options
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
        raise click.UsageError("--paste is about the picture that --preview names")
    if _many(photos, out):
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
        save_photo(paste_edit(opened.image, latent, generator).image, preview, opened, _note(latent, options))
    else:
        crop = photo_crop(photo, generator.resolution, options["face"], options["aligned"])
        inverted = draw(latent.generator_for(generator), latent.ws)[0]
        save_image(strip([crop, inverted], ["photo", "inverted"], 512), preview, _note(latent, options))


def _invert_all(photos: tuple[Path, ...], out: Path | None, overwrite: bool, options: dict[str, Any]) -> None:
    from facelatent.images import picture_suffixes
    from facelatent.inversion import Recipe, check_recipe
    from facelatent.photo_latents import kept_latent, latent_path

    sources = _gathered(photos, picture_suffixes())
    jobs, failures = _planned(
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

    _run_all(jobs, failures, work, "inverting", options["json_file"])


@dataclass(frozen=True)
class _EditPlan:
    """What ``edit`` does to each face."""

    edits: list[AttributeEdit]
    goals: list[tuple[AttributeEdit, float | None]]
    region: str | None
    size: int | None
    compare: bool
    paste: bool
    photo: Path | None
    mask: Path | None


_attributes = click.option(
    "--attr",
    "--boundary",
    "attributes",
    multiple=True,
    metavar="NAME|FILE",
    shell_complete=complete_attribute,
    help="Attribute name, or a boundary file: ours, or .npy, .npz, .pt of other projects.",
)


@click.command()
@_sources
@_attributes
@click.option("--alpha", "alphas", multiple=True, type=float, help="Strength in standard deviations, one an attribute.")
@click.option(
    "--layers",
    "ranges",
    multiple=True,
    metavar="A-B",
    help="Resolutions to change, e.g. 4-32; one, or one an attribute.",
)
@click.option(
    "--to", "targets", multiple=True, metavar="NAME=SCORE", help="Change an attribute until its score is this: age=40."
)
@click.option(
    "--hold",
    metavar="NAME,...",
    shell_complete=complete_attribute,
    help="Keep these attributes' scores, by counter-edits.",
)
@click.option(
    "--region",
    metavar="NAME|FILE",
    help="Change only this: face, eyes, brows, nose, mouth, lower-face, background, or a mask's picture.",
)
@click.option(
    "-o",
    "--out",
    type=TargetFile(str),
    help="Picture, - for stdout; for many sources, a folder.  [default: SOURCE-edited.png, with --paste as the photo]",
)
@format_option
@click.option("--size", type=click.IntRange(16, 4096), help="Side in pixels.  [default: the generator's]")
@click.option("--compare", is_flag=True, help="Write unedited and edited side by side.")
@_paste
@_photo_of_latent
@click.option(
    "--mask",
    type=click.Path(path_type=Path),
    help="With --paste, also write where the photo was changed, as a picture.",
)
@style_options
@_face_options
def edit(
    sources: tuple[Path, ...],
    attributes: tuple[str, ...],
    alphas: tuple[float, ...],
    ranges: tuple[str, ...],
    targets: tuple[str, ...],
    hold: str | None,
    region: str | None,
    out: str | None,
    size: int | None,
    compare: bool,
    paste: bool,
    photo: Path | None,
    mask: Path | None,
    **options: Any,
) -> None:
    """Change attributes of the face in a photo or latent.

    A photo is inverted first, once; its latent is kept beside it. With --paste the edited face is put back into the
    whole photo. Of a FOLDER all pictures are edited (not those of folders in it), or its latents if it has no
    pictures; failures are listed at the end.

    \b
    Examples:
      facelatent edit me.jpg --attr smile --alpha 2
      facelatent edit me.jpg --attr smile --alpha 2 --paste -o smiling.jpg
      facelatent edit me.jpg --attr smile --alpha 2 --attr age --alpha -1 -o younger.png
      facelatent edit me.latent.safetensors --attr yaw --alpha 1.5 --compare -o turned.jpg
      facelatent edit photos/ --attr smile --alpha 2 --paste -o smiling/
      facelatent edit - --attr smile --format jpg < me.jpg > smiling.jpg
      facelatent edit me.jpg --to age=40 --hold gender,yaw -o forty.png
      facelatent edit me.jpg --attr smile --alpha 2 --region lower-face
      facelatent edit me.jpg --boundary pose.pt --alpha -1
      facelatent edit me.jpg --attr smile --alpha 2 --style mona.safetensors --style-strength 0.8
    """
    if not attributes and not targets:
        raise click.UsageError("say what to change: --attr NAME, --boundary FILE or --to NAME=SCORE")
    if not attributes and (alphas or ranges):
        raise click.UsageError("--alpha and --layers are for --attr")
    wanted = [_target(text) for text in targets] + [(name, None) for name in (hold or "").split(",") if name]
    strengths = _one_each(attributes, alphas or (1.0,), "--alpha")
    chosen_ranges = _one_each(attributes, tuple(resolution_range(text) for text in ranges) or (None,), "--layers")
    _check_paste(paste, photo, mask=mask)
    if paste and (size or compare):
        raise click.UsageError("--paste keeps the photo's size and writes one picture: leave out --size and --compare")

    def planned(generator: Generator) -> _EditPlan:
        edits = _edits(generator, attributes, strengths, chosen_ranges)
        none = (None,) * len(wanted)
        found = _edits(generator, tuple(name for name, _ in wanted), (0.0,) * len(wanted), none)
        goals = [(one, value) for one, (_, value) in zip(found, wanted, strict=True)]
        return _EditPlan(edits, goals, region, size, compare, paste, photo, mask)

    if mask is not None and _many(sources, out):
        raise click.UsageError("--mask is for one photo")
    _draw_all(sources, out, "-edited", paste, photo, mask, planned, options)


@click.command()
@_sources
@click.option(
    "-o",
    "--out",
    type=TargetFile(str),
    help="Picture, - for stdout; for many sources, a folder.  [default: SOURCE-drawn.png, with --paste as the photo]",
)
@format_option
@click.option("--size", type=click.IntRange(16, 4096), help="Side in pixels.  [default: the generator's]")
@click.option("--compare", is_flag=True, help="Write the picture without and with the style side by side.")
@_paste
@_photo_of_latent
@style_options
@_face_options
def render(
    sources: tuple[Path, ...],
    out: str | None,
    size: int | None,
    compare: bool,
    paste: bool,
    photo: Path | None,
    **options: Any,
) -> None:
    """Draw the face of a latent or photo as it is, or in a style.

    A photo is inverted first, once; its latent is kept beside it. How a style is made: docs/styles.md.

    \b
    Examples:
      facelatent render me.latent.safetensors --style mona.safetensors
      facelatent render me.jpg --style mona.safetensors --style-strength 0.7 --compare -o both.png
      facelatent render me.jpg --style mona.safetensors:0.6 --style ink.safetensors:0.4 -o mixed.png
      facelatent render photos/ --style mona.safetensors -o painted/
    """
    _check_paste(paste, photo)
    if paste and (size or compare):
        raise click.UsageError("--paste keeps the photo's size and writes one picture: leave out --size and --compare")
    if compare and not options["styles"]:
        raise click.UsageError("--compare is for --style: without one there is nothing to compare")
    plan = _EditPlan([], [], None, size, compare, paste, photo, None)
    _draw_all(sources, out, "-drawn", paste, photo, None, lambda generator: plan, options)


def _draw_all(
    sources: tuple[Path, ...],
    out: str | None,
    ending: str,
    paste: bool,
    photo: Path | None,
    mask: Path | None,
    planned: Callable[[Generator], _EditPlan],
    options: dict[str, Any],
) -> None:
    """Draw one face, or those of many files; ``ending`` is that of one picture's default name."""
    if not _many(sources, out):
        if out is None and is_piped(sources[0]):
            out = str(to_stdout(click.get_current_context()))
        return _edit_one(sources[0], Path(out) if out else None, ending, paste, photo, mask, planned, options)
    if out is None:
        raise click.UsageError("for many sources, -o names the folder of the results")
    return _edit_all(sources, Path(out), paste, planned, options)


def _edit_one(
    source: Path,
    out: Path | None,
    ending: str,
    paste: bool,
    photo: Path | None,
    mask: Path | None,
    planned: Callable[[Generator], _EditPlan],
    options: dict[str, Any],
) -> None:
    from facelatent.images import picture_format

    target = out or _default_out(source, ending + _ending(photo or source, paste, options))
    check_outputs(source, target, mask, options["json_file"])
    if photo is not None:
        check_outputs(photo, target, mask)
    for picture in (target, mask):
        if picture is not None:
            picture_format(picture)
    _check_source(source)
    _check_latent_photo(source, paste, photo)
    generator = chosen_generator(options)
    plan = planned(generator)
    record = _write_edited(source, target, generator, plan, options)
    click.echo(f"wrote {target}")
    if mask is not None:
        click.echo(f"wrote {mask}")
    write_json(options["json_file"], record)


def _edit_all(
    inputs: tuple[Path, ...],
    out: Path,
    paste: bool,
    planned: Callable[[Generator], _EditPlan],
    options: dict[str, Any],
) -> None:
    from facelatent.images import picture_suffixes
    from facelatent.latent import SUFFIX

    sources = _gathered(inputs, picture_suffixes(), otherwise=SUFFIX)

    def target_of(source: Path) -> Path:
        return out / _default_out(source, _ending(source, paste, options)).name

    jobs, failures = _planned(sources, target_of, options)
    generator = chosen_generator(options)
    plan = planned(generator)

    def work(job: Job) -> dict[str, Any]:
        _check_latent_photo(job.source, paste, plan.photo)
        return _write_edited(job.source, job.target, generator, plan, options, progress=False)

    _run_all(jobs, failures, work, "editing", options["json_file"])


def _write_edited(
    source: Path, target: Path, generator: Generator, plan: _EditPlan, options: dict[str, Any], progress: bool = True
) -> dict[str, Any]:
    """Edit one face and write it; returns what was done."""
    from facelatent.editing import draw, draw_edits
    from facelatent.images import save_image
    from facelatent.render import strip

    latent = _latent(source, generator, options, progress)
    plan = replace(plan, edits=_with_goals(source, latent, generator, plan))
    record = {"picture": str(target), "edits": _described(plan.edits), "metrics": latent.metrics}
    record |= style_record(options)
    if plan.region is not None:
        record["region"] = plan.region
    if plan.paste:
        return {**record, **_write_pasted(source, target, latent, generator, plan, _note(latent, options))}
    edited = draw_edits(latent, generator, plan.edits, plan.size, plan.region)
    if plan.compare:
        label = ", ".join(f"{one.boundary.attribute} {one.alpha:+g}" for one in plan.edits) or "in the style"
        before = generator if plan.edits else generator.source
        unedited = draw(latent.generator_for(before), latent.ws, plan.size)[0]
        edited = strip([unedited, edited], ["inverted", label], plan.size or 512)
    save_image(edited, target, _note(latent, options))
    return record


def _with_goals(source: Path, latent: Latent, generator: Generator, plan: _EditPlan) -> list[AttributeEdit]:
    """The plan's edits, with those that bring this face's scores to their goals."""
    from facelatent.editing import targeted

    if not plan.goals:
        return plan.edits
    edits, missed = targeted(plan.edits, plan.goals, latent, generator)
    for line in missed:
        _say(f"facelatent: {source}: {line}", err=True)
    return edits


def _write_pasted(
    source: Path, target: Path, latent: Latent, generator: Generator, plan: _EditPlan, note: str | None
) -> dict[str, Any]:
    from facelatent.editing import paste_edit
    from facelatent.images import save_image
    from facelatent.photos import open_photo, save_photo

    photo = _pasted_photo(source, latent, plan.photo)
    opened = open_photo(photo)
    pasted = paste_edit(opened.image, latent, generator, plan.edits, plan.region)
    save_photo(pasted.image, target, opened, note)
    if plan.mask is not None:
        save_image(pasted.mask, plan.mask, None)
    return {"photo": str(photo), "quad": latent.quad, "mask_box": pasted.mask.getbbox()}


def _inverted(
    photo: Path, generator: Generator, recipe: Recipe | None, options: dict[str, Any], progress: bool = True
) -> Latent:
    from facelatent.photo_latents import invert_photo

    progress = progress and on_terminal()
    return invert_photo(photo, generator, recipe, options["face"], options["aligned"], progress)


def _latent(source: Path, generator: Generator, options: dict[str, Any], progress: bool = True) -> Latent:
    """The latent of a latent file, or of a photo: kept beside it, or made now and kept there if that is possible."""
    from facelatent.photo_latents import latent_of, latent_path

    recipe, progress = chosen_recipe(options), progress and on_terminal()
    keep = not is_piped(source)
    found = latent_of(source, generator, recipe, options["face"], options["aligned"], keep, progress)
    if found.unkept is not None:
        _say(f"facelatent: the latent was not kept: {found.unkept}; 'facelatent invert' can write it elsewhere", True)
    elif found.made and keep:
        _say(f"wrote {latent_path(source)} ({metrics_line(found.latent.metrics)})")
    return found.latent


def _note(latent: Latent, options: dict[str, Any]) -> str | None:
    """What pictures of a latent say of themselves, unless ``--no-note`` was given."""
    from facelatent.editing import note_of

    return note_of(latent) if options["note"] else None


def _check_paste(paste: bool, photo: Path | None, mask: Path | None = None) -> None:
    for option, given in (("--photo", photo), ("--mask", mask)):
        if given is not None and not paste:
            raise click.UsageError(f"{option} is for --paste")


def _check_latent_photo(source: Path, paste: bool, photo: Path | None) -> None:
    """Complain before the work about a latent without its photo, or a photo with another."""
    from facelatent.latent import Latent
    from facelatent.photo_latents import is_latent, photo_of

    if paste and is_latent(source):
        if photo is None:
            raise FacelatentError(f"{source} is a latent: --paste needs its photo, too; pass --photo")
        photo_of(Latent.load(source), source, photo)
    elif photo is not None:
        raise FacelatentError(f"--photo is the photo of a latent, and {source} is a photo itself; leave it out")


def _pasted_photo(source: Path, latent: Latent, photo: Path | None) -> Path:
    from facelatent.photo_latents import photo_of

    return source if photo is None else photo_of(latent, source, photo)


def _picture_suffix(path: Path) -> str:
    """The ending of a pasted photo's name: the photo's own, if one can be written under it."""
    from facelatent.images import picture_suffixes

    return path.suffix if path.suffix.lower() in picture_suffixes() else ".png"


def _ending(photo: Path, paste: bool, options: dict[str, Any]) -> str:
    """The ending of the name of a picture that has none given: ``--format``, else a pasted photo's own, else PNG."""
    if options["picture_format"]:
        return FORMATS[options["picture_format"]]
    return _picture_suffix(photo) if paste else ".png"


def _many(inputs: tuple[Path, ...], out: str | None) -> bool:
    """Whether there are many files to work on: several, a folder, or one whose result goes into a folder."""
    from facelatent.commands.batch import is_folder
    from facelatent.images import picture_suffixes

    into_folder = out is not None and out.endswith(("/", os.sep))
    return len(inputs) > 1 or into_folder or is_folder(inputs[0], picture_suffixes())


def _gathered(inputs: tuple[Path, ...], suffixes: tuple[str, ...], otherwise: str | None = None) -> list[Path]:
    """The files to work on; a folder without any by ``suffixes`` is searched for the ending ``otherwise``."""
    from facelatent.commands.batch import gather, is_folder

    sources: list[Path] = []
    for given in inputs:
        found, others = gather([given], suffixes)
        if not found and otherwise:
            found, others = gather([given], (otherwise,))
        elif others := [path for path in others if not path.name.endswith(".safetensors")]:
            endings = ", ".join(sorted({path.suffix.lower() or "no ending" for path in others}))
            click.echo(f"left alone in {given}: {len(others)} other file(s) ({endings})", err=True)
        if not found and is_folder(given, suffixes):
            raise FacelatentError(f"{given} has no pictures ({', '.join(suffixes)}); folders in it are not searched")
        sources += [path for path in found if path not in sources]
    return sources


def _planned(
    sources: list[Path], target_of: Callable[[Path], Path], options: dict[str, Any]
) -> tuple[list[Job], list[Failure]]:
    from facelatent.commands.batch import plan
    from facelatent.files import check_writable

    jobs, failures = plan(sources, target_of)
    for target in {job.target.parent / "x": None for job in jobs}:
        check_writable(target)
    if options["json_file"] is not None:
        check_writable(options["json_file"])
    return jobs, failures


def _run_all(
    jobs: list[Job],
    failures: list[Failure],
    work: Callable[[Job], dict[str, Any]],
    verb: str,
    json_file: Path | None,
) -> None:
    """Do all jobs with a progress bar, list the failures, and exit 1 if there were any (130 if it was stopped)."""
    from tqdm import tqdm

    from facelatent.commands.batch import run

    records: list[dict[str, Any]] = []

    def one(job: Job) -> None:
        record = work(job)
        records.append({"source": str(job.source), **record})
        _say(f"{'kept' if record.get('kept') else 'wrote'} {job.target}")

    with tqdm(jobs, desc=verb, unit="photo", disable=not on_terminal()) as bar:
        outcome = run(bar, one, failures)
    failed = [{"source": str(one.source), "reason": one.reason} for one in outcome.failed]
    write_json(json_file, {"done": records, "failed": failed, "interrupted": outcome.interrupted})
    total = len(jobs) + len(failures)
    click.echo(f"{len(outcome.done)} of {total} done" + (f", {len(failed)} failed" if failed else ""))
    if failed:
        click.echo(
            "\n".join(
                [f"facelatent: {len(failed)} of {total} failed:", *(f"  {named(one['reason'])}" for one in failed)]
            ),
            err=True,
        )
    if outcome.interrupted:
        click.echo("facelatent: interrupted; the same command goes on from here", err=True)
        raise SystemExit(130)
    if failed:
        raise SystemExit(1)


def _say(line: str, err: bool = False) -> None:
    """Print a line above a progress bar that may be there."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(named(line), err=err)


def _edits(
    generator: Generator, names: tuple[str, ...], alphas: tuple[float, ...], ranges: tuple[tuple[int, int] | None, ...]
) -> list[AttributeEdit]:
    from facelatent.boundaries import load_boundary
    from facelatent.editing import AttributeEdit

    boundaries: list[Boundary] = [load_boundary(name, generator) for name in names]
    return [AttributeEdit(*parts) for parts in zip(boundaries, alphas, ranges, strict=True)]


def _target(text: str) -> tuple[str, float]:
    """Name and score of ``--to NAME=SCORE``."""
    name, _, score = text.partition("=")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise click.UsageError(f"--to takes an attribute and a score such as age=40, not {text!r}")
    return name, value


def _described(edits: list[AttributeEdit]) -> list[dict[str, Any]]:
    return [
        {"attribute": one.boundary.attribute, "alpha": one.alpha, "layers": one.resolutions or one.boundary.resolutions}
        for one in edits
    ]


def _one_each(attributes: tuple[str, ...], values: tuple[Any, ...], option: str) -> tuple[Any, ...]:
    """One value for each attribute; a single one serves all."""
    if len(values) == 1:
        return values * len(attributes)
    if len(values) != len(attributes):
        raise click.UsageError(f"{len(attributes)} --attr but {len(values)} {option}: give one each, or one for all")
    return values


def _default_out(source: Path, ending: str) -> Path:
    """A picture's default name: beside the source, ``me.jpg`` or ``me.latent.safetensors`` -> ``me`` + ending."""
    source = Path(source.name) if is_piped(source) else source
    return source.with_name(source.name.removesuffix(".safetensors").removesuffix(".latent").rsplit(".", 1)[0] + ending)


def _check_source(source: Path) -> None:
    """Complain about a photo that cannot be opened before the generator is loaded, or even fetched."""
    from facelatent.images import open_image
    from facelatent.photo_latents import is_latent

    if not is_latent(source):
        open_image(source)

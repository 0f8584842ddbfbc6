"""What ``edit`` and ``render`` share: each draws one picture of every face that it is given."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from facelatent.commands.common import check_outputs, chosen_generator, say, style_options, style_record, write_json
from facelatent.commands.many import are_many, gathered, planned, run_all
from facelatent.commands.pipes import FORMATS, TargetFile, format_option, is_piped, to_stdout
from facelatent.commands.sources import (
    check_photo,
    check_photo_option,
    check_source,
    chosen_note,
    default_target,
    described,
    face_options,
    latent_for,
    paste_options,
    photo_to_paste,
)

if TYPE_CHECKING:
    from PIL import Image

    from facelatent.commands.batch import Job
    from facelatent.editing import AttributeEdit
    from facelatent.latent import Latent
    from facelatent.stylegan_ops import Generator


@dataclass(frozen=True)
class Changes:
    """What becomes of each face.

    Attributes:
        edits: made in any case.
        goals: edits whose strength is to be found, each with the score to reach, None for what it is unedited.
        region: where; None for everywhere.
    """

    edits: list[AttributeEdit]
    goals: list[tuple[AttributeEdit, float | None]]
    region: str | None = None


@dataclass(frozen=True)
class Output:
    """Where pictures go and what they show.

    Attributes:
        ending: what is put behind the source's name, without format, where ``out`` is None.
        out: as given with ``-o``.
        size: side in pixels; None for the generator's.
        compare: put the picture before the changes beside it.
        paste: put the face back into the photo.
        photo: a latent's photo, or a folder that has it.
        mask: where to write what was changed of a photo.
    """

    ending: str
    out: str | None
    size: int | None
    compare: bool
    paste: bool
    photo: Path | None
    mask: Path | None = None


def picture_options(ending: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of commands that draw faces; :func:`chosen_output` reads them, with the same ``ending``."""
    own = (
        click.option(
            "-o",
            "--out",
            type=TargetFile(str),
            help="Picture, - for stdout; for many sources, a folder.  "
            f"[default: SOURCE{ending}.png, with --paste as the photo]",
        ),
        format_option,
        click.option("--size", type=click.IntRange(16, 4096), help="Side in pixels.  [default: the generator's]"),
        click.option("--compare", is_flag=True, help="Write before and after side by side."),
        paste_options,
        style_options,
        face_options,
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(own):
            command = option(command)
        return command

    return add


def chosen_output(ending: str, options: dict[str, Any], mask: Path | None = None) -> Output:
    """What :func:`picture_options` were given; options that exclude each other are refused."""
    chosen = {name: options[name] for name in ("out", "size", "compare", "paste", "photo")}
    if chosen["paste"]:  # a size that the config file asks for is meant for other pictures
        chosen |= {name: none for name, none in (("size", None), ("compare", False)) if _is_config_default(name)}
    output = Output(ending, mask=mask, **chosen)
    check_photo_option(output.paste, output.photo)
    if mask is not None and not output.paste:
        raise click.UsageError("--mask is for --paste")
    if output.paste and (output.size or output.compare):
        raise click.UsageError("--paste keeps the photo's size and writes one picture: leave out --size and --compare")
    return output


def _is_config_default(name: str) -> bool:
    """Whether the config file, and not who typed the command, gave a parameter its value."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.DEFAULT_MAP


def draw_sources(
    sources: tuple[Path, ...], output: Output, changes: Callable[[Generator], Changes], options: dict[str, Any]
) -> None:
    """Draw one face, or those of many files, with the changes that ``changes`` makes for the generator."""
    if not are_many(sources, output.out):
        if output.out is None and is_piped(sources[0]):
            output = replace(output, out=str(to_stdout(click.get_current_context())))
        return _draw_one(sources[0], output, changes, options)
    if output.mask is not None:
        raise click.UsageError("--mask is for one photo")
    if output.out is None:
        raise click.UsageError("for many sources, -o names the folder of the results")
    return _draw_all(sources, Path(output.out), output, changes, options)


def _draw_one(source: Path, output: Output, changes: Callable[[Generator], Changes], options: dict[str, Any]) -> None:
    from facelatent.images import picture_format

    suffix = _suffix(output.photo or source, output, options)
    target = Path(output.out) if output.out else default_target(source, output.ending + suffix)
    check_outputs(source, target, output.mask, options["json_file"])
    if output.photo is not None:
        check_outputs(output.photo, target, output.mask)
    for picture in (target, output.mask):
        if picture is not None:
            picture_format(picture)
    check_source(source)
    check_photo(source, output.paste, output.photo)
    generator = chosen_generator(options)
    record = _write_picture(source, target, generator, changes(generator), output, options)
    click.echo(f"wrote {target}")
    if output.mask is not None:
        click.echo(f"wrote {output.mask}")
    write_json(options["json_file"], record)


def _draw_all(
    inputs: tuple[Path, ...],
    folder: Path,
    output: Output,
    changes: Callable[[Generator], Changes],
    options: dict[str, Any],
) -> None:
    from facelatent.images import picture_suffixes
    from facelatent.latent import SUFFIX

    sources = gathered(inputs, picture_suffixes(), otherwise=SUFFIX)

    def target_of(source: Path) -> Path:
        return folder / default_target(source, _suffix(source, output, options)).name

    jobs, failures = planned(sources, target_of, options)
    generator = chosen_generator(options)
    made = changes(generator)

    def work(job: Job) -> dict[str, Any]:
        check_photo(job.source, output.paste, output.photo)
        return _write_picture(job.source, job.target, generator, made, output, options, progress=False)

    run_all(jobs, failures, work, "editing", options["json_file"])


def _write_picture(
    source: Path,
    target: Path,
    generator: Generator,
    changes: Changes,
    output: Output,
    options: dict[str, Any],
    progress: bool = True,
) -> dict[str, Any]:
    """Draw one face and write it; returns what was done."""
    from facelatent.images import save_image

    latent = latent_for(source, generator, options, progress)
    changes = replace(changes, edits=_with_goals(source, latent, generator, changes))
    record = {"picture": str(target), "edits": described(changes.edits), "metrics": latent.metrics}
    record |= style_record(options)
    if changes.region is not None:
        record["region"] = changes.region
    note = chosen_note(latent, options)
    if output.paste:
        return {**record, **_write_pasted(source, target, latent, generator, changes, output, note)}
    save_image(_picture(latent, generator, changes, output), target, note)
    return record


def _picture(latent: Latent, generator: Generator, changes: Changes, output: Output) -> Image.Image:
    """The changed face, alone or beside what it was before."""
    from facelatent.editing import draw, draw_edits
    from facelatent.render import strip

    after = draw_edits(latent, generator, changes.edits, output.size, changes.region)
    if not output.compare:
        return after
    label = ", ".join(f"{one.boundary.attribute} {one.alpha:+g}" for one in changes.edits) or "in the style"
    plain = generator if changes.edits else generator.source
    before = draw(latent.generator_for(plain), latent.ws, output.size)[0]
    return strip([before, after], ["inverted", label], output.size or 512)


def _write_pasted(
    source: Path,
    target: Path,
    latent: Latent,
    generator: Generator,
    changes: Changes,
    output: Output,
    note: str | None,
) -> dict[str, Any]:
    from facelatent.editing import paste_edit
    from facelatent.images import save_image
    from facelatent.photos import open_photo, save_photo

    photo = photo_to_paste(source, latent, output.photo)
    opened = open_photo(photo)
    pasted = paste_edit(opened.image, latent, generator, changes.edits, changes.region)
    save_photo(pasted.image, target, opened, note)
    if output.mask is not None:
        save_image(pasted.mask, output.mask, None)
    return {"photo": str(photo), "quad": latent.quad, "mask_box": pasted.mask.getbbox()}


def _with_goals(source: Path, latent: Latent, generator: Generator, changes: Changes) -> list[AttributeEdit]:
    """All edits, with those that bring this face's scores to their goals."""
    from facelatent.editing import targeted

    if not changes.goals:
        return changes.edits
    edits, missed = targeted(changes.edits, changes.goals, latent, generator)
    for line in missed:
        say(f"facelatent: {source}: {line}", err=True)
    return edits


def _suffix(photo: Path, output: Output, options: dict[str, Any]) -> str:
    """The suffix of a picture that has no name given: of ``--format``, else a pasted photo's own, else PNG."""
    from facelatent.images import picture_suffixes

    if options["picture_format"]:
        return FORMATS[options["picture_format"]]
    return photo.suffix if output.paste and photo.suffix.lower() in picture_suffixes() else ".png"

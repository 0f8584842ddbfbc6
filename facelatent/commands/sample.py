"""The command ``sample``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    check_outputs,
    chosen_generator,
    chosen_seeds,
    device_option,
    generator_option,
    json_option,
    note_option,
    on_terminal,
    style_options,
    style_record,
    write_json,
)
from facelatent.commands.pipes import FORMATS, TargetFile, format_option, is_piped

if TYPE_CHECKING:
    from PIL import Image


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(sample)


@click.command()
@click.option("--seed", "seeds", default="1-8", show_default=True, help="Seeds: 3, 1-16 or 1,5,9.")
@click.option(
    "--psi", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="Truncation: 0 the mean face, 1 none."
)
@click.option(
    "-o",
    "--out",
    type=TargetFile(),
    default=Path("samples.png"),
    show_default=True,
    help="A sheet of all faces, - for stdout; with --separate, a folder.",
)
@click.option("--separate", is_flag=True, help="Write each face's picture and latent into the folder OUT.")
@click.option(
    "--size", type=click.IntRange(16, 4096), help="Side of a face.  [default: 256 on a sheet, else the generator's]"
)
@format_option
@note_option
@style_options
@generator_option
@device_option
@json_option
def sample(seeds: str, psi: float, out: Path, separate: bool, size: int | None, note: bool, **options: Any) -> None:
    """Draw random faces. A seed means the same face on every machine.

    \b
    Examples:
      facelatent sample --seed 1-16
      facelatent sample --seed 3,7 --psi 0.9 --separate -o faces
      facelatent sample --seed 1-8 --style mona.safetensors --style-strength 0.8
      facelatent sample --seed 7 --format jpg -o - > seven.jpg
    """
    from tqdm import tqdm

    from facelatent.editing import draw
    from facelatent.images import picture_format, save_image
    from facelatent.latent import SUFFIX, Latent
    from facelatent.note import GENERATED

    if separate and is_piped(out):
        raise click.UsageError("--separate writes a folder: give -o its name")
    numbers, said = chosen_seeds(seeds), GENERATED if note else None
    ending = FORMATS[options["picture_format"] or "png"]
    check_outputs(None, out / "faces" if separate else out, options["json_file"])
    if not separate:
        picture_format(out)
    generator = chosen_generator(options)
    images = []
    for number in tqdm(numbers, desc="drawing", unit="face", disable=not on_terminal()):
        latent = Latent.sample(generator, number, psi)
        image = draw(generator, latent.ws, size if separate else size or 256)[0]
        if separate:
            save_image(image, out / f"seed{number:04d}{ending}", said)
            latent.save(out / f"seed{number:04d}{SUFFIX}")
        else:
            images.append(image)
    if images:
        save_image(_sheet(images, numbers, size or 256), out, said)
    click.echo(f"wrote {out} ({len(numbers)} faces)")
    record = {"out": str(out), "seeds": numbers, "psi": psi, "generator": generator.source.name}
    write_json(options["json_file"], record | style_record(options))


def _sheet(images: list[Image.Image], numbers: list[int], size: int) -> Image.Image:
    """All faces in rows of eight, each under its seed."""
    from facelatent.render import grid

    starts = range(0, len(images), 8)
    rows = [images[start : start + 8] for start in starts]
    return grid(rows, [[f"seed {number}" for number in numbers[start : start + 8]] for start in starts], size)

"""The command ``edit``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import complete_attribute, name_and_number, resolution_range
from facelatent.commands.drawing import Changes, chosen_output, draw_sources, picture_options
from facelatent.commands.sources import attributes_option, chosen_edits, one_each, sources_argument

if TYPE_CHECKING:
    from facelatent.stylegan_ops import Generator

_ENDING = "-edited"


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(edit)


@click.command()
@sources_argument
@attributes_option
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
    "--mask",
    type=click.Path(path_type=Path),
    help="With --paste, also write where the photo was changed, as a picture.",
)
@picture_options(_ENDING)
def edit(
    sources: tuple[Path, ...],
    attributes: tuple[str, ...],
    alphas: tuple[float, ...],
    ranges: tuple[str, ...],
    targets: tuple[str, ...],
    hold: str | None,
    region: str | None,
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
    scores = [name_and_number(text, "--to takes an attribute and a score such as age=40") for text in targets]
    goals = [*scores, *((name, None) for name in (hold or "").split(",") if name)]
    strengths = one_each(attributes, alphas or (1.0,), "--alpha")
    chosen_ranges = one_each(attributes, tuple(resolution_range(text) for text in ranges) or (None,), "--layers")

    def changes(generator: Generator) -> Changes:
        names, none = tuple(name for name, _ in goals), (None,) * len(goals)
        found = chosen_edits(generator, names, (0.0,) * len(goals), none)
        wanted = [(one, score) for one, (_, score) in zip(found, goals, strict=True)]
        return Changes(chosen_edits(generator, attributes, strengths, chosen_ranges), wanted, region)

    draw_sources(sources, chosen_output(_ENDING, options, mask), changes, options)

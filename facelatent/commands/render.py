"""The command ``render``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facelatent.commands.drawing import Changes, chosen_output, draw_sources, picture_options
from facelatent.commands.sources import sources_argument

_ENDING = "-drawn"


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(render)


@click.command()
@sources_argument
@picture_options(_ENDING)
def render(sources: tuple[Path, ...], **options: Any) -> None:
    """Draw the face of a latent or photo as it is, or in a style.

    A photo is inverted first, once; its latent is kept beside it. How a style is made: docs/styles.md.

    \b
    Examples:
      facelatent render me.latent.safetensors --style mona.safetensors
      facelatent render me.jpg --style mona.safetensors --style-strength 0.7 --compare -o both.png
      facelatent render me.jpg --style mona.safetensors:0.6 --style ink.safetensors:0.4 -o mixed.png
      facelatent render photos/ --style mona.safetensors -o painted/
    """
    if options["compare"] and not options["styles"]:
        raise click.UsageError("--compare is for --style: without one there is nothing to compare")
    draw_sources(sources, chosen_output(_ENDING, options), lambda generator: Changes([], []), options)

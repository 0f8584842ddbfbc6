"""The command ``demo``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facelatent.commands.common import (
    chosen_generator,
    chosen_recipe,
    device_option,
    generator_option,
    metrics_line,
    on_terminal,
    recipe_options,
    style_options,
)
from facelatent.commands.pipes import quiet_option


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(demo)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to write."
)
@recipe_options
@style_options
@generator_option
@device_option
@quiet_option
def demo(out: Path, **options: Any) -> None:
    """Invert a public-domain portrait and write it smiling, turned and aged.

    Fetches about 210 MB of weights the first time; then takes about three minutes on two CPU cores. Run again, it uses
    the inversion that it finds in the folder.

    \b
    Examples:
      facelatent demo --out demo
      facelatent demo --out painted --style mona.safetensors
    """
    from facelatent.demo import run_demo
    from facelatent.files import check_writable

    check_writable(out / "demo.json")
    generator = chosen_generator(options)
    result = run_demo(generator, out, chosen_recipe(options), click.echo, progress=on_terminal())
    how = (
        "reused an earlier inversion"
        if result["inversion_reused"]
        else f"inverted in {result['seconds']['inversion']} s"
    )
    click.echo(f"{how}: {metrics_line(result['metrics'])}")
    click.echo(
        f"wrote {len(result['files'])} files and demo.json to {out}/; look at {out}/strip-smile.png and {out}/smile.gif"
    )

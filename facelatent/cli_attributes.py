"""The commands about attributes: what can be edited, and what it takes to make more."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json

import click

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    group.add_command(attributes)


@click.group(invoke_without_command=True)
@_json
@click.pass_context
def attributes(context: click.Context, as_json: bool) -> None:
    """What can be edited, and how well; and the steps to an attribute of your own. Alone: `list`.

    \b
    Examples:
      facelatent attributes
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command, as_json=as_json)


@attributes.command("list")
@_json
def list_command(as_json: bool) -> None:
    """List the attributes that can be edited, and how well their boundaries separate.

    \b
    Example:
      facelatent attributes list
    """
    from facelatent.boundaries import load_boundary, shipped_boundaries

    boundaries = [load_boundary(name) for name in shipped_boundaries()]
    if as_json:
        rows = [
            {"attribute": b.attribute, "generator": b.generator, "std": b.std, "resolutions": b.resolutions, **b.report}
            for b in boundaries
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    click.echo(f"{'attribute':<12} {'layers':<9} {'extremes':>8} {'all':>6}  generator")
    for one in boundaries:
        layers = "{}-{}".format(*one.resolutions) if one.resolutions else "all"
        extremes, everything = (
            one.report.get(f"accuracy_{kind}", float("nan")) for kind in ("held_out", "all_held_out")
        )
        click.echo(f"{one.attribute:<12} {layers:<9} {extremes:>8.3f} {everything:>6.3f}  {one.generator}")
    click.echo(
        "\nextremes, all: accuracy on faces that were not trained on. Edit with: facelatent edit PHOTO --attr NAME"
    )

"""The commands about generator files: ``convert``, ``inspect`` and ``generators``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from facelatent.stylegan_ops.checkpoints import Inspection, Target

_file = click.argument("file", type=click.Path(path_type=Path))
_overwrite = click.option("--overwrite", is_flag=True, help="Replace what is there.")


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    for command in (convert, inspect, generators):
        group.add_command(command)


@click.command()
@_file
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["facelatent", "rosinality", "nvidia-state"]),
    default="facelatent",
    show_default=True,
    help="Layout of OUT: ours, or one that other repositories load.",
)
@_overwrite
def convert(file: Path, out: Path, to: Target, overwrite: bool) -> None:
    """Write the generator of the checkpoint FILE to OUT, every bit of its weights unchanged.

    FILE may be NVIDIA's .pkl, a rosinality, pSp, e4e, NADA or DIFA .pt, or safetensors. None of its code is run. OUT
    ends with .safetensors; rosinality and nvidia-state may also be .pt files.

    \b
    Examples:
      facelatent convert ffhq.pkl ffhq.safetensors
      facelatent convert ffhq.pkl stylegan2-ffhq.pt --to rosinality
    """
    from facelatent.stylegan_ops.checkpoints import convert as convert_checkpoint

    click.echo(f"wrote {convert_checkpoint(file, out, to=to, overwrite=overwrite)}")


@click.command()
@_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: Path, as_json: bool) -> None:
    """Say what FILE is, without running its code: a checkpoint, or a file of ours.

    \b
    Examples:
      facelatent inspect psp_ffhq_encode.pt
      facelatent inspect mona.safetensors
      facelatent inspect codes/codes-00000.npz
    """
    from facelatent.own_files import describe_file
    from facelatent.stylegan_ops.checkpoints import inspect_checkpoint

    if (own := describe_file(file)) is not None:
        click.echo(json.dumps(own, indent=2) if as_json else _own_description(own))
        return
    found = inspect_checkpoint(file)
    record = {**dataclasses.asdict(found), "encoder": _encoder(found)}
    click.echo(json.dumps(record, indent=2) if as_json else _description(found))


def _own_description(own: dict[str, Any]) -> str:
    """Aligned lines; what is nested goes one level in."""
    lines = []
    for name, value in own.items():
        if not isinstance(value, dict):
            lines.append(f"{name + ':':13}{value}")
        elif value:
            lines += [f"{name}:", *(f"  {key}: {json.dumps(inner)}" for key, inner in value.items())]
    return "\n".join(lines)


def _encoder(found: Inspection) -> str | None:
    """The kind of the encoder in a pSp or e4e file; None in a file without one."""
    from facelatent.inversion.encoders import encoder_kind

    if not found.settings.get("encoder_tensors"):
        return None
    return encoder_kind(found.settings["opts"]) or "unknown"


def _description(found: Inspection) -> str:
    widths = ", ".join(f"{name} {channels}" for name, channels in found.layers)
    lines = {
        "kind": f"{found.description} ({found.container}, {found.layout} names)",
        "resolution": f"{found.resolution} px",
        "layers": f"{found.num_ws} in W+, {len(found.layers)} in style space: {widths}",
        "parameters": f"{found.parameters:,}",
        "classes": str(found.classes or "none"),
        "encoder": _encoder(found) or "none",
        "missing": "; ".join(found.missing) or "nothing",
        "fingerprint": found.fingerprint,
        "W space": found.w_space,
    }
    return "\n".join(f"{name + ':':13}{text}" for name, text in lines.items())


@click.group()
def generators() -> None:
    """Keep generators under names of your own, and list them.

    \b
    Examples:
      facelatent generators import ffhq ffhq.pkl
      facelatent generators list
    """


@generators.command("import")
@click.argument("name")
@_file
@_overwrite
def import_command(name: str, file: Path, overwrite: bool) -> None:
    """Keep the generator of the checkpoint FILE under NAME, for --generator NAME.

    \b
    Example:
      facelatent generators import ffhq ffhq.pkl
    """
    from facelatent.stylegan_ops import import_generator

    click.echo(f"{name}: {import_generator(name, file, overwrite)}")


@generators.command("list")
def list_command() -> None:
    """Show the generators that have a name.

    \b
    Example:
      facelatent generators list
    """
    from facelatent.stylegan_ops import DEFAULT_GENERATOR, imported_generators

    for name in (DEFAULT_GENERATOR, *imported_generators()):
        click.echo(name)

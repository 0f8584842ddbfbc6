"""The commands about compiled kernels: ``kernels build`` and ``kernels status``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from facelatent.cuda_kernels import Kind


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    group.add_command(kernels)


@click.group()
def kernels() -> None:
    """Compile the fast operators ahead of their first use, and say how they stand.

    Without them everything runs on plain PyTorch.

    \b
    Examples:
      facelatent kernels status
      facelatent kernels build
    """


@kernels.command()
@click.option(
    "--arch",
    metavar="NAMES",
    help="CUDA architectures: 90, sm_90, 9.0, several with commas between, or all.  [default: this machine's GPUs]",
)
@click.option(
    "--cpu/--cuda",
    "cpu",
    default=None,
    help="Compile for one of them.  [default: for the CPU, and for GPUs if there are any]",
)
@click.option("--force", is_flag=True, help="Compile even what is in the cache.")
def build(arch: str | None, cpu: bool | None, force: bool) -> None:
    """Compile the kernels now; otherwise it is done when they are first needed.

    \b
    Examples:
      facelatent kernels build
      facelatent kernels build --arch 80,90
      facelatent kernels build --arch all
    """
    from facelatent.cuda_kernels.compiling import obtain

    for kind in _kinds(arch, cpu):
        began = time.monotonic()
        path = obtain(kind, arch if kind == "cuda" else None, fresh=force)
        click.echo(f"{kind}: {path} ({time.monotonic() - began:.1f} s)")


@kernels.command()
def status() -> None:
    """Show whether the kernels are compiled, what would compile them, or why that cannot be.

    \b
    Example:
      facelatent kernels status
    """
    from facelatent.cuda_kernels import status as kernels_status

    click.echo(kernels_status())


def _kinds(arch: str | None, cpu: bool | None) -> list[Kind]:
    from facelatent.cuda_kernels.toolchain import gpus

    if cpu and arch:
        raise click.UsageError("--arch names GPUs: it does not go with --cpu")
    if cpu is not None:
        return ["cpu"] if cpu else ["cuda"]
    if arch:
        return ["cuda"]
    present = gpus()
    return ["cpu", "cuda"] if present and present.architectures else ["cpu"]

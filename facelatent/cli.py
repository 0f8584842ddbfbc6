"""The command line: the group that all commands belong to, and how its errors are told."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import logging
import traceback
from typing import Any

import click

from facelatent import __version__
from facelatent.commands import (
    adapt,
    animate,
    assets,
    attributes,
    boundaries,
    config,
    demo,
    doctor,
    edit,
    evaluate,
    generators,
    invert,
    kernels,
    render,
    sample,
    studio,
    training,
)
from facelatent.commands.config_file import read_config
from facelatent.commands.pipes import is_quiet, named
from facelatent.errors import FacelatentError


class _Announcements(logging.Handler):
    """Say on stderr what the library logs: downloads and compilations, wherever first needed, and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno > logging.INFO or not is_quiet():
            click.echo(record.getMessage(), err=True)


_announcements = _Announcements(logging.INFO)


class _Commands(click.Group):
    """Print our own errors as one line and exit 1 (130 for Ctrl-C); ``--debug`` shows the traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except FacelatentError as error:
            if context.params.get("debug"):
                traceback.print_exc()
            # File names may hold line breaks; an error is one line.
            click.echo(f"facelatent: {' '.join(named(str(error)).split())}", err=True)
            raise SystemExit(1) from error
        except KeyboardInterrupt:
            click.echo("facelatent: interrupted", err=True)
            raise SystemExit(130) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="facelatent %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Edit faces in the latent space of a StyleGAN.

    \b
    Examples:
      facelatent invert photo.jpg
      facelatent edit photo.jpg --attr smile --alpha 2 -o smiling.png
      facelatent animate photo.jpg --attr yaw --from -2 --to 2 -o turning.gif
      facelatent demo

    Exit codes: 0 done, 1 an error or some files failed, 2 wrong usage, 130 stopped with Ctrl-C. Your own defaults:
    facelatent config.
    """
    context.default_map = read_config(main)
    for name in ("facelatent.assets", "facelatent.boundaries", "facelatent.cuda_kernels", "facelatent.domain_adapt"):
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.addHandler(_announcements)


for module in (
    adapt,
    animate,
    assets,
    attributes,
    config,
    demo,
    doctor,
    edit,
    evaluate,
    generators,
    invert,
    kernels,
    render,
    sample,
    studio,
    training,
):
    module.add_to(main)
boundaries.add_to(attributes.attributes)

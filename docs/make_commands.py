"""Write docs/commands.md: what ``--help`` says of every command.

The commands are imported, not run.

    python docs/make_commands.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from facelatent.cli import main

PAGE = Path(__file__).parent / "commands.md"
_WIDTH = 110
_INTRODUCTION = """\
# Every command and option

Written by `make docs` from what `--help` says; do not edit it here. [The command line](command_line.md) has what they
share: pipes, patterns, exit codes, defaults of your own.
"""


def page() -> str:
    """The whole page."""
    sections = [f"## {title}\n\n```text\n{text}\n```\n" for title, text in _helps(main, "facelatent", None)]
    return "\n".join([_INTRODUCTION, *sections])


def _helps(command: click.Command, title: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Of a command and those below it: how it is called, and what its help says."""
    widths = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    context = click.Context(command, parent, title.rpartition(" ")[2], **{**command.context_settings, **widths})
    yield title, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _helps(below, f"{title} {name}", context)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print("wrote docs/commands.md")

"""``-`` for standard input and output, patterns such as ``photos/*.jpg``, and ``--quiet``: click types and options.

What comes through a pipe is kept in a temporary file while a command runs, so that commands know nothing of pipes.
"""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from facelatent.errors import UnreadableImage

#: Formats of ``--format``, and the ending of a file of each.
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}
#: The most that is read from standard input, in bytes; :data:`facelatent.images.MAX_BYTES`, a test compares them.
MAX_BYTES = 256 << 20

_STEM = "stdin"
_MAGIC = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"GIF8", ".gif"))
_FOLDER, _CLAIMED, _STDOUT, _QUIET, _FORMAT = (
    f"facelatent.{name}" for name in ("folder", "claimed", "stdout", "quiet", "format")
)


class SourceFile(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A file to read, ``-`` for standard input: a picture or a latent."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path, of a temporary file for ``-``."""
        if str(value) != "-" or ctx is None or ctx.resilient_parsing:
            return Path(value)
        return _from_stdin(ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return [CompletionItem(incomplete, type="file")]


class TargetFile(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A file to write, ``-`` for standard output, as ``kind`` (str or Path); ``suffix`` is that of what ``-`` is."""

    name = "path"

    def __init__(self, kind: Callable[[str], Any] = Path, suffix: str = "") -> None:
        self.kind, self.suffix = kind, suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, of a temporary file for ``-``."""
        if str(value) != "-" or ctx is None or ctx.resilient_parsing:
            return self.kind(str(value))
        return self.kind(str(to_stdout(ctx, self.suffix)))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files."""
        return [CompletionItem(incomplete, type="file")]


def expanded(context: click.Context, param: click.Parameter, given: tuple[Path, ...]) -> tuple[Path, ...]:
    """Callback of arguments: quoted patterns as the files that match, in the order of their names; ``**`` for folders.

    Raises:
        UnreadableImage: nothing matches.
    """
    found: list[Path] = []
    for path in given:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = sorted(glob.glob(str(path.expanduser()), recursive=True))  # noqa: PTH207 (takes absolute ones, too)
        if not matches:
            raise UnreadableImage(f"no file matches {path}")
        found += map(Path, matches)
    return tuple(dict.fromkeys(found))


def is_piped(path: Path) -> bool:
    """Whether a path is that of a file which came from standard input, or goes to standard output."""
    return path.parent == _meta().get(_FOLDER)


def to_stdout(context: click.Context, suffix: str = "") -> Path:
    """A path whose file, if it is written, goes to standard output as the command ends; nothing else is printed there.

    Raises:
        UsageError: something else goes there already.
    """
    if context.meta.get(_CLAIMED):
        raise click.UsageError("only one thing can go to standard output: give the others a file's name", context)
    context.meta[_CLAIMED] = True
    _silence(context)
    path = _folder(context) / f"stdout{suffix or FORMATS[context.meta.get(_FORMAT) or 'png']}"

    def hand_over() -> None:
        if path.is_file():
            out = context.meta[_STDOUT].buffer
            out.write(path.read_bytes())
            out.flush()

    context.call_on_close(hand_over)
    return path


def named(text: str) -> str:
    """A message or record with ``-`` for the temporary files of pipes."""
    folder = _meta().get(_FOLDER)
    return text if folder is None else re.sub(re.escape(str(folder)) + r"[/\\][\w.-]+\w", "-", text)


def is_quiet() -> bool:
    """Whether ``--quiet`` was given."""
    return bool(_meta().get(_QUIET))


def quiet_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option ``--quiet`` of commands whose output is about what they did."""

    def be_quiet(context: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            context.meta[_QUIET] = True
            _silence(context)

    return click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=be_quiet,
        help="Print only errors and warnings, and show no progress.",
    )(command)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Option ``--format`` of commands that write pictures."""

    def keep(context: click.Context, param: click.Parameter, value: str | None) -> str | None:
        context.meta[_FORMAT] = value
        return value

    return click.option(
        "--format",
        "picture_format",
        type=click.Choice(tuple(FORMATS)),
        is_eager=True,
        callback=keep,
        help="Of pictures whose names you do not give: those on standard output, and those of many.  [default: png]",
    )(command)


def json_text(record: dict[str, Any]) -> str:
    """A record of ``--json`` as text."""
    return named(json.dumps(record, indent=2)) + "\n"


def _meta() -> dict[str, Any]:
    context = click.get_current_context(silent=True)
    return {} if context is None else context.meta


def _silence(context: click.Context) -> None:
    """Throw away what the command prints to standard output from now on."""
    if _STDOUT in context.meta:
        return
    context.meta[_STDOUT] = sys.stdout
    nowhere = context.with_resource(Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (closed with the context)
    context.with_resource(contextlib.redirect_stdout(nowhere))


def _folder(context: click.Context) -> Path:
    if _FOLDER not in context.meta:
        folder = context.with_resource(tempfile.TemporaryDirectory(prefix="facelatent-"))
        context.meta[_FOLDER] = Path(folder)
    path: Path = context.meta[_FOLDER]
    return path


def _from_stdin(context: click.Context) -> Path:
    folder = _folder(context)
    if any(path.name.startswith(_STEM) for path in folder.iterdir()):
        raise click.UsageError("standard input can be read only once: give '-' once", context)
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("'-' reads standard input, and nothing is piped into it: add < me.jpg", context)
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not data:
        raise UnreadableImage("standard input is empty (0 bytes)")
    path = folder / (_STEM + _suffix(data))
    path.write_bytes(data)
    return path


def _suffix(data: bytes) -> str:
    """The ending of a file's name by its first bytes."""
    if data[8:10] == b'{"':  # safetensors: the length of a JSON header, and the header
        return ".latent.safetensors"
    if data[:4] == b"RIFF":
        return ".webp"
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), ".png")

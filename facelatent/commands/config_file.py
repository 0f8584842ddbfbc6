"""The config file: the user's own defaults of options, in TOML."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from facelatent.commands.pipes import SourceFile, TargetFile
from facelatent.errors import InvalidFile

#: Options that may stand before the first table: they hold for every command that has them.
COMMON = ("device", "generator", "note", "quiet")

EXAMPLE = """\
device = "cpu"            # device, generator, note, quiet: for every command that has them

[edit]
format = "jpg"
size = 512

[invert]
time-limit = 60

[attributes.sample]
psi = 0.9
"""


def config_path() -> Path | None:
    """Where the config file is: FACELATENT_CONFIG, or below XDG_CONFIG_HOME or ~/.config; None if that is set to ''."""
    given = os.environ.get("FACELATENT_CONFIG")
    if given is not None:
        return Path(given).expanduser() if given else None
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "facelatent" / "config.toml"


def read_config(group: click.Group) -> dict[str, Any]:
    """click's ``default_map`` of the config file; empty if there is none.

    Raises:
        InvalidFile: it cannot be read, is not TOML, has a key that is no option, or a value that its option refuses.
    """
    path = config_path()
    if path is None:
        return {}
    if not path.is_file():
        if os.environ.get("FACELATENT_CONFIG"):
            raise InvalidFile(f"FACELATENT_CONFIG names {path}, which is not a file")
        return {}
    tables = _parsed(path)
    common = {key: tables.pop(key) for key in COMMON if key in tables}
    return _mapped(group, tables, common, path, "")


def _parsed(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidFile(f"{path} cannot be read as TOML: {error}") from error


def _mapped(
    command: click.Command, table: Mapping[str, Any], common: Mapping[str, Any], path: Path, where: str
) -> dict[str, Any]:
    """The ``default_map`` of one command, and of those below it."""
    options = _options(command)
    given = {key: value for key, value in common.items() if key in options} if where else {}
    below = command.commands if isinstance(command, click.Group) else {}
    result: dict[str, Any] = {}
    for name, other in below.items():
        inner = table.get(name, {})
        if not isinstance(inner, Mapping):
            raise InvalidFile(f"{path}: {name!r} is a command: write a table, [{where}{name}]")
        result[name] = _mapped(other, inner, common, path, f"{where}{name}.")
    for key, value in {**given, **{key: value for key, value in table.items() if key not in below}}.items():
        option = options.get(key.replace("_", "-"))
        if option is None or not where:
            raise InvalidFile(_unknown(key, [*options, *below] if where else [*COMMON, *below], path, where))
        assert option.name is not None
        result[option.name] = _checked(option, value, command, f"{path}: [{where[:-1]}] {key}")
    return result


def _options(command: click.Command) -> dict[str, click.Option]:
    """Options by their long names without dashes."""
    return {
        name.removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option) and param.name != "help"
        for name in param.opts
        if name.startswith("--")
    }


def _checked(option: click.Option, value: Any, command: click.Command, where: str) -> Any:
    """A value as click takes it, refused where click would refuse it later without naming the file."""
    if isinstance(value, Mapping) or (option.is_flag and not isinstance(value, bool)):
        raise InvalidFile(f"{where}: {'true or false' if option.is_flag else 'a value'} is wanted, not {value!r}")
    if not option.is_flag and isinstance(value, bool):
        raise InvalidFile(f"{where}: {value!r} is not a value of --{option.opts[-1].lstrip('-')}")
    several = option.multiple or option.nargs != 1
    if several and not isinstance(value, list):
        value = [value]
    if not several and isinstance(value, list):
        raise InvalidFile(f"{where}: one value is wanted, not a list")
    if not isinstance(option.type, (SourceFile, TargetFile)):
        try:
            option.type_cast_value(click.Context(command), value)
        except click.BadParameter as error:
            raise InvalidFile(f"{where}: {error.message}") from error
    return value


def _unknown(key: str, known: list[str], path: Path, where: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    place = f"[{where[:-1]}] " if where else ""
    return f"{path}: {place}{key!r} is unknown{hint} (known: {', '.join(sorted(known))})"

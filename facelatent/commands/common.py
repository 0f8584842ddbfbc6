"""What commands share: options, and the steps around the work."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from facelatent.commands.pipes import TargetFile, is_quiet, json_text, named, quiet_option
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.domain_adapt import Style
    from facelatent.inversion import Recipe
    from facelatent.stylegan_ops import Generator

generator_option = click.option(
    "--generator", "generator_name", metavar="NAME|FILE", help="Which generator draws.  [default: mobile-ffhq-1024]"
)
device_option = click.option(
    "--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: a GPU if there is one]"
)
note_option = click.option(
    "--note/--no-note",
    default=True,
    show_default=True,
    help="Say in the pictures' metadata that they are edited or generated.",
)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that does something: ``--json`` and ``--quiet``."""
    written = click.option(
        "--json", "json_file", type=TargetFile(Path, ".json"), help="Also write what was done as JSON; - for stdout."
    )
    return written(quiet_option(command))


def complete_attribute(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of shipped attributes that begin like this, and files; the last one of a list with commas."""
    # The library's folder is listed here, as its own module imports torch; a test compares them.
    suffix = ".boundary.safetensors"
    files = (Path(__file__).parents[1] / "boundaries" / "library").glob("*" + suffix)
    before, comma, last = incomplete.rpartition(",")
    known = sorted(file.name.removesuffix(suffix) for file in files)
    matching = [CompletionItem(before + comma + name) for name in known if name.startswith(last)]
    return matching or [CompletionItem(incomplete, type="file")]


def folder_option(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Option ``-o/--out`` of commands that write several files."""
    return click.option(
        "-o",
        "--out",
        type=click.Path(path_type=Path),
        default=Path(default),
        show_default=True,
        help="Folder to write.",
    )


# facelatent.inversion.METHODS, which would import torch; a test compares them.
METHODS = ("encoder", "encoder+optimize", "encoder+optimize+tune", "optimize", "optimize+tune")
_recipe_options = (
    click.option(
        "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the inversion."
    ),
    click.option("--tune-steps", type=click.IntRange(1), help="Most tuning steps.  [default: 200]"),
    click.option("--steps", type=click.IntRange(2), help="Most optimisation steps.  [default: 250, before tuning 120]"),
    click.option(
        "--time-limit",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="About how long an inversion may take.",
    ),
    click.option(
        "--encoder",
        "encoder_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Encoder to start from, ours, pSp's or e4e's.  [default: the one that comes with the generator]",
    ),
    click.option(
        "--method",
        type=click.Choice(METHODS),
        help="How photos are inverted.  [default: encoder+optimize+tune; without an encoder, optimize+tune]",
    ),
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that inverts photos; :func:`chosen_recipe` reads them."""
    for option in _recipe_options:
        command = option(command)
    return command


_style_options = (
    click.option(
        "--style-strength",
        type=click.FloatRange(0, 2),
        default=1.0,
        show_default=True,
        help="How strongly: 0 not at all, 0.6 to 0.8 the most natural, 1 as it was made.",
    ),
    click.option(
        "--style",
        "styles",
        multiple=True,
        metavar="FILE[:STRENGTH]",
        help="Draw in the style of this file; several are mixed, in equal parts unless they have strengths.",
    ),
)


def style_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that draws in a style; :func:`chosen_generator` reads them."""
    for option in _style_options:
        command = option(command)
    return command


def chosen_generator(options: dict[str, Any]) -> Generator:
    """The generator of ``--generator``, on ``--device``, adapted by ``--style``.

    Raises:
        InvalidFile: a style's file cannot be read.
        IncompatibleLatent: a style belongs to another generator.
    """
    from facelatent.stylegan_ops import DEFAULT_GENERATOR, load_generator

    chosen = _chosen_style(options)
    generator = load_generator(options["generator_name"] or DEFAULT_GENERATOR, options["device"])
    return generator if chosen is None else chosen[0].applied(generator, chosen[1])


def style_record(options: dict[str, Any]) -> dict[str, Any]:
    """What ``--json`` records of the style: nothing where there is none."""
    if not options["styles"]:
        return {}
    return {"styles": list(options["styles"]), "style_strength": options["style_strength"]}


def chosen_styles(options: dict[str, Any]) -> list[tuple[Style, float]]:
    """The styles of ``--style``, each with its own strength; errors as :func:`chosen_generator`."""
    if not options.get("styles"):
        if options.get("style_strength", 1.0) != 1.0:
            raise click.UsageError("--style-strength is for --style")
        return []
    from facelatent.domain_adapt import Style

    named = [_style_and_strength(text) for text in options["styles"]]
    given = [strength for _, strength in named if strength is not None]
    if 0 < len(given) < len(named):
        raise click.UsageError("give every --style a strength (FILE:STRENGTH), or none")
    strengths = given or [1 / len(named)] * len(named)
    return [(Style.load(path), strength) for (path, _), strength in zip(named, strengths, strict=True)]


def _chosen_style(options: dict[str, Any]) -> tuple[Style, float] | None:
    """The style, or mixture, of ``--style`` and its strength; None if there is none."""
    styles = chosen_styles(options)
    if not styles:
        return None
    if len(styles) == 1:
        return styles[0][0], styles[0][1] * options["style_strength"]
    from facelatent.domain_adapt import mix

    return mix(styles), options["style_strength"]


def _style_and_strength(text: str) -> tuple[Path, float | None]:
    """File and strength of ``--style FILE[:STRENGTH]``; a file's own name may have a colon."""
    file, _, number = text.rpartition(":")
    try:
        strength = float(number)
    except ValueError:
        return Path(text), None
    if not file or Path(text).exists():
        return Path(text), None
    if not -2 <= strength <= 2:
        raise click.UsageError(f"a style's strength is between -2 and 2, not {number}")
    return Path(file), strength


def chosen_recipe(options: dict[str, Any]) -> Recipe | None:
    """How to invert photos if that differs from the default, or None.

    Raises:
        UnsafeCheckpoint, UnsupportedCheckpoint: the encoder's file cannot be read.
    """
    names = ("method", "encoder_file", "time_limit", "steps", "tune_steps")
    if options["seed"] == 0 and all(options[name] is None for name in names):
        return None
    from facelatent.inversion import OptimizeSettings, Recipe, TuneSettings, load_encoder
    from facelatent.inversion.methods import STEPS_BEFORE_TUNING

    method, file, seed = options["method"], options["encoder_file"], options["seed"]
    if method and file and "encoder" not in method:
        raise click.UsageError(f"--method {method} uses no encoder: leave out --encoder")
    tuned = method is None or "tune" in method
    tuning = {} if options["tune_steps"] is None else {"steps": options["tune_steps"]}
    return Recipe(
        method,
        OptimizeSettings.with_steps(options["steps"] or (STEPS_BEFORE_TUNING if tuned else None), seed),
        TuneSettings(**tuning, seed=seed),
        load_encoder(file) if file else None,
        options["time_limit"],
    )


def check_outputs(source: Path | None, *targets: Path | None) -> None:
    """Refuse outputs that are the source or each other, and unwritable ones, before minutes of work."""
    from facelatent.files import check_writable

    seen = {source.resolve(): "the source itself"} if source else {}
    for target in targets:
        if target is not None:
            linked = source is not None and target.exists() and source.exists() and target.samefile(source)
            if linked or target.resolve() in seen:
                which = "the source itself" if linked else seen[target.resolve()]
                raise FacelatentError(f"{target} is {which}; choose another output path")
            seen[target.resolve()] = "named for two outputs"
            check_writable(target)


def metrics_line(metrics: dict[str, float]) -> str:
    """Metrics as a user reads them."""
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def write_json(path: Path | None, record: dict[str, Any]) -> None:
    """Write the record of ``--json``, if it was asked for."""
    from facelatent.files import atomic_path

    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(json_text(record))
        click.echo(f"wrote {path}")


def say(line: str, err: bool = False) -> None:
    """Print a line above a progress bar that may be there."""
    from tqdm import tqdm

    with tqdm.external_write_mode():
        click.echo(named(line), err=err)


def resolution_range(text: str) -> tuple[int, int]:
    """The resolutions of ``--layers A-B``."""
    first, _, last = text.partition("-")
    if not is_number(first) or not is_number(last) or int(first) > int(last):
        raise click.UsageError(f"--layers takes resolutions such as 4-32, not {text!r}")
    return int(first), int(last)


def on_terminal() -> bool:
    """Progress bars are for people: shown on a terminal, not in logs."""
    return sys.stderr.isatty() and not is_quiet()


def name_and_number(text: str, wanted: str) -> tuple[str, float]:
    """The two of ``NAME=NUMBER``; ``wanted`` begins the message that says what an option takes."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise click.UsageError(f"{wanted}, not {text!r}")
    return name, value


def is_number(text: str) -> bool:
    """Whether a text is a seed: ASCII digits, below 2**63."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63


def chosen_seeds(text: str) -> list[int]:
    """The seeds of ``--seed``: 3, 1-16 or 1,5,9."""
    parts = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not is_number(first) or (dash and not is_number(last)):
            raise click.UsageError(f"--seed takes 3, 1-16 or 1,5,9 (each below 2**63), not {text!r}")
        parts.append((int(first), int(last or first)))
    count = sum(max(last - first + 1, 0) for first, last in parts)
    if not 1 <= count <= 10_000:
        raise click.UsageError(f"--seed {text!r} names {count} faces; between 1 and 10,000 are drawn")
    return [number for first, last in parts for number in range(first, last + 1)]

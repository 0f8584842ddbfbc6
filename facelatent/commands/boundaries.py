"""The commands that make boundaries: ``attributes train`` and ``attributes discover``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    chosen_generator,
    device_option,
    folder_option,
    generator_option,
    json_option,
    on_terminal,
    resolution_range,
    write_json,
)
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.boundaries import Boundary
    from facelatent.boundaries.training import Space

#: facelatent.boundaries.training.SPACES, which would import torch; a test compares them.
SPACES = ("w", "w+", "s")


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``, that of ``attributes``."""
    for command in (train, discover):
        group.add_command(command)


@click.command()
@click.argument("attribute")
@click.option(
    "--codes",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Scored codes (.npz); --n draws and scores what is missing.",
)
@click.option(
    "--mixed",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --hold: scored codes of 'sample --mixed', which tell what each group of layers does.",
)
@click.option("--n", "count", type=click.IntRange(100), help="How many codes to use.  [default: all in the folder]")
@click.option("--score", help="What to fit it to.  [default: the attribute's own score]")
@click.option("--method", type=click.Choice(("svm", "ridge")), default="svm", show_default=True, help="Kind of fit.")
@click.option(
    "--ratio",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.02,
    show_default=True,
    help="Share of the codes taken from each end; 0.5 for all.",
)
@click.option("--hold", metavar="NAME,...", help="Attributes or scores that edits should leave alone.")
@click.option("--space", type=click.Choice(SPACES), help="Where edits act.  [default: w; with --hold, w+]")
@click.option(
    "--faces", type=click.IntRange(3), default=24, show_default=True, help="Faces that candidate edits are tried on."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the split.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="File to write.  [default: ATTRIBUTE.boundary.safetensors]"
)
@generator_option
@device_option
@json_option
def train(attribute: str, codes: Path, mixed: Path | None, out: Path | None, **options: Any) -> None:
    """Train a boundary for ATTRIBUTE from scored codes.

    A hyperplane is fitted between the highest- and the lowest-scored codes. With --hold, candidate edits are tried on
    a few faces and combined so that they change the score as before, and what is held, the identity and the rest of
    the picture as little as they can: a few seconds a face and candidate, kept beside the result, so that the same
    command goes on where it was stopped.

    \b
    Examples:
      facelatent attributes train smile --codes codes/ -o smile.boundary.safetensors
      facelatent attributes train age --codes codes/ --n 50000 --hold gender,yaw,smile --faces 100
      facelatent attributes train age --codes codes/ --mixed mixed/ --hold gender,yaw
      facelatent attributes train smile --codes codes/ --ratio 0.2 --hold age,gender --space s
    """
    from facelatent.boundaries.boundary import SUFFIX
    from facelatent.boundaries.codes import read_codes
    from facelatent.boundaries.training import TrainSettings, score_of, train_boundary
    from facelatent.files import check_writable

    target = out or Path(attribute + SUFFIX)
    for path in (target, options["json_file"]):
        if path is not None:
            check_writable(path)
    generator = chosen_generator(options)
    scored = _codes(codes, options["count"], generator)
    hold = tuple(name for name in (options["hold"] or "").split(",") if name)
    space: Space = options["space"] or ("w+" if hold else "w")
    if mixed is not None and space != "w+":
        raise click.UsageError("--mixed is for space w+: use it with --hold")
    settings = TrainSettings(
        ratio=options["ratio"],
        seed=options["seed"],
        method=options["method"],
        hold=hold,
        space=space,
        faces=options["faces"],
    )
    try:
        boundary = train_boundary(
            attribute,
            options["score"] or score_of(attribute, scored),
            scored,
            generator,
            settings,
            target.with_name(target.name.removesuffix(SUFFIX) + "-probes"),
            progress=on_terminal(),
            mixed=None if mixed is None else read_codes(mixed),
        )
    except ValueError as error:
        raise FacelatentError(str(error)) from error
    boundary.save(target)
    for line in _described(boundary):
        click.echo(line)
    click.echo(f"wrote {target}; try: facelatent edit PHOTO --attr {target} --alpha 2")
    write_json(options["json_file"], {"boundary": str(target), "attribute": attribute, "report": boundary.report})


@click.command()
@click.option("--method", type=click.Choice(("ganspace", "sefa")), default="ganspace", show_default=True, help="How.")
@click.option("--count", type=click.IntRange(1, 512), default=10, show_default=True, help="How many directions.")
@click.option("--layers", metavar="A-B", help="sefa: resolutions that are looked at, and that the result edits.")
@click.option(
    "--strips/--no-strips", default=True, show_default=True, help="Also draw what each direction does to a face."
)
@click.option("--face", type=click.IntRange(0, 2**62), default=1, show_default=True, help="Seed of that face.")
@folder_option("directions")
@generator_option
@device_option
def discover(method: str, count: int, layers: str | None, strips: bool, face: int, out: Path, **options: Any) -> None:
    """Find directions without labels: principal components of w (GANSpace), or what the layers stretch most (SeFa).

    What they change is for you to see and name: each becomes a boundary file, and a strip.

    \b
    Examples:
      facelatent attributes discover
      facelatent attributes discover --method sefa --layers 16-32 --count 6 -o sefa
      facelatent edit me.jpg --attr directions/ganspace-03.boundary.safetensors --alpha 2
    """
    from facelatent.boundaries.boundary import SUFFIX
    from facelatent.boundaries.discover import ganspace, sefa
    from facelatent.files import check_writable

    if layers is not None and method != "sefa":
        raise click.UsageError("--layers is for --method sefa")
    check_writable(out / "x")
    generator = chosen_generator(options)
    found = (
        ganspace(generator, count)
        if method == "ganspace"
        else sefa(generator, count, None if layers is None else resolution_range(layers))
    )
    for boundary in found:
        boundary.save(out / f"{boundary.attribute}{SUFFIX}")
    if strips:
        _save_strips(found, generator, face, out)
    click.echo(f"wrote {len(found)} directions to {out}/")


def _codes(folder: Path, count: int | None, generator: Any) -> Any:
    from facelatent.boundaries import sample_scores
    from facelatent.boundaries.codes import read_codes

    if count is None:
        return read_codes(folder)
    return sample_scores(generator, count, folder, progress=on_terminal())


def _described(boundary: Boundary) -> list[str]:
    report = boundary.report
    lines = [
        f"{boundary.attribute}: {report['samples']} codes, {report['train']} trained on; held out: accuracy "
        f"{report['accuracy_held_out']:.3f} of the extremes, {report['accuracy_all_held_out']:.3f} of all, "
        f"AUC {report['auc_held_out']:.3f}; bootstrap cosine {report['bootstrap_cosine']:.3f}"
    ]
    if report.get("cosines"):
        lines.append("cosines: " + ", ".join(f"{name} {value:+.2f}" for name, value in report["cosines"].items()))
    if drift := report.get("disentangled", {}).get("relative_drift"):
        parts = ", ".join(f"{name} {value:.2f}" for name, value in drift.items())
        lines.append(f"drift relative to the plain edit, on faces left out: {parts}")
    return lines


def _save_strips(found: list[Boundary], generator: Any, face: int, out: Path) -> None:
    import torch
    from tqdm import tqdm

    from facelatent.editing import edit_strip
    from facelatent.images import save_image

    with torch.no_grad():
        ws = generator.broadcast(generator.sample_w(face, 0.7))
    for boundary in tqdm(found, desc="drawing", unit="direction", disable=not on_terminal()):
        save_image(edit_strip(generator, ws, boundary, (-3.0, -1.5, 0.0, 1.5, 3.0)), out / f"{boundary.attribute}.jpg")

"""The commands that measure: ``evaluate inversion``, ``edits`` and ``adaptation``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    chosen_generator,
    chosen_recipe,
    chosen_seeds,
    device_option,
    folder_option,
    generator_option,
    name_and_number,
    on_terminal,
    recipe_options,
    style_options,
)
from facelatent.commands.many import gathered
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from PIL import Image

    from facelatent.evaluation import Case, EditSummary, Evaluation, Inverted, Inverter, Probe
    from facelatent.evaluation.adaptation import Adaptation
    from facelatent.evaluation.directions import Direction, DirectionResult
    from facelatent.inversion import Recipe
    from facelatent.stylegan_ops import Generator


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    group.add_command(evaluate)


@click.group()
def evaluate() -> None:
    """Measure how well things work, on your pictures or on generated ones.

    \b
    Examples:
      facelatent evaluate inversion --images photos/ --limit 10
      facelatent evaluate edits --attr smile --faces 20
      facelatent evaluate adaptation --style mona.safetensors --reference mona.png
    """


@evaluate.command()
@click.option("--images", type=click.Path(path_type=Path), help="A folder of photos, or one photo.")
@click.option("--generated", type=click.IntRange(1), metavar="N", help="N generated faces, whose codes are known.")
@click.option("--aligned", is_flag=True, help="The images are FFHQ-aligned crops: do not look for faces.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option(
    "--psi", type=click.FloatRange(0, 2), default=0.8, show_default=True, help="Truncation of generated faces."
)
@click.option("--mixed", is_flag=True, help="Generated faces change from one w to another at random layers.")
@click.option(
    "--first-seed",
    type=click.IntRange(0, 2**62),
    default=2_000_000,
    show_default=True,
    help="Of the generated faces; no training saw these.",
)
@click.option("--arcface", type=click.Path(path_type=Path), metavar="FILE", help="model_ir_se50.pth: one more judge.")
@click.option("--edits/--no-edits", default=True, show_default=True, help="Try edits on what was inverted.")
@click.option(
    "--consistency/--no-consistency",
    default=None,
    help="Invert each edited picture again; seven times the work.  [default: for --method encoder]",
)
@click.option("--rows", type=click.IntRange(1, 200), default=12, show_default=True, help="Pictures on the sheet.")
@folder_option("evaluation")
@recipe_options
@generator_option
@device_option
def inversion(out: Path, **options: Any) -> None:
    """Invert pictures and measure the reconstructions, whether edits still work, and how stable the codes are.

    Prints a table, and writes inversion.json with everything about every picture and inversion.jpg, a sheet with the
    worst ones first. Takes as long as the inversions, and about ten seconds more for each picture.

    \b
    Examples:
      facelatent evaluate inversion --generated 10 --method optimize
      facelatent evaluate inversion --images photos/ --limit 10 -o report
      facelatent evaluate inversion --images crops/ --aligned --no-edits --time-limit 60
    """
    from facelatent.evaluation import EvaluationSettings, evaluate_inversion
    from facelatent.inversion import ArcFaceIdentity, Recipe, check_recipe

    _check(out, options)
    generator = chosen_generator(options)
    recipe = chosen_recipe(options) or Recipe()
    check_recipe(recipe, generator)
    cases = _cases(generator, options)
    probes = _probes(generator) if options["edits"] else []
    consistency = options["consistency"]
    if consistency is None:
        consistency = recipe.method_for(generator) == "encoder"
    arcface = ArcFaceIdentity(options["arcface"], generator.device) if options["arcface"] else None
    settings = EvaluationSettings(probes, consistency, arcface, options["rows"])
    result = evaluate_inversion(cases, generator, _inverter(recipe, generator), settings, progress=on_terminal())
    edits = _edit_summary(result, generator, probes, options)
    _print(result, edits)
    _write(out, result, edits, generator, recipe, options)
    if result.failed:
        raise SystemExit(1)


@evaluate.command()
@click.option(
    "--attr",
    "--boundary",
    "attributes",
    multiple=True,
    metavar="NAME|FILE",
    help="What to measure, several times.  [default: every shipped attribute of the generator's W space]",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE|DIR",
    help="Other directions (.npy, .npz, .pt, ours) for the same scores, measured in the same run.",
)
@click.option("--target", "targets", multiple=True, metavar="SCORE=CHANGE", help="Where to compare: age=20.")
@click.option("--faces", type=click.IntRange(2), default=40, show_default=True, help="Generated faces to try them on.")
@click.option("--psi", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="Their truncation.")
@click.option(
    "--first-seed", type=click.IntRange(0, 2**62), default=4_000_000, show_default=True, help="No training saw these."
)
@click.option("--strips", type=click.IntRange(0, 40), default=6, show_default=True, help="People on each strip.")
@folder_option("evaluation")
@style_options
@generator_option
@device_option
def edits(attributes: tuple[str, ...], compare: Path | None, out: Path, **options: Any) -> None:
    """Measure what edits change beside what they should.

    Every direction is tried at several strengths on the same faces, and compared where it has changed its own score by
    the same on average. Prints the drift of every score there (AD: mean of the others, in their standard deviations),
    and writes edits.json with all curves, edits.png, the re-scoring matrix as a picture, and strips.

    \b
    Examples:
      facelatent evaluate edits --attr smile --attr age --faces 20
      facelatent evaluate edits --attr mine.boundary.safetensors --attr smile --compare e4e_ffhq.npz
      facelatent evaluate edits --attr age --target age=10 -o report
      facelatent evaluate edits --attr smile --style mona.safetensors
    """
    from facelatent.boundaries.measures import measure_faces
    from facelatent.evaluation.directions import evaluate_directions, matrix_table
    from facelatent.files import check_writable

    for name in ("edits.json", "edits.png"):
        check_writable(out / name)
    goals = dict(_goal(text) for text in options["targets"])
    generator = chosen_generator(options)
    directions = _directions(generator, attributes, compare)
    try:
        results = evaluate_directions(
            generator,
            directions,
            measure_faces,
            options["faces"],
            options["psi"],
            options["first_seed"],
            goals,
            progress=on_terminal(),
        )
    except ValueError as error:
        raise FacelatentError(str(error)) from error
    click.echo(matrix_table(results))
    written = _write_edits(out, generator, directions, results, options)
    click.echo(f"\nwrote {', '.join(written)} to {out}/")


@evaluate.command()
@click.option(
    "--style", "style_file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="What is measured."
)
@click.option(
    "--reference", type=click.Path(path_type=Path), required=True, metavar="IMAGE", help="The artwork it was made from."
)
@click.option(
    "--other", "others", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help="A style to compare with."
)
@click.option(
    "--strength", "strengths", type=click.FloatRange(0, 2), multiple=True, help="Of the style.  [default: 0.8 and 1]"
)
@click.option("--seed", "seeds", help="People: 3, 1-16 or 1,5,9.  [default: 16 of many kinds that no training saw]")
@click.option("--psi", type=click.FloatRange(0, 2), default=0.8, show_default=True, help="Their truncation.")
@click.option("--edits/--no-edits", default=True, show_default=True, help="Try edits in the style.")
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True, help="People on the sheet.")
@folder_option("evaluation")
@generator_option
@device_option
def adaptation(
    style_file: Path, reference: Path, others: tuple[Path, ...], strengths: tuple[float, ...], out: Path, **options: Any
) -> None:
    """Measure a style: how near the reference it brings faces, and what it leaves of the people and of edits.

    The same people are drawn by the source, in the style, in other styles, and by the source with the reference's
    palette. Prints a table, and writes adaptation.json and adaptation.jpg, a sheet of people. Takes about a minute and
    a half of a CPU core.

    \b
    Examples:
      facelatent evaluate adaptation --style mona.safetensors --reference mona.png
      facelatent evaluate adaptation --style a.safetensors --other b.safetensors --reference mona.png
      facelatent evaluate adaptation --style a.safetensors --reference mona.png --seed 1-8 --no-edits
    """
    import torch

    from facelatent.domain_adapt import Style
    from facelatent.evaluation.adaptation import (
        PEOPLE,
        AdaptationSettings,
        evaluate_adaptation,
        reference_picture,
    )
    from facelatent.files import check_writable

    for name in ("adaptation.json", "adaptation.jpg"):
        check_writable(out / name)
    numbers = chosen_seeds(options["seeds"]) if options["seeds"] else list(PEOPLE)
    if len(numbers) < 2:
        raise click.UsageError("--seed has to name two people or more: diversity is measured between them")
    style = Style.load(style_file)
    compared = {path.name.removesuffix(".safetensors"): Style.load(path) for path in others}
    picture, aligned = reference_picture(reference)
    if not aligned:
        click.echo(f"no face found in {reference}: its middle is compared with", err=True)
    generator = chosen_generator(options)
    with torch.no_grad():
        codes = [generator.broadcast(generator.sample_w(number, options["psi"])).contiguous() for number in numbers]
    people = {f"seed {number}": ws for number, ws in zip(numbers, codes, strict=True)}
    probes = _probes(generator) if options["edits"] else []
    settings = AdaptationSettings(strengths or (0.8, 1.0), compared, probes, options["rows"], options["rows"])
    result = evaluate_adaptation(generator, style, picture, people, settings, progress=on_terminal())
    _print_adaptation(result)
    record = {
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
        "style": {"file": str(style_file), "name": style.name, "bytes": style_file.stat().st_size, **style.report},
        "reference": {"file": str(reference), "aligned": aligned},
        "seeds": numbers,
        "psi": options["psi"],
    }
    _write_adaptation(out, result, record)


def _print_adaptation(result: Adaptation) -> None:
    from facelatent.evaluation import edit_table
    from facelatent.evaluation.adaptation import adaptation_table

    click.echo(adaptation_table(result.metrics))
    if result.edits:
        click.echo("\nedits in the style, against those of the same people's sources (generated)")
        click.echo(edit_table(result.edits))


def _write_adaptation(out: Path, result: Adaptation, record: dict[str, Any]) -> None:
    from dataclasses import asdict

    from facelatent.images import save_image

    stored = {
        "evaluation": "adaptation",
        **record,
        "metrics": result.metrics,
        "strangers": result.strangers,
        "edits": [asdict(edit) for edit in result.edits],
    }
    _write_record(out / "adaptation.json", stored)
    save_image(result.sheet, out / "adaptation.jpg")
    click.echo(f"\nwrote adaptation.json and adaptation.jpg to {out}/")


def _goal(text: str) -> tuple[str, float]:
    wanted = "--target takes a score and a positive change such as age=20"
    name, change = name_and_number(text, wanted)
    if change <= 0:
        raise click.UsageError(f"{wanted}, not {text!r}")
    return name, change


def _directions(generator: Generator, attributes: tuple[str, ...], compare: Path | None) -> list[Direction]:
    from facelatent.boundaries import shipped_boundaries
    from facelatent.evaluation.directions import own_direction, published_directions

    directions = [own_direction(name, generator) for name in attributes or shipped_boundaries()]
    if compare is not None:
        directions += published_directions(compare, generator, [one.score for one in directions])
    return directions


def _write_edits(
    out: Path,
    generator: Generator,
    directions: list[Direction],
    results: list[DirectionResult],
    options: dict[str, Any],
) -> list[str]:
    import re
    from dataclasses import asdict

    from facelatent.evaluation.directions import heat_map, record, strips
    from facelatent.images import save_image

    stored = {
        "evaluation": "edits",
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
        "options": {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()},
        "directions": [record(asdict(result)) for result in results],
    }
    _write_record(out / "edits.json", stored)
    save_image(heat_map(results), out / "edits.png")
    written = ["edits.json", "edits.png"]
    for number, direction in enumerate(directions if options["strips"] else [], 1):
        name = f"{number:02d}-{re.sub(r'[^A-Za-z0-9_-]+', '-', direction.label).strip('-')}.jpg"
        save_image(
            strips(generator, direction.boundary, options["strips"], options["psi"], options["first_seed"]), out / name
        )
        written.append(name)
    return written


def _check(out: Path, options: dict[str, Any]) -> None:
    """Complain about what cannot work before minutes of work."""
    from facelatent.files import check_writable

    images, generated = options["images"], options["generated"]
    if (images is None) == (generated is None):
        raise click.UsageError("say what to invert: --images DIR or --generated N")
    names = ("psi", "mixed", "first_seed") if generated is None else ("aligned", "limit")
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is for {'--generated' if generated is None else '--images'}")
    if images is not None and out.resolve() == images.resolve():
        raise FacelatentError(f"{out} is the folder of the images, and the sheet would become one; choose another")
    for name in ("inversion.json", "inversion.jpg"):
        check_writable(out / name)


def _cases(generator: Generator, options: dict[str, Any]) -> list[Case]:
    from facelatent.evaluation import generated_cases, photo_cases
    from facelatent.images import picture_suffixes

    if options["generated"] is not None:
        return generated_cases(generator, options["generated"], options["first_seed"], options["psi"], options["mixed"])
    photos = gathered((options["images"],), picture_suffixes())
    return photo_cases(photos[: options["limit"]], generator, options["aligned"])


def _probes(generator: Generator) -> list[Probe]:
    from facelatent.errors import IncompatibleLatent
    from facelatent.evaluation import load_probes

    try:
        return load_probes(generator)
    except IncompatibleLatent as error:
        click.echo(f"no edits are tried: {error}", err=True)
        return []


def _inverter(recipe: Recipe, generator: Generator) -> Inverter:
    from facelatent.evaluation import Inverted
    from facelatent.inversion import invert_with

    def found(image: Image.Image) -> Inverted:
        latent = invert_with(recipe, image, generator, aligned=True)
        return Inverted(latent.ws, latent.generator_for(generator))

    return found


def _edit_summary(
    result: Evaluation, generator: Generator, probes: list[Probe], options: dict[str, Any]
) -> list[EditSummary]:
    """Edits of photos are compared with those of generated faces, which takes a minute."""
    from facelatent.evaluation import generated_effects

    photos = options["images"] is not None and result.pictures and probes
    return result.edit_summary(generated_effects(generator, probes, progress=on_terminal()) if photos else ())


def _print(result: Evaluation, edits: list[EditSummary]) -> None:
    from facelatent.evaluation import edit_table
    from facelatent.inversion.evaluation import summary_table

    if result.pictures:
        click.echo(summary_table(result.summary()))
    if edits:
        click.echo(f"\n{edit_table(edits)}")
    if result.failed:
        total = len(result.pictures) + len(result.failed)
        lines = [reason if name in reason else f"{name}: {reason}" for name, reason in result.failed]
        click.echo(
            "\n".join([f"facelatent: {len(lines)} of {total} failed:", *(f"  {line}" for line in lines)]), err=True
        )


def _write(
    out: Path,
    result: Evaluation,
    edits: list[EditSummary],
    generator: Generator,
    recipe: Recipe,
    options: dict[str, Any],
) -> None:
    from dataclasses import asdict

    from facelatent.images import save_image

    chosen = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    record = {
        "evaluation": "inversion",
        "generator": {"name": generator.name, "fingerprint": generator.fingerprint},
        "inversion": recipe.described(generator),
        "options": chosen,
        "summary": {name: asdict(summary) for name, summary in result.summary().items()},
        "edits": [asdict(edit) for edit in edits],
        "pictures": [asdict(picture) for picture in result.pictures],
        "failed": [{"name": name, "reason": reason} for name, reason in result.failed],
    }
    _write_record(out / "inversion.json", record)
    written = "inversion.json"
    if result.sheet is not None:
        save_image(result.sheet, out / "inversion.jpg")
        written += " and inversion.jpg"
    click.echo(f"\nwrote {written} to {out}/")


def _write_record(path: Path, record: dict[str, Any]) -> None:
    import json

    from facelatent.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")

"""The commands about attributes: what can be edited, and what it takes to make more."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from facelatent.commands.common import (
    check_outputs,
    chosen_generator,
    device_option,
    generator_option,
    json_option,
    on_terminal,
    write_json,
)

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
      facelatent attributes scorers
      facelatent attributes sample --n 50000 -o codes
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
    click.echo(f"{'attribute':<16} {'a positive strength':<38} {'extremes':>8} {'all':>6}  generator")
    for one in boundaries:
        extremes, everything = (one.report[f"accuracy_{kind}"] for kind in ("held_out", "all_held_out"))
        numbers = f"{extremes:>8.3f} {everything:>6.3f}"
        click.echo(f"{one.attribute:<16} {one.report['plus']:<38} {numbers}  {one.generator}")
    click.echo(
        "\nextremes, all: accuracy on faces that were not trained on. Edit with: facelatent edit PHOTO --attr NAME"
    )


@attributes.command("scorers")
@_json
def scorers_command(as_json: bool) -> None:
    """List what can be measured: scorers, their attributes and units, and where they come from.

    An installed package adds its own under the entry-point group facelatent.scorers.

    \b
    Example:
      facelatent attributes scorers
    """
    from facelatent.boundaries import catalogue
    from facelatent.boundaries.scorers import facts

    known = catalogue()
    if as_json:
        rows = []
        for name, scorer in known.scorers.items():
            version, units, source = facts(scorer)
            measured = {attribute: units.get(attribute, "") for attribute in scorer.attributes}
            package = known.packages[name]
            rows.append({"name": name, "package": package, "version": version, "units": measured, "source": source})
        click.echo(json.dumps({"scorers": rows, "broken": known.broken}, indent=2))
        return
    for name, scorer in known.scorers.items():
        _, units, source = facts(scorer)
        click.echo(f"{name}  ({known.packages[name]})\n    {source or 'source not given'}")
        for attribute in scorer.attributes:
            click.echo(f"    {attribute:<22} {units.get(attribute, '')}".rstrip())
    for name, reason in known.broken.items():
        click.echo(f"{name}: cannot be loaded from {reason}", err=True)


@attributes.command("sample")
@click.option("--n", "count", type=click.IntRange(1), required=True, help="How many faces.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for codes and scores.")
@click.option(
    "--scorer",
    "wanted",
    multiple=True,
    metavar="NAME|FILE",
    help="A scorer, an attribute, a .onnx or a .safetensors file; may be repeated.  [default: all built-in ones]",
)
@click.option("--clip", metavar="FILE", help="Weights of an open_clip network, for --prompt.")
@click.option("--clip-model", default="ViT-B-32", show_default=True, help="Its architecture, as open_clip calls it.")
@click.option("--prompt", "prompts", multiple=True, metavar="NAME=MORE|LESS", help="A pair of texts to score by.")
@click.option("--seed", type=click.IntRange(0, (1 << 42) - 1), default=0, show_default=True, help="Of the faces.")
@click.option("--psi", type=click.FloatRange(0, 2), default=0.8, show_default=True, help="Truncation.")
@click.option("--mixed", is_flag=True, help="Codes of their own for each face's groups of layers: for 'train --mixed'.")
@click.option("--batch", type=click.IntRange(1), help="Faces drawn at once.  [default: 4; on a GPU 32]")
@click.option(
    "--least-detection", type=float, default=0.3, show_default=True, help="Below it a face is counted as doubtful."
)
@generator_option
@device_option
@json_option
def sample_command(count: int, out: Path, **options: Any) -> None:
    """Draw random faces and score them: what boundaries are fitted to. Stopped, it goes on where it was.

    Codes and scores are kept in OUT as codes-00000.npz and so on, 500 faces each. Run again with another --scorer, it
    adds those scores to the same faces. Under torchrun, processes share the work; each GPU takes its own.

    \b
    Examples:
      facelatent attributes sample --n 50000 -o codes
      facelatent attributes sample --n 50000 -o codes --scorer beard.onnx
      torchrun --nproc-per-node 4 --no-python facelatent attributes sample --n 50000 -o codes
      facelatent attributes sample --n 20000 -o codes --clip vit.safetensors \\
        --prompt "beard=a man with a beard|a shaved man"
    """
    from facelatent.boundaries import SCORERS, Scorer, find_scorers, make_shards, read_scores
    from facelatent.boundaries.scorers.clip import ClipScorer, read_prompts
    from facelatent.files import check_writable
    from facelatent.processes import Share

    try:
        share = Share.from_environment()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    check_writable(out / "codes-00000.npz")
    if bool(options["clip"]) != bool(options["prompts"]):
        raise click.UsageError("--clip and --prompt are used together")
    asked = options["wanted"]
    scorers: tuple[Scorer, ...] = find_scorers(asked) if asked or options["clip"] else SCORERS
    if options["clip"]:
        scorers += (ClipScorer(options["clip"], read_prompts(options["prompts"]), options["clip_model"]),)
    generator = chosen_generator({**options, "device": options["device"] or share.device})
    batch = options["batch"] or (4 if generator.device.type == "cpu" else 32)
    seed, psi = options["seed"], options["psi"]
    made = make_shards(generator, count, out, seed, psi, scorers, batch, on_terminal(), share, options["mixed"])
    who = f"process {share.rank} of {share.world}: " if share.world > 1 else ""
    click.echo(f"{who}scored {made} faces; codes and scores are in {out}")
    record = {"out": str(out), "count": count, "seed": seed, "psi": psi, "generator": generator.name, "scored": made}
    if share.world == 1:
        codes = read_scores(out, count)
        record["attributes"] = sorted(codes.scores)
        if "detection" in codes.scores:
            record["doubtful"] = int(codes.doubtful(options["least_detection"]).sum())
            click.echo(f"{record['doubtful']} of {count} show no sure face and are better left out")
    write_json(options["json_file"], record)


@attributes.command("train-classifier")
@click.option(
    "--celeba", "folder", type=click.Path(path_type=Path), required=True, help="Folder that holds img_align_celeba/."
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The classifier, .safetensors.")
@click.option("--epochs", type=click.IntRange(1), default=8, show_default=True, help="Passes over the pictures.")
@click.option("--batch", type=click.IntRange(2), default=128, show_default=True, help="Pictures a step.")
@click.option(
    "--rate", type=click.FloatRange(0, 1, min_open=True), default=2e-3, show_default=True, help="Of learning."
)
@click.option("--width", type=click.IntRange(4, 256), default=32, show_default=True, help="Channels at first.")
@click.option("--side", type=click.IntRange(64, 512), default=112, show_default=True, help="Of its input, in pixels.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the training.")
@click.option(
    "--workers", type=click.IntRange(0, 256), default=2, show_default=True, help="Processes that read pictures."
)
@device_option
@json_option
def train_classifier_command(folder: Path, out: Path, **options: Any) -> None:
    """Train a classifier of CelebA's forty attributes, or of any folder laid out like CelebA.

    The folder holds img_align_celeba/, list_attr_celeba.txt and list_eval_partition.txt. Stopped, it goes on after the
    last whole epoch. The result is a scorer: facelatent attributes sample --scorer OUT.

    \b
    Example:
      facelatent attributes train-classifier --celeba CelebA -o celeba.safetensors
    """
    from facelatent.boundaries.celeba_training import ClassifierSettings, train_classifier
    from facelatent.stylegan_ops.registry import find_device

    if out.suffix != ".safetensors":
        raise click.UsageError(f"the classifier's file ends with .safetensors, not {out.name!r}")
    check_outputs(None, out, options["json_file"])
    names = ("epochs", "batch", "rate", "width", "side", "seed", "workers")
    settings = ClassifierSettings(**{name: options[name] for name in names})
    classifier = train_classifier(folder, out, settings, find_device(options["device"]), click.echo)
    report = classifier.report
    split = "test" if "test" in report else "valid"
    click.echo(f"{'attribute':<22} {'accuracy':>8} {'balanced':>8} {'larger class':>12}  ({split})")
    for name, rates in report[split].items():
        accuracy, balanced, larger = rates["accuracy"], rates["balanced"], rates["larger_class"]
        click.echo(f"{name:<22} {accuracy:>8.3f} {balanced:>8.3f} {larger:>12.3f}")
    click.echo(f"wrote {out}")
    write_json(options["json_file"], {"out": str(out), **report})

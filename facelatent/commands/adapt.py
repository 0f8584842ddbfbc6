"""The command that adapts a generator to an artwork: ``adapt``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from facelatent.commands.pipes import expanded
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.domain_adapt import AdaptSettings
    from facelatent.domain_adapt.guidance import ClipGuidance, VggGuidance

#: Architectures that DIFA was published with, in the order of --clip.
_MODELS = ("ViT-B-32", "ViT-B-16")


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(adapt)


@click.command()
@click.argument("references", nargs=-1, type=click.Path(path_type=Path), metavar="[REFERENCE]...", callback=expanded)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The style's file.  [default: REFERENCE.style.safetensors]",
)
@click.option(
    "--clip",
    "clips",
    multiple=True,
    metavar="FILE|TAG",
    help="CLIP's weights, to be guided by it instead of VGG16: a file, or a tag that open_clip can fetch. "
    "Twice for two networks.",
)
@click.option(
    "--clip-model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Architecture of each --clip.  [default: ViT-B-32, then ViT-B-16]",
)
@click.option(
    "--clip-precision",
    type=click.Choice(("fp32", "fp16")),
    default="fp32",
    show_default=True,
    help="What CLIP computes in; fp16 needs a GPU.",
)
@click.option(
    "--text",
    "texts",
    nargs=2,
    metavar="SOURCE TARGET",
    help="With --clip: what is, and what is wanted, instead of a reference or beside it.",
)
@click.option("--faithful", is_flag=True, help="With --clip: the published code with its quirks.")
@click.option(
    "--direction-only",
    is_flag=True,
    help="The global direction alone, as StyleGAN-NADA has it, by CLIP or VGG16: a baseline to compare with.",
)
@click.option(
    "--encoder",
    "encoder_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --clip: encoder that holds people consistent.  [default: the one that comes with the generator]",
)
@click.option(
    "--look",
    type=click.Choice(("auto", "painted", "graphic")),
    default="auto",
    show_default=True,
    help="What VGG16 guides: graphic is for flat areas and lines (prints, posters), painted for the rest.",
)
@click.option("--steps", type=click.IntRange(1), help="Most steps.  [default: 65; with --clip or --direction-only 301]")
@click.option("--batch", type=click.IntRange(1), help="Pictures a step.  [default: 1; with those 2]")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Learning rate.  [default: 0.001; with those 0.0016]"
)
@click.option("--seed", type=click.IntRange(0, 2**16 - 1), default=0, show_default=True, help="Of the people drawn.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for previews, and for what a stopped run goes on from.  [default: OUT.work]",
)
@generator_option
@device_option
@json_option
def adapt(references: tuple[Path, ...], out: Path | None, **options: Any) -> None:
    """Adapt the generator to an artwork: from one picture of a face to a style for every face.

    The style is a small file that sample, edit, animate and render take as --style, at any strength. VGG16 guides by
    default and needs nothing that is not fetched by itself; with CLIP's weights, which you bring, the published method
    DIFA does. Stop it and start it again as you like: it goes on from the --work folder.

    \b
    Examples:
      facelatent adapt mona.png -o mona.safetensors
      facelatent sample --seed 1-8 --style mona.safetensors
      facelatent adapt one.jpg two.jpg three.jpg -o painter.safetensors
      facelatent adapt mona.png -o mona.safetensors --clip openai --clip openai
      facelatent adapt -o oil.safetensors --clip b32.safetensors --text photo "oil painting"
    """
    from facelatent.domain_adapt import SUFFIX
    from facelatent.domain_adapt import adapt as run
    from facelatent.inversion import load_encoder

    settings, texts = _settings(options), options["texts"] or None
    if not references and texts is None:
        raise click.UsageError("nothing to adapt to: give a REFERENCE picture, or --text with --clip")
    if not references and out is None:
        raise click.UsageError("-o says where a style without a reference goes")
    target = out or references[0].with_name(references[0].stem + SUFFIX)
    work: Path = options["work"] or target.with_name(target.name + ".work")
    check_outputs(None, target, work / "previews", options["json_file"])
    if any(path.resolve() == target.resolve() for path in references):
        raise FacelatentError(f"{target} is the reference itself; choose another output path")
    prepared = _references(references)
    generator = chosen_generator(options)
    guidance = _guidance(options, str(generator.device))
    encoder = load_encoder(options["encoder_file"], generator.device) if options["encoder_file"] else None
    try:
        style = run(
            generator,
            prepared or None,
            settings,
            guidance,
            encoder,
            texts,
            work,
            target.name.removesuffix(".safetensors").removesuffix(".style"),
            on_terminal(),
            click.echo,
        )
    except KeyboardInterrupt:
        raise FacelatentError(f"interrupted; run the same command again to go on from {work}") from None
    style.save(target)
    report = style.report
    click.echo(
        f"wrote {target} ({style.bytes / 1e6:.1f} MB, {report['steps']} steps, {report['seconds']:.0f} s, "
        f"peak {report['peak_megabytes']} MB)"
    )
    write_json(options["json_file"], {"out": str(target), "references": [str(one) for one in references], **report})


def _settings(options: dict[str, Any]) -> AdaptSettings:
    from facelatent.domain_adapt import DIFA, FAITHFUL, GRAPHIC, NADA, PAINTED, VGG

    if not options["clips"]:
        for name, option in (("faithful", "--faithful"), ("encoder_file", "--encoder"), ("models", "--clip-model")):
            if options[name]:
                raise click.UsageError(f"{option} belongs to --clip")
        if options["texts"]:
            raise FacelatentError("--text needs CLIP, whose weights you bring: add --clip FILE or --clip openai")
    if options["look"] != "auto" and (options["clips"] or options["direction_only"]):
        raise click.UsageError("--look is of VGG16's own terms; it goes with neither --clip nor --direction-only")
    settings = DIFA if options["clips"] else VGG
    if options["faithful"]:
        settings = replace(settings, difa=FAITHFUL)
    if options["direction_only"]:
        settings = replace(NADA, difa=replace(settings.difa, style=0.0, consistency=0.0))
    elif options["look"] != "auto":
        settings = replace(settings, vgg={"painted": PAINTED, "graphic": GRAPHIC}[options["look"]])
    changes = {name: options[name] for name in ("steps", "batch", "rate") if options[name] is not None}
    return replace(settings, seed=options["seed"], **changes)


def _references(paths: tuple[Path, ...]) -> list[Any]:
    from facelatent.domain_adapt import prepare_reference
    from facelatent.images import open_image

    return [prepare_reference(open_image(path), str(path)) for path in paths]


def _guidance(options: dict[str, Any], device: str) -> VggGuidance | list[ClipGuidance] | None:
    from facelatent.domain_adapt.guidance import ClipGuidance, VggGuidance

    if not options["clips"]:
        return VggGuidance(device=device) if options["direction_only"] else None

    models = options["models"] or _MODELS[: len(options["clips"])]
    if len(models) != len(options["clips"]):
        raise click.UsageError("as many --clip-model as --clip are needed")
    precision, antialias = options["clip_precision"], not options["faithful"]
    return [
        ClipGuidance(weights, model, precision, device, antialias=antialias)
        for weights, model in zip(options["clips"], models, strict=True)
    ]

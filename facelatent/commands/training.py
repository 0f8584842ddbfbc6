"""The commands that train networks: ``train-encoder``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facelatent.commands.common import device_option, generator_option, on_terminal


def add_to(group: click.Group) -> None:
    """Add this module's commands to ``group``."""
    group.add_command(train_encoder)


@click.command("train-encoder")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The encoder's file, .safetensors.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder for what a stopped run goes on from, the log and the sheets.  [default: OUT.work]",
)
@click.option(
    "--pairs", type=click.IntRange(64), default=20480, show_default=True, help="Drawn faces that the map is fitted to."
)
@click.option(
    "--rank", type=click.IntRange(1, 4096), default=400, show_default=True, help="Of the map: what it remembers."
)
@click.option(
    "--looks",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    help="How often the encoder looks at what it found.",
)
@click.option(
    "--components", type=click.IntRange(1), default=160, show_default=True, help="Principal components of w to find."
)
@click.option("--ridge", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of the map.")
@click.option(
    "--damaged",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of pictures that are blurred, compressed, noisy or covered.",
)
@click.option(
    "--steps", type=click.IntRange(0), default=0, show_default=True, help="Steps of descent through the generator."
)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Faces a step and process.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-5,
    show_default=True,
    help="Of the descent.",
)
@click.option("--lpips", type=click.FloatRange(0), default=0.8, show_default=True, help="Weight of LPIPS (VGG16).")
@click.option("--pixels", type=click.FloatRange(0), default=1.0, show_default=True, help="Weight of the squared error.")
@click.option("--identity", type=click.FloatRange(0), default=0.1, show_default=True, help="Weight of dlib's identity.")
@click.option("--codes", type=click.FloatRange(0), default=0.01, show_default=True, help="Weight of the true codes.")
@click.option(
    "--delta",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Weight of e4e's delta penalty (2e-4).",
)
@click.option(
    "--discriminator",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Weight of e4e's latent discriminator; 0.1 there.",
)
@click.option(
    "--scenes",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Share of pictures with another crop and other light.",
)
@click.option(
    "--save-every", type=click.IntRange(1), default=100, show_default=True, help="Steps between checkpoints and sheets."
)
@click.option("--seed", type=click.IntRange(0, 2**16 - 1), default=0, show_default=True, help="Of everything.")
@generator_option
@device_option
def train_encoder(out: Path, work: Path | None, **options: Any) -> None:
    """Train an encoder for a generator: from a photo to its code at a glance.

    Draws faces whose codes are known, fits a linear map from VGG16 features to the codes, and measures how far the
    encoder moves when it looks at what it found; --steps then trains the map by descent on LPIPS, squared error and
    identity of pictures, damaged as photos are. Stop it and start it again as you like: it goes on from the --work
    folder, which also gets log.jsonl and a sheet of faces for each stage.

    Several GPUs: torchrun --nproc-per-node 4 -m facelatent train-encoder ...

    \b
    Examples:
      facelatent train-encoder -o mine.safetensors --generator ffhq.pkl
      facelatent train-encoder -o mine.safetensors --generator ffhq.pkl --pairs 40000 --steps 4000
      facelatent invert photo.jpg --generator ffhq.pkl --encoder mine.safetensors
    """
    from facelatent.files import check_writable
    from facelatent.inversion.training import LOG, EncoderTraining, train_encoder
    from facelatent.processes import Share
    from facelatent.stylegan_ops import DEFAULT_GENERATOR, load_generator

    work = work or out.with_name(out.name + ".work")
    name, device = options.pop("generator_name"), options.pop("device")
    settings = EncoderTraining(**options)
    check_writable(out)
    check_writable(work / LOG)
    generator = load_generator(name or DEFAULT_GENERATOR, device or Share.from_environment().device)
    train_encoder(generator, out, work, settings, progress=on_terminal(), say=click.echo)

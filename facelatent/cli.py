"""The command line: parse, call the library, print."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import click

from facelatent import (
    __version__,
    cli_adapt,
    cli_animate,
    cli_attributes,
    cli_boundaries,
    cli_config,
    cli_evaluate,
    cli_generators,
    cli_kernels,
    cli_photos,
    cli_studio,
    cli_training,
)
from facelatent.cli_common import (
    check_outputs,
    chosen_generator,
    chosen_recipe,
    chosen_seeds,
    device_option,
    generator_option,
    json_option,
    metrics_line,
    note_option,
    on_terminal,
    recipe_options,
    style_options,
    style_record,
    write_json,
)
from facelatent.config import read_config
from facelatent.errors import FacelatentError
from facelatent.pipes import FORMATS, TargetFile, format_option, is_piped, is_quiet, named, quiet_option


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


@main.command()
@click.option("--seed", "seeds", default="1-8", show_default=True, help="Seeds: 3, 1-16 or 1,5,9.")
@click.option(
    "--psi", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="Truncation: 0 the mean face, 1 none."
)
@click.option(
    "-o",
    "--out",
    type=TargetFile(),
    default=Path("samples.png"),
    show_default=True,
    help="A sheet of all faces, - for stdout; with --separate, a folder.",
)
@click.option("--separate", is_flag=True, help="Write each face's picture and latent into the folder OUT.")
@click.option(
    "--size", type=click.IntRange(16, 4096), help="Side of a face.  [default: 256 on a sheet, else the generator's]"
)
@format_option
@note_option
@style_options
@generator_option
@device_option
@json_option
def sample(seeds: str, psi: float, out: Path, separate: bool, size: int | None, note: bool, **options: Any) -> None:
    """Draw random faces. A seed means the same face on every machine.

    \b
    Examples:
      facelatent sample --seed 1-16
      facelatent sample --seed 3,7 --psi 0.9 --separate -o faces
      facelatent sample --seed 1-8 --style mona.safetensors --style-strength 0.8
      facelatent sample --seed 7 --format jpg -o - > seven.jpg
    """
    import torch
    from tqdm import tqdm

    from facelatent.editor import draw
    from facelatent.images import picture_format, save_image
    from facelatent.latent import SUFFIX, Latent
    from facelatent.note import GENERATED
    from facelatent.render import grid

    if separate and is_piped(out):
        raise click.UsageError("--separate writes a folder: give -o its name")
    numbers, said = chosen_seeds(seeds), GENERATED if note else None
    ending = FORMATS[options["picture_format"] or "png"]
    check_outputs(None, out / "faces" if separate else out, options["json_file"])
    if not separate:
        picture_format(out)
    generator = chosen_generator(options)
    images = []
    for number in tqdm(numbers, desc="drawing", unit="face", disable=not on_terminal()):
        with torch.no_grad():
            ws = generator.broadcast(generator.sample_w(number, psi)).contiguous()
        image = draw(generator, ws, size if separate else size or 256)[0]
        if separate:
            save_image(image, out / f"seed{number:04d}{ending}", said)
            method = {"method": "sample", "seed": number, "psi": psi}
            latent = Latent(ws, generator.source.name, generator.source.fingerprint, method)
            latent.save(out / f"seed{number:04d}{SUFFIX}")
        else:
            images.append(image)
    if images:
        columns = min(len(images), 8)
        rows = [images[start : start + columns] for start in range(0, len(images), columns)]
        labels = [
            [f"seed {number}" for number in numbers[start : start + columns]]
            for start in range(0, len(images), columns)
        ]
        save_image(grid(rows, labels, size or 256), out, said)
    click.echo(f"wrote {out} ({len(numbers)} faces)")
    record = {"out": str(out), "seeds": numbers, "psi": psi, "generator": generator.source.name}
    write_json(options["json_file"], record | style_record(options))


@main.group()
def assets() -> None:
    """Weights and images that facelatent can fetch: list, fetch, locate them.

    \b
    Examples:
      facelatent assets list
      facelatent assets pull all
      facelatent assets path astronaut
    """


@assets.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def assets_list(as_json: bool) -> None:
    """Show every asset with its size, its licence and whether it is cached."""
    from facelatent.assets import ASSETS, cache_dir, is_cached

    if as_json:
        rows = [
            {
                "name": a.name,
                "what": a.what,
                "licence": a.licence,
                "source": a.source,
                "size": a.size,
                "cached": is_cached(a),
            }
            for a in ASSETS
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for asset in ASSETS:
        state = "cached" if is_cached(asset) else "not cached"
        click.echo(f"{asset.name}  ({asset.size / 1e6:.1f} MB, {state})")
        click.echo(f"    {asset.what}\n    licence: {asset.licence}\n    source:  {asset.source}")
    click.echo(f"\ncache: {cache_dir()}")


@assets.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="NAME...|all")
def assets_pull(names: tuple[str, ...]) -> None:
    """Fetch assets into the cache, checked; `all` for every one."""
    from facelatent.assets import ASSETS, pull

    for name in [asset.name for asset in ASSETS] if "all" in names else names:
        pull(name, click.echo)
        click.echo(f"{name}: ready")


@assets.command("path")
@click.argument("name")
def assets_path(name: str) -> None:
    """Print where an asset lies, fetching it if needed."""
    from facelatent.assets import asset_path

    click.echo(asset_path(name, lambda line: click.echo(line, err=True)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Show what this machine has, and what to do about what is missing.

    \b
    Example:
      facelatent doctor
    """
    from dataclasses import asdict

    from facelatent.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        advice = f"  ({finding.advice})" if finding.advice and not finding.ok else ""
        click.echo(f"{'ok' if finding.ok else '--':<3} {finding.name:<24} {finding.seen}{advice}")


@main.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to write."
)
@recipe_options
@style_options
@generator_option
@device_option
@quiet_option
def demo(out: Path, **options: Any) -> None:
    """Invert a public-domain portrait and write it smiling, turned and aged.

    Fetches about 210 MB of weights the first time; then takes about three minutes on two CPU cores. Run again, it uses
    the inversion that it finds in the folder.

    \b
    Examples:
      facelatent demo --out demo
      facelatent demo --out painted --style mona.safetensors
    """
    from facelatent.demo import run_demo
    from facelatent.files import check_writable

    check_writable(out / "demo.json")
    generator = chosen_generator(options)
    result = run_demo(generator, out, chosen_recipe(options), click.echo, progress=on_terminal())
    how = (
        "reused an earlier inversion"
        if result["inversion_reused"]
        else f"inverted in {result['seconds']['inversion']} s"
    )
    click.echo(f"{how}: {metrics_line(result['metrics'])}")
    click.echo(
        f"wrote {len(result['files'])} files and demo.json to {out}/; look at {out}/strip-smile.png and {out}/smile.gif"
    )


cli_photos.add_to(main)
cli_animate.add_to(main)
cli_config.add_to(main)
cli_adapt.add_to(main)
cli_attributes.add_to(main)
cli_boundaries.add_to(cli_attributes.attributes)
cli_generators.add_to(main)
cli_kernels.add_to(main)
cli_evaluate.add_to(main)
cli_training.add_to(main)
cli_studio.add_to(main)

"""The command line: parse, call the library, print."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent import __version__, cli_generators, cli_kernels
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from facelatent.boundaries import Boundary
    from facelatent.editor import AttributeEdit
    from facelatent.inversion import OptimizeSettings
    from facelatent.latent import Latent
    from facelatent.stylegan_ops import Generator


class _Announcements(logging.Handler):
    """Say on stderr what the library logs: downloads and compilations, which may start wherever first needed."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


_announcements = _Announcements(logging.INFO)


class _Commands(click.Group):
    """Print our own errors as one line and exit 1; ``--debug`` shows the traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except FacelatentError as error:
            if context.params.get("debug"):
                traceback.print_exc()
            # File names may hold line breaks; an error is one line.
            click.echo(f"facelatent: {' '.join(str(error).split())}", err=True)
            raise SystemExit(1) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="facelatent %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Edit faces in the latent space of a StyleGAN.

    \b
    Examples:
      facelatent invert photo.jpg
      facelatent edit photo.jpg --attr smile --alpha 2 -o smiling.png
      facelatent animate photo.jpg --attr yaw --from -2 --to 2 -o turning.gif
      facelatent demo
    """
    for name in ("facelatent.assets", "facelatent.cuda_kernels"):
        log = logging.getLogger(name)
        log.setLevel(logging.INFO)
        log.addHandler(_announcements)


_photo = click.argument("photo", type=click.Path(path_type=Path))
_source = click.argument("source", metavar="PHOTO|LATENT", type=click.Path(path_type=Path))
_generator = click.option(
    "--generator", "generator_name", metavar="NAME|FILE", help="Which generator draws.  [default: mobile-ffhq-1024]"
)
_device = click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: a GPU if there is one]")
_face = click.option("--face", type=click.IntRange(1), help="Which face, 1 = the best-scored.  [default: 1]")
_aligned = click.option("--aligned", is_flag=True, help="The photo is an FFHQ-aligned crop: do not look for a face.")
_json = click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write what was done as JSON.")
_steps = click.option("--steps", type=click.IntRange(2), help="Most optimisation steps.  [default: 250]")
_seed = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of the optimisation."
)


def _face_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that starts from a photo; they arrive as ``**options``."""
    for option in (_json, _device, _generator, _seed, _steps, _aligned, _face):
        command = option(command)
    return command


@main.command()
@_photo
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Latent file.  [default: PHOTO.latent.safetensors]")
@click.option("--preview", type=click.Path(path_type=Path), help="Also write photo and reconstruction side by side.")
@click.option("--overwrite", is_flag=True, help="Replace an existing latent.")
@_face_options
def invert(photo: Path, out: Path | None, preview: Path | None, overwrite: bool, **options: Any) -> None:
    """Find the latent code of the face in PHOTO and keep it.

    Takes two to three minutes on two CPU cores. Edits of the same photo use the kept code.

    \b
    Examples:
      facelatent invert me.jpg
      facelatent invert group.jpg --face 2 -o anna.latent.safetensors --preview anna.png
    """
    from facelatent.editor import draw, latent_path, photo_crop
    from facelatent.images import open_image, picture_format, save_image
    from facelatent.render import strip

    target = out or latent_path(photo)
    if target.exists() and not overwrite:
        raise FacelatentError(f"{target} exists; pass --overwrite to replace it, or -o for another name")
    _check_outputs(photo, target, preview, options["json_file"])
    if preview is not None:
        picture_format(preview)
    open_image(photo)
    generator = _load_generator(options)
    latent = _inverted(photo, generator, options)
    latent.save(target)
    click.echo(f"wrote {target} ({_metrics(latent.metrics)})")
    if preview is not None:
        crop = photo_crop(photo, generator.resolution, options["face"], options["aligned"])
        save_image(strip([crop, draw(generator, latent.ws)[0]], ["photo", "inverted"], 512), preview)
        click.echo(f"wrote {preview}")
    _write_json(options["json_file"], {"latent": str(target), "metrics": latent.metrics, "method": latent.method})


@main.command()
@_source
@click.option("--attr", "attributes", multiple=True, required=True, help="Attribute name, or a boundary file.")
@click.option("--alpha", "alphas", multiple=True, type=float, help="Strength in standard deviations, one an attribute.")
@click.option(
    "--layers",
    "ranges",
    multiple=True,
    metavar="A-B",
    help="Resolutions to change, e.g. 4-32; one, or one an attribute.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Picture.  [default: SOURCE-edited.png]")
@click.option("--size", type=click.IntRange(16, 4096), help="Side in pixels.  [default: the generator's]")
@click.option("--compare", is_flag=True, help="Write unedited and edited side by side.")
@_face_options
def edit(
    source: Path,
    attributes: tuple[str, ...],
    alphas: tuple[float, ...],
    ranges: tuple[str, ...],
    out: Path | None,
    size: int | None,
    compare: bool,
    **options: Any,
) -> None:
    """Change attributes of the face in a photo or latent.

    A photo is inverted first, once; its latent is kept beside it.

    \b
    Examples:
      facelatent edit me.jpg --attr smile --alpha 2
      facelatent edit me.jpg --attr smile --alpha 2 --attr age --alpha -1 -o younger.png
      facelatent edit me.latent.safetensors --attr yaw --alpha 1.5 --compare -o turned.jpg
    """
    from facelatent.editor import apply_edits, draw
    from facelatent.images import picture_format, save_image
    from facelatent.render import strip

    target = out or _default_out(source, "-edited.png")
    _check_outputs(source, target, options["json_file"])
    picture_format(target)
    strengths = _one_each(attributes, alphas or (1.0,), "--alpha")
    chosen_ranges = _one_each(attributes, tuple(_resolutions(text) for text in ranges) or (None,), "--layers")
    _check_source(source)
    generator = _load_generator(options)
    edits = _edits(generator, attributes, strengths, chosen_ranges)
    latent = _latent(source, generator, options)
    edited = draw(generator, apply_edits(latent.ws, edits, generator), size)[0]
    if compare:
        label = ", ".join(f"{one.boundary.attribute} {one.alpha:+g}" for one in edits)
        edited = strip([draw(generator, latent.ws, size)[0], edited], ["inverted", label], size or 512)
    save_image(edited, target)
    click.echo(f"wrote {target}")
    _write_json(options["json_file"], {"picture": str(target), "edits": _described(edits), "metrics": latent.metrics})


@main.command()
@_source
@click.option("--attr", "attributes", multiple=True, required=True, help="Attribute name, or a boundary file.")
@click.option("--from", "starts", multiple=True, type=float, help="Strength at the start.  [default: -3]")
@click.option("--to", "ends", multiple=True, type=float, help="Strength at the end.  [default: 3]")
@click.option("--frames", type=click.IntRange(2, 2000), default=48, show_default=True, help="Frames in all.")
@click.option("--fps", type=click.FloatRange(1, 50), default=24, show_default=True, help="Frames a second.")
@click.option("--size", type=click.IntRange(16, 2048), default=512, show_default=True, help="Side in pixels.")
@click.option("--bounce/--no-bounce", default=True, show_default=True, help="Run there and back.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help=".gif, .webp or .mp4.  [default: SOURCE-ATTR.gif]")
@_face_options
def animate(
    source: Path,
    attributes: tuple[str, ...],
    starts: tuple[float, ...],
    ends: tuple[float, ...],
    frames: int,
    fps: float,
    size: int,
    bounce: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Animate an edit of the face in a photo or latent.

    \b
    Examples:
      facelatent animate me.jpg --attr smile --from -3 --to 3 --frames 48 -o smile.gif
      facelatent animate me.latent.safetensors --attr yaw --attr smile --from -2 --to 2 -o turn.webp
    """
    from facelatent.editor import animation_frames
    from facelatent.render import check_animation, save_animation

    target = out or _default_out(source, f"-{Path(attributes[0]).name.split('.')[0]}.gif")
    _check_outputs(source, target, options["json_file"])
    check_animation(target)
    none = (None,) * len(attributes)
    first = _one_each(attributes, starts or (-3.0,), "--from")
    last = _one_each(attributes, ends or (3.0,), "--to")
    _check_source(source)
    generator = _load_generator(options)
    begin, finish = (_edits(generator, attributes, alphas, none) for alphas in (first, last))
    latent = _latent(source, generator, options)
    drawn = animation_frames(generator, latent.ws, begin, finish, frames, size, bounce, progress=_terminal())
    save_animation(drawn, target, fps)
    click.echo(f"wrote {target} ({len(drawn)} frames, {target.stat().st_size / 1e6:.1f} MB)")
    _write_json(
        options["json_file"],
        {"animation": str(target), "frames": len(drawn), "from": _described(begin), "to": _described(finish)},
    )


@main.command()
@click.option("--seed", "seeds", default="1-8", show_default=True, help="Seeds: 3, 1-16 or 1,5,9.")
@click.option(
    "--psi", type=click.FloatRange(0, 2), default=0.7, show_default=True, help="Truncation: 0 the mean face, 1 none."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("samples.png"),
    show_default=True,
    help="A sheet of all faces; with --separate, a folder.",
)
@click.option("--separate", is_flag=True, help="Write each face's picture and latent into the folder OUT.")
@click.option(
    "--size", type=click.IntRange(16, 4096), help="Side of a face.  [default: 256 on a sheet, else the generator's]"
)
@_generator
@_device
@_json
def sample(seeds: str, psi: float, out: Path, separate: bool, size: int | None, **options: Any) -> None:
    """Draw random faces. A seed means the same face on every machine.

    \b
    Examples:
      facelatent sample --seed 1-16
      facelatent sample --seed 3,7 --psi 0.9 --separate -o faces
    """
    import torch
    from tqdm import tqdm

    from facelatent.editor import draw
    from facelatent.images import picture_format, save_image
    from facelatent.latent import SUFFIX, Latent
    from facelatent.render import grid

    numbers = _seeds(seeds)
    _check_outputs(None, out / "faces" if separate else out, options["json_file"])
    if not separate:
        picture_format(out)
    generator = _load_generator(options)
    images = []
    for number in tqdm(numbers, desc="drawing", unit="face", disable=not _terminal()):
        with torch.no_grad():
            ws = generator.broadcast(generator.sample_w(number, psi)).contiguous()
        image = draw(generator, ws, size if separate else size or 256)[0]
        if separate:
            save_image(image, out / f"seed{number:04d}.png")
            method = {"method": "sample", "seed": number, "psi": psi}
            latent = Latent(ws, generator.name, generator.fingerprint, method)
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
        save_image(grid(rows, labels, size or 256), out)
    click.echo(f"wrote {out} ({len(numbers)} faces)")
    _write_json(options["json_file"], {"out": str(out), "seeds": numbers, "psi": psi, "generator": generator.name})


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def attributes(as_json: bool) -> None:
    """List the attributes that can be edited, and how well their boundaries separate.

    \b
    Example:
      facelatent attributes
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
    click.echo(f"{'attribute':<12} {'layers':<9} {'extremes':>8} {'all':>6}  generator")
    for one in boundaries:
        layers = "{}-{}".format(*one.resolutions) if one.resolutions else "all"
        extremes, everything = (
            one.report.get(f"accuracy_{kind}", float("nan")) for kind in ("held_out", "all_held_out")
        )
        click.echo(f"{one.attribute:<12} {layers:<9} {extremes:>8.3f} {everything:>6.3f}  {one.generator}")
    click.echo(
        "\nextremes, all: accuracy on faces that were not trained on. Edit with: facelatent edit PHOTO --attr NAME"
    )


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
@_steps
@_seed
@_generator
@_device
def demo(out: Path, **options: Any) -> None:
    """Invert a public-domain portrait and write it smiling, turned and aged.

    Fetches about 210 MB of weights the first time; then takes about three minutes on two CPU cores. Run again, it uses
    the inversion that it finds in the folder.

    \b
    Example:
      facelatent demo --out demo
    """
    from facelatent.demo import run_demo
    from facelatent.files import check_writable

    check_writable(out / "demo.json")
    generator = _load_generator(options)
    result = run_demo(generator, out, _settings(options), click.echo, progress=_terminal())
    how = (
        "reused an earlier inversion"
        if result["inversion_reused"]
        else f"inverted in {result['seconds']['inversion']} s"
    )
    click.echo(f"{how}: {_metrics(result['metrics'])}")
    click.echo(
        f"wrote {len(result['files'])} files and demo.json to {out}/; look at {out}/strip-smile.png and {out}/smile.gif"
    )


cli_generators.add_to(main)
cli_kernels.add_to(main)


def _load_generator(options: dict[str, Any]) -> Generator:
    from facelatent.stylegan_ops import DEFAULT_GENERATOR, load_generator

    return load_generator(options["generator_name"] or DEFAULT_GENERATOR, options["device"])


def _settings(options: dict[str, Any]) -> OptimizeSettings | None:
    """Settings that differ from the defaults, or None."""
    from facelatent.inversion import OptimizeSettings

    if options["steps"] is None and options["seed"] == 0:
        return None
    return OptimizeSettings.with_steps(options["steps"], options["seed"])


def _inverted(photo: Path, generator: Generator, options: dict[str, Any]) -> Latent:
    from facelatent.editor import invert_photo

    return invert_photo(photo, generator, _settings(options), options["face"], options["aligned"], progress=_terminal())


def _latent(source: Path, generator: Generator, options: dict[str, Any]) -> Latent:
    """The latent of a latent file, or of a photo: kept beside it, or made now and kept there if that is possible."""
    from facelatent.editor import is_latent, kept_latent, latent_path
    from facelatent.errors import UnwritableOutput
    from facelatent.latent import Latent

    if is_latent(source):
        latent = Latent.load(source)
        latent.check(generator)
        return latent
    target = latent_path(source)
    kept = kept_latent(target, source, generator, _settings(options), options["face"], options["aligned"])
    if kept is not None:
        return kept
    latent = _inverted(source, generator, options)
    try:
        if target.exists():
            raise UnwritableOutput(f"{target} is there already, of another file, face, generator or settings")
        latent.save(target)
        click.echo(f"wrote {target} ({_metrics(latent.metrics)})")
    except UnwritableOutput as error:
        click.echo(
            f"facelatent: the latent was not kept: {error}; 'facelatent invert' can write it elsewhere", err=True
        )
    return latent


def _edits(
    generator: Generator, names: tuple[str, ...], alphas: tuple[float, ...], ranges: tuple[tuple[int, int] | None, ...]
) -> list[AttributeEdit]:
    from facelatent.boundaries import load_boundary
    from facelatent.editor import AttributeEdit

    boundaries: list[Boundary] = [load_boundary(name, generator) for name in names]
    return [AttributeEdit(*parts) for parts in zip(boundaries, alphas, ranges, strict=True)]


def _described(edits: list[AttributeEdit]) -> list[dict[str, Any]]:
    return [
        {"attribute": one.boundary.attribute, "alpha": one.alpha, "layers": one.resolutions or one.boundary.resolutions}
        for one in edits
    ]


def _one_each(attributes: tuple[str, ...], values: tuple[Any, ...], option: str) -> tuple[Any, ...]:
    """One value for each attribute; a single one serves all."""
    if len(values) == 1:
        return values * len(attributes)
    if len(values) != len(attributes):
        raise click.UsageError(f"{len(attributes)} --attr but {len(values)} {option}: give one each, or one for all")
    return values


def _resolutions(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not _is_number(first) or not _is_number(last) or int(first) > int(last):
        raise click.UsageError(f"--layers takes resolutions such as 4-32, not {text!r}")
    return int(first), int(last)


def _seeds(text: str) -> list[int]:
    parts = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)):
            raise click.UsageError(f"--seed takes 3, 1-16 or 1,5,9 (each below 2**63), not {text!r}")
        parts.append((int(first), int(last or first)))
    count = sum(max(last - first + 1, 0) for first, last in parts)
    if not 1 <= count <= 10_000:
        raise click.UsageError(f"--seed {text!r} names {count} faces; between 1 and 10,000 are drawn")
    return [number for first, last in parts for number in range(first, last + 1)]


def _is_number(text: str) -> bool:
    """Whether a text is a seed: ASCII digits, below 2**63."""
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63


def _default_out(source: Path, ending: str) -> Path:
    """A picture's default name: beside the source, ``me.jpg`` or ``me.latent.safetensors`` -> ``me`` + ending."""
    return source.with_name(source.name.removesuffix(".safetensors").removesuffix(".latent").rsplit(".", 1)[0] + ending)


def _check_source(source: Path) -> None:
    """Complain about a photo that cannot be opened before the generator is loaded, or even fetched."""
    from facelatent.editor import is_latent
    from facelatent.images import open_image

    if not is_latent(source):
        open_image(source)


def _check_outputs(source: Path | None, *targets: Path | None) -> None:
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


def _metrics(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def _write_json(path: Path | None, record: dict[str, Any]) -> None:
    from facelatent.files import atomic_path

    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
        click.echo(f"wrote {path}")


def _terminal() -> bool:
    """Progress bars are for people: shown on a terminal, not in logs."""
    return sys.stderr.isatty()

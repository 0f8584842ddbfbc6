"""The command ``animate``."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facelatent.commands.common import (
    check_outputs,
    chosen_generator,
    chosen_styles,
    on_terminal,
    style_options,
    style_record,
    write_json,
)
from facelatent.commands.pipes import is_piped, to_stdout
from facelatent.commands.sources import (
    attributes_option,
    check_photo,
    check_photo_option,
    check_source,
    chosen_edits,
    chosen_note,
    default_target,
    described,
    face_options,
    latent_for,
    one_each,
    paste_options,
    photo_to_paste,
    source_argument,
)
from facelatent.errors import FacelatentError

if TYPE_CHECKING:
    from PIL import Image

    from facelatent.clips import Scene
    from facelatent.latent import Latent
    from facelatent.render import Clip, Key, Timeline, Way

# facelatent.render.EASES, which would import numpy; a test compares them.
EASES = ("linear", "smooth", "in", "out")


def add_to(group: click.Group) -> None:
    """Add this module's command to ``group``."""
    group.add_command(animate)


def _bytes(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """A file's size such as 6MB or 800kB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(kb|mb)", text.strip().lower())
    size = int(float(found[1]) * {"kb": 1e3, "mb": 1e6}[found[2]]) if found else 0
    if size < 1000:
        raise click.BadParameter(f"a file's size is such as 6MB or 800kB, not {text!r}", context, option)
    return size


@dataclass(frozen=True)
class _Settings:
    """How frames become a clip."""

    frames: int
    fps: float
    size: int
    pause: float
    bounce: bool | None
    caption: str | None
    compare: bool
    paste: bool
    photo: Path | None


@click.command()
@source_argument
@attributes_option
@click.option("--from", "starts", multiple=True, type=float, help="Strength at the start.  [default: -3]")
@click.option("--to", "ends", multiple=True, type=float, help="Strength at the end.  [default: 3]")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="TIME:NAME=NUMBER,...",
    help="What attributes are at a time from 0 to 1; also 'style', 'style.2', 'walk'.",
)
@click.option(
    "--to-latent", "others", multiple=True, metavar="LATENT|PHOTO", type=click.Path(path_type=Path),
    help="Walk to this face; to several, one after another.",
)  # fmt: skip
@click.option(
    "--walk", type=click.Choice(("spherical", "linear")), default="spherical", show_default=True,
    help="With --to-latent: around the mean face, or straight.",
)  # fmt: skip
@click.option("--ease", type=click.Choice(EASES), help="Between keys.  [default: smooth; with --no-bounce linear]")
@click.option(
    "--pause", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds to stand still at each key."
)
@click.option("--frames", type=click.IntRange(2, 2000), default=48, show_default=True, help="Frames that move.")
@click.option("--fps", type=click.FloatRange(1, 50), default=24, show_default=True, help="Frames a second.")
@click.option(
    "--size",
    type=click.IntRange(16, 2048),
    default=512,
    show_default=True,
    help="Side in pixels; with --paste, the photo's longer one at most.",
)
@click.option(
    "--bounce/--no-bounce", default=None, help="Run there and back.  [default: unless the end is as the beginning]"
)
@click.option(
    "-o",
    "--out",
    metavar="FILE|FOLDER/|-",
    help=".gif, .webp, .mp4, a folder of PNG frames, or - for stdout.  [default: SOURCE-NAME.gif]",
)
@click.option(
    "--format",
    "clip_format",
    type=click.Choice(("gif", "webp", "mp4")),
    default="gif",
    show_default=True,
    help="Of a clip whose name you do not give, as on standard output.",
)
@click.option(
    "--max-size", "max_bytes", callback=_bytes, metavar="6MB", help="Scale down, or drop frames, to fit this."
)
@click.option("--caption", type=click.Choice(("label", "sliders")), help="Write numbers, or sliders, under the frames.")
@click.option("--compare", is_flag=True, help="Show the original beside it.")
@paste_options
@style_options
@face_options
def animate(
    source: Path,
    attributes: tuple[str, ...],
    starts: tuple[float, ...],
    ends: tuple[float, ...],
    keys: tuple[str, ...],
    others: tuple[Path, ...],
    walk: str,
    ease: str | None,
    out: str | None,
    max_bytes: int | None,
    **options: Any,
) -> None:
    """Animate the face in a photo or latent: edits, styles, and walks to other faces.

    \b
    Examples:
      facelatent animate me.jpg --attr smile --from -3 --to 3 --frames 48 -o smile.gif
      facelatent animate me.jpg --key 0:smile=0 --key 0.5:smile=3,yaw=-1 --key 1:yaw=1
      facelatent animate me.jpg --attr smile --paste --size 1024 -o portrait.webp
      facelatent animate me.latent.safetensors --to-latent anna.jpg --to-latent bo.jpg --pause 0.5
      facelatent animate me.jpg --attr yaw --caption sliders --compare --max-size 6MB -o turn.gif
      facelatent animate - --attr smile < me.jpg > smile.gif
      facelatent animate me.jpg --boundary pose.pt --from -1 --to 1 -o frames/
      facelatent animate me.jpg --style mona.safetensors --key 0:style=0 --key 1:style=0.8
    """
    names = ("frames", "fps", "size", "pause", "bounce", "caption", "compare", "paste", "photo")
    settings = _Settings(**{name: options.pop(name) for name in names})
    timeline = _timeline(_ends(attributes, starts, ends), keys, others, ease)
    way = _way(timeline, settings.bounce)
    if ease is None and way == "once":
        timeline = replace(timeline, ease="linear")
    target = _target(source, out, timeline, options.pop("clip_format"))
    into_folder = out is not None and (out.endswith(("/", os.sep)) or target.is_dir())
    check_photo_option(settings.paste, settings.photo)
    check_outputs(source, target / "0001.png" if into_folder else target, options["json_file"])
    _check_target(target, into_folder, max_bytes)
    for face in (source, *others):
        check_source(face)
    check_photo(source, settings.paste, settings.photo)
    scene = _scene(source, others, timeline, walk, options)
    scene.check(timeline)
    frames = _frames(source, scene, timeline, way, settings, options)
    clip = _saved(frames, target, settings.fps, max_bytes, into_folder, chosen_note(scene.latents[0], options))
    click.echo(f"wrote {target} ({_clip_line(clip, frames)})")
    write_json(options["json_file"], _record(target, clip, scene, timeline) | style_record(options))


def _ends(
    attributes: tuple[str, ...], starts: tuple[float, ...], ends: tuple[float, ...]
) -> dict[str, tuple[float, float]]:
    """What ``--from`` and ``--to`` say of each ``--attr``."""
    if not attributes:
        if starts or ends:
            raise click.UsageError("--from and --to are for --attr")
        return {}
    pairs = zip(
        one_each(attributes, starts or (-3.0,), "--from"), one_each(attributes, ends or (3.0,), "--to"), strict=True
    )
    return dict(zip(attributes, pairs, strict=True))


def _target(source: Path, out: str | None, timeline: Timeline, clip_format: str) -> Path:
    """Where the clip goes."""
    if out in ("-/", "-" + os.sep):
        raise click.UsageError("a folder of frames cannot go to standard output: name it, such as -o frames/")
    if out == "-" or (out is None and is_piped(source)):
        if clip_format == "mp4":
            raise click.UsageError("an MP4 cannot go to standard output: name its file, or choose --format webp")
        return to_stdout(click.get_current_context(), f".{clip_format}")
    first = Path(timeline.names[0]).name.split(".")[0]
    return Path(out) if out else default_target(source, f"-{first}.{clip_format}")


def _check_target(target: Path, into_folder: bool, max_bytes: int | None) -> None:
    from facelatent.render import check_animation, check_frames

    if not into_folder:
        check_animation(target)
        return
    if max_bytes:
        raise click.UsageError("--max-size is for a file, not for a folder of frames")
    check_frames(target)


def _timeline(
    ends: dict[str, tuple[float, float]], keys: tuple[str, ...], others: tuple[Path, ...], ease: str | None
) -> Timeline:
    """The keys of ``--key``, of ``--from`` and ``--to``, and of a walk that has none of its own."""
    from facelatent.clips import WALK
    from facelatent.render import Key, Timeline, between

    made: list[Key] = []
    for text in keys:
        try:
            made.append(Key.parse(text))
        except FacelatentError as error:
            raise click.UsageError(f"--key: {error}") from error
    if ends:
        made += [Key(time, {name: pair[time] for name, pair in ends.items()}) for time in (0, 1)]
    if others and not any(WALK in key.values for key in made):
        made += [Key(time, {WALK: float(number)}) for number, time in enumerate(between(len(others) + 1))]
    if not made:
        raise click.UsageError("say what to change: --attr NAME, --boundary FILE, --key or --to-latent")
    return Timeline(tuple(made), ease or "smooth")  # type: ignore[arg-type]  # click checked it


def _way(timeline: Timeline, bounce: bool | None) -> Way:
    if bounce is None:
        return "round" if timeline.closed else "back"
    return "back" if bounce else "once"


def _scene(source: Path, others: tuple[Path, ...], timeline: Timeline, walk: str, options: dict[str, Any]) -> Scene:
    from facelatent.clips import STYLE, WALK, Scene

    generator = chosen_generator({**options, "styles": (), "style_strength": 1.0})
    # A key's "style" takes the place of --style-strength.
    strength_of_all = 1.0 if STYLE in timeline.names else options["style_strength"]
    styles = [(style, strength * strength_of_all) for style, strength in chosen_styles(options)]
    for style, _ in styles:
        style.check(generator)
    names = tuple(name for name in timeline.names if name != WALK and name.partition(".")[0] != STYLE)
    edits = chosen_edits(generator, names, (0.0,) * len(names), (None,) * len(names))
    latents = tuple(latent_for(face, generator, options) for face in (source, *others))
    return Scene(generator, latents, dict(zip(names, edits, strict=True)), styles, walk)  # type: ignore[arg-type]


def _frames(
    source: Path, scene: Scene, timeline: Timeline, way: Way, settings: _Settings, options: dict[str, Any]
) -> list[Image.Image]:
    """All frames, in the photo, beside the original and with captions as asked for."""
    from facelatent.clips import timeline_frames
    from facelatent.editing import paste_frames, scaled_photo
    from facelatent.images import to_rgb
    from facelatent.photos import open_photo

    places = timeline.places(settings.frames, way, round(settings.pause * settings.fps))
    size, latent = settings.size, scene.latents[0]
    if settings.paste:
        opened = to_rgb(open_photo(photo_to_paste(source, latent, settings.photo)).image)
        picture, latent, size = scaled_photo(opened, latent, scene.generator, size)
        scene = replace(scene, latents=(latent, *scene.latents[1:]))
    frames = timeline_frames(scene, timeline, places, size, progress=on_terminal())
    original = None
    if settings.compare:
        original = picture if settings.paste else _original(source, latent, scene, size, options)
    if settings.paste:
        frames = paste_frames(picture, latent, scene.generator, frames)
    return _decorated(frames, original, scene, timeline, places, settings.caption)


def _original(source: Path, latent: Latent, scene: Scene, size: int, options: dict[str, Any]) -> Image.Image:
    """The photo's crop, or of a latent its picture without edits."""
    from facelatent.editing import draw
    from facelatent.photo_latents import is_latent, photo_crop

    if is_latent(source):
        return draw(latent.generator_for(scene.generator), latent.ws, size)[0]
    return photo_crop(source, size, options["face"], options["aligned"])


def _decorated(
    frames: list[Image.Image],
    original: Image.Image | None,
    scene: Scene,
    timeline: Timeline,
    places: list[float],
    caption: Any,
) -> list[Image.Image]:
    from facelatent.render import beside, captioned

    if original is not None:
        frames = [beside(original, frame) for frame in frames]
    if caption is None:
        return frames
    called = {name: scene.edits[name].boundary.attribute if name in scene.edits else name for name in timeline.names}
    spans = {called[name]: timeline.span(name) for name in timeline.names}
    return [
        captioned(frame, {called[name]: value for name, value in timeline.at(place).items()}, spans, caption)
        for frame, place in zip(frames, places, strict=True)
    ]


def _saved(
    frames: list[Image.Image], target: Path, fps: float, max_bytes: int | None, into_folder: bool, note: str | None
) -> Clip:
    from facelatent.render import save_animation, save_frames

    if into_folder:
        return save_frames(frames, target, fps, note)
    return save_animation(frames, target, fps, max_bytes, note)


def _record(target: Path, clip: Clip, scene: Scene, timeline: Timeline) -> dict[str, Any]:
    """What ``--json`` records."""
    return {
        "animation": str(target),
        "frames": clip.frames,
        "size": clip.size,
        "fps": clip.fps,
        "bytes": clip.bytes,
        "keys": [{"time": key.time, **key.values} for key in timeline.keys],
        "ease": timeline.ease,
        "from": described(scene.edits_at(timeline.at(0))),
        "to": described(scene.edits_at(timeline.at(1))),
    }


def _clip_line(clip: Clip, frames: list[Image.Image]) -> str:
    """What was written, and what was left out to keep below a size."""
    line = f"{clip.frames} frames, {clip.bytes / 1e6:.1f} MB"
    if not clip.reduced:
        return line
    width, height = clip.size
    return (
        f"{line}; reduced to fit: {clip.frames} of {len(frames)} frames, {width} x {height} px, {clip.fps:g} a second"
    )

"""Animations: GIF, WebP, MP4, and folders of frames."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.cluster import MiniBatchKMeans

from facelatent.errors import FacelatentError, UnwritableOutput
from facelatent.files import atomic_path
from facelatent.images import save_image
from facelatent.note import EDITED, note_options

#: Endings that :func:`save_animation` writes.
ANIMATION_SUFFIXES = (".gif", ".webp", ".mp4")

#: One of a GIF's 256 colours says "as in the frame before".
_COLOURS, _UNCHANGED = 255, 255
_PALETTE_PIXELS = 60_000
#: Half the height of the dither pattern, in 8-bit levels: enough to break bands in skin; more only shows.
_DITHER = 2.0
#: A GIF's pixel is painted anew once a channel is farther than this, in 8-bit levels, from what it was painted for.
#: Less than neighbouring colours of the palette differ by; frames then hold mostly unchanged pixels, which cost little.
_KEPT_WITHIN = 2
#: To keep below a size, sides are scaled by this at least before every other frame is left out, and never below.
_GENTLE, _SMALLEST = 0.7, 32


@dataclass(frozen=True)
class Clip:
    """A file that was written.

    Attributes:
        frames: how many are shown, one after another.
        size: width and height in pixels.
        fps: frames a second that were asked for, or half that.
        bytes: size of the file, or of all files of a folder.
        reduced: whether it has fewer frames or pixels than were given.
    """

    frames: int
    size: tuple[int, int]
    fps: float
    bytes: int
    reduced: bool = False


def check_animation(path: str | Path) -> None:
    """Raise FacelatentError for a name under which nothing can be written: unknown ending, MP4 without ``video``."""
    suffix = Path(path).suffix.lower()
    if suffix not in ANIMATION_SUFFIXES:
        raise FacelatentError(f"cannot tell an animation format from {path}; end it in {', '.join(ANIMATION_SUFFIXES)}")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise FacelatentError("MP4 needs the extra 'video': pip install 'facelatent[video]'; or end the name in .gif")


def save_animation(
    frames: Sequence[Image.Image],
    path: str | Path,
    fps: float = 24,
    max_bytes: int | None = None,
    note: str | None = EDITED,
) -> Clip:
    """Write frames of one size as an endlessly looping GIF or WebP, or as MP4, by the name's ending.

    Args:
        frames: pictures.
        path: the file.
        fps: frames a second.
        max_bytes: the largest file that is wanted. One that would be larger is scaled down, and if that were too much,
            has every other frame left out at half the rate; what is returned says so.
        note: what its metadata says it is, None for nothing; see :mod:`facelatent.note`.

    Raises:
        FacelatentError: an unknown ending, MP4 without the extra ``video``, or no clip worth seeing is so small.
        UnwritableOutput: the folder cannot be written.
    """
    check_animation(path)
    write = _writer(Path(path).suffix.lower(), frames, note)
    scale, step = 1.0, 1
    with atomic_path(path) as temporary:
        while True:
            reduced = _reduced(frames, scale, step)
            write(reduced, temporary, fps / step)
            size = temporary.stat().st_size
            if max_bytes is None or size <= max_bytes:
                return Clip(len(reduced), reduced[0].size, fps / step, size, (scale, step) != (1.0, 1))
            # Bytes grow about as pixels do.
            smaller = scale * min(0.97 * math.sqrt(max_bytes / size), 0.95)
            if smaller < _GENTLE and step == 1 and len(frames) > 3:
                scale, step = 1.0, 2
            elif smaller * min(frames[0].size) < _SMALLEST:
                raise FacelatentError(f"no clip of {len(frames)} frames is below {max_bytes / 1e6:g} MB: allow more")
            else:
                scale = smaller


def check_frames(folder: Path) -> None:
    """Raise UnwritableOutput for a folder that has files already: frames of two clips would be mixed."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UnwritableOutput(f"{folder} is not empty: frames of two clips would be mixed; choose another folder")


def save_frames(frames: Sequence[Image.Image], folder: str | Path, fps: float = 24, note: str | None = EDITED) -> Clip:
    """Write frames as ``0001.png``, ``0002.png`` ... into a new or empty folder; ``note`` as of :func:`save_image`.

    Raises:
        UnwritableOutput: the folder has files already, or cannot be written.
    """
    target = Path(folder)
    check_frames(target)
    files = [target / f"{number:04d}.png" for number in range(1, len(frames) + 1)]
    for frame, file in zip(frames, files, strict=True):
        save_image(frame, file, note)
    return Clip(len(frames), frames[0].size, fps, sum(file.stat().st_size for file in files))


def _reduced(frames: Sequence[Image.Image], scale: float, step: int) -> list[Image.Image]:
    width, height = (max(round(scale * side), 1) for side in frames[0].size)
    pictures = [frame.convert("RGB") for frame in frames[::step]]
    if scale == 1:
        return pictures
    return [picture.resize((width, height), Image.Resampling.LANCZOS) for picture in pictures]


def _milliseconds(fps: float) -> int:
    """How long a frame is shown. GIF stores hundredths of a second: rounded, so that viewers use the stated rate."""
    return max(round(100 / fps), 2) * 10


def _writer(
    suffix: str, frames: Sequence[Image.Image], note: str | None
) -> Callable[[Sequence[Image.Image], Path, float], None]:
    """What writes ``frames``, or fewer and smaller ones, to a file at a rate."""
    noted = note_options(suffix.removeprefix(".").upper(), note)
    if suffix == ".gif":
        # However often a size is tried, the palette is found once.
        return partial(_save_gif, palette=_Palette.of(frames), noted=noted)
    return partial({".webp": _save_webp, ".mp4": _save_mp4}[suffix], noted=noted)


def _save_gif(frames: Sequence[Image.Image], path: Path, fps: float, palette: _Palette, noted: dict[str, Any]) -> None:
    pictures, counts = _changes(_quantise(frames, palette.nearest), palette.colours)
    durations = [count * _milliseconds(fps) for count in counts]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=False, disposal=1,
        transparency=_UNCHANGED, **noted,
    )  # fmt: skip


def _save_webp(frames: Sequence[Image.Image], path: Path, fps: float, noted: dict[str, Any]) -> None:
    more = list(frames[1:])
    frames[0].save(path, save_all=True, append_images=more, duration=_milliseconds(fps), loop=0, quality=85, **noted)


def _save_mp4(frames: Sequence[Image.Image], path: Path, fps: float, noted: dict[str, Any]) -> None:
    from imageio_ffmpeg import write_frames

    # The codec halves the colours' resolution: sides must be even.
    size = (frames[0].width // 2 * 2, frames[0].height // 2 * 2)
    # What players take for granted differs: said in the file, colours are the same in all of them.
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    parameters = ["-vf", f"scale=out_color_matrix=bt709,{tags}", "-movflags", "+faststart"]
    if noted:
        parameters += ["-metadata", f"comment={noted['comment'].decode()}"]
    writer = write_frames(path, size, fps=fps, codec="libx264", quality=8, macro_block_size=2, output_params=parameters)
    writer.send(None)
    for frame in frames:
        writer.send(frame.crop((0, 0, *size)).tobytes())
    writer.close()


def _changes(indices: np.ndarray, palette: bytes) -> tuple[list[Image.Image], list[int]]:
    """What each frame changes, and how many frames it stays; frames that change nothing are left out."""
    shown = np.full(indices.shape[1:], _UNCHANGED, np.uint8)
    pictures: list[Image.Image] = []
    counts: list[int] = []
    for frame in indices:
        changed = frame != shown
        if not changed.any():
            counts[-1] += 1
            continue
        picture = Image.fromarray(np.where(changed, frame, np.uint8(_UNCHANGED)), "P")
        picture.putpalette(palette)
        pictures.append(picture)
        counts.append(1)
        shown = frame
    return pictures, counts


@dataclass(frozen=True)
class _Palette:
    """A GIF's colours, one palette for the whole clip.

    Attributes:
        colours: 256 times red, green, blue.
        nearest: [64, 64, 64] index of the colour nearest to one's upper six bits.
    """

    colours: bytes
    nearest: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[Image.Image]) -> _Palette:
        pixels = np.stack([np.asarray(frame.convert("RGB")) for frame in frames]).reshape(-1, 3)
        sample = pixels[np.random.default_rng(0).integers(0, len(pixels), _PALETTE_PIXELS)]
        clusters = min(_COLOURS, len(np.unique(sample, axis=0)))
        means = MiniBatchKMeans(clusters, batch_size=8192, n_init=1, random_state=0).fit(sample.astype(np.float32))
        colours = np.zeros((256, 3), np.uint8)
        colours[:clusters] = np.clip(means.cluster_centers_.round(), 0, 255)
        return cls(colours.tobytes(), _nearest_table(means))


def _quantise(frames: Sequence[Image.Image], nearest: np.ndarray) -> np.ndarray:
    """Palette indices [n, H, W].

    The dither pattern stands still, and a pixel keeps its colour until it would differ visibly: nothing boils.
    """
    stacked = np.stack([np.asarray(frame) for frame in frames])
    pattern = np.kron(np.ones([-(-side // 8) for side in stacked.shape[1:3]]), _bayer(8))
    pattern = ((pattern[: stacked.shape[1], : stacked.shape[2], None] * 2 - 1) * _DITHER).astype(np.float32)
    indices = np.empty(stacked.shape[:3], np.uint8)
    painted = stacked[0].astype(np.int16)
    for number, frame in enumerate(stacked):
        red, green, blue = (np.clip(frame + pattern, 0, 255).round().astype(np.uint8) >> 2).transpose(2, 0, 1)
        wanted = nearest[red, green, blue]
        if number:
            far = np.abs(frame - painted).max(-1) > _KEPT_WITHIN
            wanted = np.where(far, wanted, indices[number - 1])
            painted[far] = frame[far]
        indices[number] = wanted
    return indices


def _nearest_table(means: MiniBatchKMeans) -> np.ndarray:
    """Palette index [64, 64, 64] of each colour by its upper six bits.

    Pillow's own matching takes the lower corner of such a cell for its colour, which darkens; this takes the middle.
    """
    middles = np.arange(2, 256, 4, dtype=np.float32)
    cells = np.stack(np.meshgrid(middles, middles, middles, indexing="ij"), axis=-1).reshape(-1, 3)
    table: np.ndarray = means.predict(cells).astype(np.uint8).reshape(64, 64, 64)
    return table


def _bayer(side: int) -> np.ndarray:
    """Bayer's ordered-dither matrix [side, side], values in (0, 1); ``side`` is a power of two."""
    matrix = np.zeros((1, 1))
    while len(matrix) < side:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return np.asarray((matrix + 0.5) / side**2)

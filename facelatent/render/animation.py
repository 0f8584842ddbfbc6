"""Animations: GIF, WebP, MP4."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.cluster import MiniBatchKMeans

from facelatent.errors import FacelatentError
from facelatent.files import atomic_path
from facelatent.note import EDITED, note_options

#: Endings that :func:`save_animation` writes.
ANIMATION_SUFFIXES = (".gif", ".webp", ".mp4")

_COLOURS = 256
_PALETTE_PIXELS = 60_000
#: Half the height of the dither pattern, in 8-bit levels: enough to break bands in skin; more only shows.
_DITHER = 2.0


def there_and_back(count: int) -> list[int]:
    """Indices of a loop of ``count`` frames that runs to the end and back without showing either end twice.

    ``there_and_back(6)`` is ``[0, 1, 2, 3, 2, 1]``: 6 frames from 4 pictures. An odd count loses one frame.
    """
    turning = max(count // 2, 1)
    return [*range(turning + 1), *range(turning - 1, 0, -1)]


def check_animation(path: str | Path) -> None:
    """Raise FacelatentError for a name under which nothing can be written: unknown ending, MP4 without ``video``."""
    suffix = Path(path).suffix.lower()
    if suffix not in ANIMATION_SUFFIXES:
        raise FacelatentError(f"cannot tell an animation format from {path}; end it in {', '.join(ANIMATION_SUFFIXES)}")
    if suffix == ".mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise FacelatentError("MP4 needs the extra 'video': pip install 'facelatent[video]'; or end the name in .gif")


def save_animation(frames: Sequence[Image.Image], path: str | Path, fps: float = 24, note: str | None = EDITED) -> None:
    """Write frames of one size as an endlessly looping GIF or WebP, or as MP4, by the name's ending.

    ``note`` is what a GIF's or WebP's metadata says it is, None for nothing; see :mod:`facelatent.note`.

    Raises:
        FacelatentError: an unknown ending, or MP4 without the extra ``video``.
        UnwritableOutput: the folder cannot be written.
    """
    check_animation(path)
    suffix = Path(path).suffix.lower()
    if suffix == ".mp4":
        return _save_mp4(frames, path, fps)
    pictures = _quantise(frames) if suffix == ".gif" else [frame.convert("RGB") for frame in frames]
    # GIF stores hundredths of a second: round here, so that the stated rate is the one that viewers use.
    milliseconds = max(round(100 / fps), 2) * 10
    options: dict[str, Any] = {"quality": 85} if suffix == ".webp" else {"optimize": False, "disposal": 1}
    options |= note_options(suffix.removeprefix(".").upper(), note)
    with atomic_path(path) as temporary:
        pictures[0].save(temporary, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, **options)
    return None


def _save_mp4(frames: Sequence[Image.Image], path: str | Path, fps: float) -> None:
    import imageio.v3 as iio

    stacked = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
    with atomic_path(path) as temporary:
        iio.imwrite(temporary, stacked, fps=fps, codec="libx264", quality=8, macro_block_size=2)


def _quantise(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """One palette for the whole clip, and a dither pattern that stands still, so that nothing flickers."""
    stacked = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])
    pixels = stacked.reshape(-1, 3)
    sample = pixels[np.random.default_rng(0).integers(0, len(pixels), _PALETTE_PIXELS)]
    clusters = min(_COLOURS, len(np.unique(sample, axis=0)))
    means = MiniBatchKMeans(clusters, batch_size=8192, n_init=1, random_state=0).fit(sample.astype(np.float32))
    palette = np.clip(means.cluster_centers_.round(), 0, 255).astype(np.uint8).tobytes()
    nearest = _nearest_table(means)
    pattern = np.kron(np.ones([-(-side // 8) for side in stacked.shape[1:3]]), _bayer(8))
    pattern = (pattern[: stacked.shape[1], : stacked.shape[2], None] * 2 - 1) * _DITHER
    pictures = []
    for frame in stacked:
        red, green, blue = (np.clip(frame + pattern, 0, 255).round().astype(np.uint8) >> 2).transpose(2, 0, 1)
        picture = Image.fromarray(nearest[red, green, blue], "P")
        picture.putpalette(palette)
        pictures.append(picture)
    return pictures


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

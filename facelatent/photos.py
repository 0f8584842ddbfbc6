"""Photos to be given back: opened as they are, with what their files say about them, and written with it."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from facelatent.files import atomic_path
from facelatent.images import decoded, picture_format, to_rgb, upright
from facelatent.note import EDITED, note_options

_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
#: Tags that say how a TIFF file stores its pixels, which another file does not; and its ICC profile and XMP.
_STRUCTURE = (
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339),
    *(330, 347, 530, 532, 700, 34675),
)
#: Modes that a format takes as they are; others are written as RGB.
_MODES = {
    "PNG": ("RGB", "RGBA", "L", "LA", "I;16"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": ("RGB", "L"),
    "BMP": ("RGB", "L"),
    "GIF": ("RGB", "L"),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}


@dataclass(frozen=True)
class Photo:
    """A photo as its file holds it.

    Attributes:
        image: upright (EXIF orientation applied), in the file's own mode; the first frame of an animation.
        exif: the file's EXIF block, with orientation 1 and without its thumbnail, which would show the old picture.
        icc: its ICC colour profile.
        dpi: its resolution in dots an inch, across and down.
    """

    image: Image.Image
    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None


def open_photo(path: str | Path) -> Photo:
    """Open a photo with its EXIF data, ICC profile and resolution; errors as :func:`facelatent.images.open_image`."""

    def read(image: Image.Image) -> Photo:
        turned = upright(image)
        return Photo(turned, _exif(image), image.info.get("icc_profile"), _dpi(image))

    return decoded(path, read)


def save_photo(image: Image.Image, path: str | Path, like: Photo, note: str | None = EDITED) -> None:
    """Write a picture with ``like``'s EXIF data, ICC profile and resolution, in the format that its name's ending says.

    ``note`` is what its metadata says it is, None for nothing; see :mod:`facelatent.note`. JPEG is written at quality
    95 without chroma subsampling, WebP without loss. A format that holds no alpha gets it laid on white; one that holds
    no 16 bits gets 8. A profile of another colour space than the picture's is left out.

    Raises:
        UnwritableOutput: the folder cannot be written, or no picture format has that ending.
    """
    format_name = picture_format(path)
    picture = image if image.mode in _MODES[format_name] else to_rgb(image)
    options = {**_OPTIONS.get(format_name, {}), **note_options(format_name, note, like.exif)}
    if like.dpi and format_name in ("JPEG", "PNG", "TIFF", "BMP"):
        options["dpi"] = like.dpi
    # Without one given, Pillow would write what the picture's own info says.
    options["icc_profile"] = like.icc if like.icc and _describes(like.icc, picture.mode) else None
    with atomic_path(path) as temporary:
        picture.save(temporary, format=format_name, **options)


def _describes(icc: bytes, mode: str) -> bool:
    """Whether a profile's colour space (bytes 16 to 19 of its header) is that of a mode."""
    return icc[16:20] == (b"RGB " if mode.startswith("RGB") else b"GRAY")


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    try:
        across, down = (float(value) for value in dpi or ())
    except (TypeError, ValueError):
        return None
    usable = all(math.isfinite(value) and 1 <= value < 65535 for value in (across, down))
    return (across, down) if usable else None


def _exif(image: Image.Image) -> bytes | None:
    raw = image.info.get("exif")
    if isinstance(raw, bytes) and (patched := _unturned(raw)):
        return patched
    if image.format != "TIFF":
        return None
    try:
        exif = image.getexif()
        for tag in _STRUCTURE:
            exif.pop(tag, None)
        return exif.tobytes() if len(exif) else None
    except Exception:  # odd tags of all kinds cannot be written again; the picture is worth more
        return None


def _unturned(raw: bytes) -> bytes | None:
    """An EXIF block with orientation 1 and its thumbnail unlinked, every other byte as it was; None if it is damaged.

    Writing it anew would move what makers' notes point at.
    """
    start = len(_EXIF_PREFIX)
    raw = raw if raw.startswith(_EXIF_PREFIX) else _EXIF_PREFIX + raw  # WebP has it without
    block = io.BytesIO(raw)
    try:
        order = {b"II": "<", b"MM": ">"}[raw[start : start + 2]]
        (directory,) = struct.unpack_from(order + "I", raw, start + 4)
        (count,) = struct.unpack_from(order + "H", raw, start + directory)
        for entry in range(start + directory + 2, start + directory + 2 + 12 * count, 12):
            if struct.unpack_from(order + "H", raw, entry)[0] == _ORIENTATION:
                block.seek(entry)
                block.write(struct.pack(order + "HHIHH", _ORIENTATION, 3, 1, 1, 0))
        following = start + directory + 2 + 12 * count
        struct.unpack_from(order + "I", raw, following)
        block.seek(following)
        block.write(bytes(4))
    except (KeyError, struct.error):
        return None
    return block.getvalue()

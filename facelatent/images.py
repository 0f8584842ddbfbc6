"""Opening users' pictures safely, and moving between pictures and tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from facelatent.errors import UnreadableImage, UnwritableOutput
from facelatent.files import atomic_path
from facelatent.note import EDITED, note_options

if TYPE_CHECKING:
    from torch import Tensor

_Read = TypeVar("_Read")

#: Formats that are opened (JPEG covers the MPO of stereo cameras); everything else is refused before a decoder sees it.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
#: The largest picture that is opened, in pixels (a 100-megapixel camera's).
MAX_PIXELS = 108_000_000
#: The largest file that is opened, in bytes.
MAX_BYTES = 256 << 20


def check_file(file: Path) -> None:
    """Raise UnreadableImage for a picture's file that is missing, a folder, empty, or above :data:`MAX_BYTES`."""
    if not file.is_file():
        raise UnreadableImage(f"{file} is a folder, not an image" if file.is_dir() else f"{file} does not exist")
    size = file.stat().st_size
    if size == 0:
        raise UnreadableImage(f"{file} is empty (0 bytes)")
    if size > MAX_BYTES:
        raise UnreadableImage(
            f"{file} has {size >> 20} MB; at most {MAX_BYTES >> 20} MB are opened: scale it down first"
        )


def open_image(path: str | Path) -> Image.Image:
    """Open a photo as 8-bit RGB: EXIF orientation applied, alpha laid on white, first frame of an animation.

    16-bit, greyscale, palette and CMYK pictures are converted.

    Raises:
        UnreadableImage: the file is missing, empty, damaged, not one of :data:`FORMATS`, larger than
            :data:`MAX_BYTES`, or has more than :data:`MAX_PIXELS` pixels.
    """
    return decoded(path, lambda image: to_rgb(upright(image)))


def decoded(path: str | Path, read: Callable[[Image.Image], _Read]) -> _Read:
    """What ``read`` makes of a picture's file while it is open; errors as :func:`open_image`."""
    file = Path(path)
    check_file(file)
    try:
        with warnings.catch_warnings():
            # Pillow warns at a lower size than ours and refuses at a higher one: the check below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnreadableImage(
                        f"{file} has {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels "
                        "are opened: scale it down first"
                    )
                return read(image)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(
            f"{file} has too many pixels; at most {MAX_PIXELS // 1_000_000} megapixels are opened: scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{file} is not an image that can be opened ({', '.join(FORMATS)})") from error
    except PermissionError as error:
        raise UnreadableImage(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:  # decoders raise TypeError, struct.error and others on damaged files
        raise UnreadableImage(f"{file} is damaged or cut off ({error})") from error


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says. ImageOps.exif_transpose writes the EXIF anew, which fails where another tag is odd."""
    image.load()  # Pillow turns a TIFF while loading it, and drops the tag
    turn = _TURNS.get(image.getexif().get(0x0112, 1))
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; see :func:`open_image`."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow clips wide greyscale at 255 when it converts: scale its range instead.
        values = np.asarray(image, np.float64)
        scale = 255 / 65535 if image.mode != "F" else 255 / max(float(values.max()), 1e-9)
        return Image.fromarray(np.clip(values * scale, 0, 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def to_tensor(images: Image.Image | list[Image.Image]) -> Tensor:
    """RGB pictures of one size -> float32 [n, 3, H, W] in [-1, 1]."""
    import torch

    pictures = images if isinstance(images, list) else [images]
    stacked = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def to_arrays(images: Tensor) -> np.ndarray:
    """[n, 3, H, W] in [-1, 1] (values outside are clipped) -> uint8 [n, H, W, 3], rounded to nearest."""
    scaled = images.detach().float().add(1).mul(127.5).round().clamp(0, 255).byte()
    array: np.ndarray = scaled.permute(0, 2, 3, 1).cpu().numpy()
    return array


def to_images(images: Tensor) -> list[Image.Image]:
    """[n, 3, H, W] in [-1, 1] -> n RGB pictures."""
    return [Image.fromarray(array) for array in to_arrays(images)]


def picture_suffixes() -> tuple[str, ...]:
    """Endings, in lower case with their dot, of the names of pictures in :data:`FORMATS`."""
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS))


def picture_format(path: str | Path) -> str:
    """The format of :data:`FORMATS` that a name's ending says.

    Raises:
        UnwritableOutput: no picture format has that ending.
    """
    format_name = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    if format_name not in FORMATS:
        raise UnwritableOutput(f"cannot tell a picture format from the name {path}; end it in .png, .jpg or .webp")
    return format_name


def save_image(image: Image.Image, path: str | Path, note: str | None = EDITED) -> None:
    """Write a picture atomically, in the format that its name's ending says (PNG, JPEG at quality 95, WebP ...).

    ``note`` is what its metadata says it is, None for nothing; see :mod:`facelatent.note`.

    Raises:
        UnwritableOutput: the folder cannot be written, or no picture format has that ending.
    """
    format_name = picture_format(path)
    options = {"quality": 95} if format_name in ("JPEG", "WEBP") else {}
    with atomic_path(path) as temporary:
        image.save(temporary, format=format_name, **options, **note_options(format_name, note))

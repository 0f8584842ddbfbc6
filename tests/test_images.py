"""Opening every kind of picture that users have, good and bad, and moving between pictures and tensors."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facelatent import images
from facelatent.errors import UnreadableImage, UnwritableOutput
from facelatent.images import open_image, save_image, to_arrays, to_images, to_tensor

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def noise(width: int = 40, height: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def two_halves(mode: str, left: object, right: object) -> Image.Image:
    """A 40 x 20 picture of two colours."""
    image = Image.new(mode, (40, 20), right)  # type: ignore[arg-type]
    image.paste(left, (0, 0, 20, 20))  # type: ignore[call-overload]
    return image


def opened(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    """Save a picture, open it, check that it is 8-bit RGB, and return its pixels."""
    image.save(path, **options)  # type: ignore[arg-type]
    result = open_image(path)
    assert result.mode == "RGB"
    return np.asarray(result)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(width: int, height: int) -> bytes:
    """A 1-bit black PNG, made without ever holding its pixels."""
    row = bytes(1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


# Pictures that are refused


def refused(path: Path) -> str:
    """The error's message, which must be one line that names the file."""
    with pytest.raises(UnreadableImage) as caught:
        open_image(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "photo.jpg").endswith("does not exist")


def test_folder(tmp_path: Path) -> None:
    assert refused(tmp_path).endswith("is a folder, not an image")


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.touch()
    assert refused(path).endswith("is empty (0 bytes)")


@pytest.mark.parametrize("content", [b"Dear Sir,\n" * 50, b"\xff", b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_not_an_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert "is not an image that can be opened (JPEG, PNG," in refused(path)


def test_format_outside_the_list_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(noise()).save(path, format="PPM")
    assert "is not an image that can be opened" in refused(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(noise(200, 200)).save(stream, format=kind)
    path = tmp_path / "photo"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    assert "is damaged or cut off" in refused(path) or kind == "WEBP"


@pytest.mark.parametrize(
    "side",
    [
        12_000,
        20_000,
    ],
)
def test_bomb(tmp_path: Path, side: int) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(black_png(side, side))
    assert path.stat().st_size < 200_000
    message = refused(path)
    assert "at most 108 megapixels are opened" in message
    assert "damaged" not in message


def test_pixel_cap_itself_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(noise(40, 30)).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 1200)
    assert open_image(path).size == (40, 30)
    monkeypatch.setattr(images, "MAX_PIXELS", 1199)
    assert "40 x 30 pixels" in refused(path)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_no_warning_between_pillows_cap_and_ours(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(black_png(10_000, 9_000))  # Pillow warns from 89.5 megapixels
    assert open_image(path).size == (10_000, 9_000)


def test_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    with open(path, "wb") as file:
        file.truncate(images.MAX_BYTES + (1 << 20))  # sparse: takes no space
    assert "has 257 MB; at most 256 MB are opened" in refused(path)


def test_strip_offset_that_is_no_integer(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    Image.fromarray(noise(channels=1).astype(np.uint16)).save(path)
    data = path.read_bytes()
    assert data.count(b"\x11\x01\x04\x00") == 1
    path.write_bytes(data.replace(b"\x11\x01\x04\x00", b"\x11\x01\x0a\x00"))  # tag 273: long -> rational
    assert "is damaged or cut off" in refused(path)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
    share=st.sampled_from([1.0, 0.99, 0.5, 0.1]),
)
def test_damage_never_escapes_as_another_error(
    tmp_path: Path, kind: str, changes: list[tuple[float, int]], share: float
) -> None:
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(24, 16)).save(stream, format=kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
    data = bytearray(stream.getvalue())
    for place, value in changes:
        data[int(place * len(data))] = value
    path = tmp_path / "photo"
    path.write_bytes(data[: max(int(share * len(data)), 1)])
    try:
        assert open_image(path).mode == "RGB"
    except UnreadableImage as error:
        assert "\n" not in str(error)


# Pictures that are converted


def test_rgb_is_left_alone(tmp_path: Path) -> None:
    assert np.array_equal(opened(Image.fromarray(noise()), tmp_path / "photo.png"), noise())


def test_16_bit_greyscale_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    pixels = opened(Image.fromarray(ramp), tmp_path / "photo.png")
    for channel in range(3):
        assert np.array_equal(pixels[..., channel], np.round(ramp / 257.0).astype(np.uint8))
    dark = opened(Image.fromarray(ramp // 16), tmp_path / "dark.png")
    assert dark.max() == 16  # 4095 of 65535: a dark picture stays dark


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_tiff(tmp_path: Path, order: str) -> None:
    ramp = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(order)
    image = Image.fromarray(ramp)
    pixels = opened(image, tmp_path / "photo.tif")
    assert np.array_equal(pixels[..., 0], np.round(ramp / 257.0).astype(np.uint8))


def test_16_bit_rgb_png(tmp_path: Path) -> None:
    values = np.array([[[0, 0x8000, 0xFFFF], [0x1234, 0xABCD, 0x00FF]]], ">u2")
    raw = b"".join(b"\x00" + row.tobytes() for row in values)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b""))
    assert np.abs(np.asarray(open_image(path)).astype(int) - values / 257).max() <= 1


def test_float_tiff(tmp_path: Path) -> None:
    ramp = np.linspace(-0.5, 1, 40 * 30, dtype=np.float32).reshape(30, 40)
    pixels = opened(Image.fromarray(ramp), tmp_path / "photo.tif")
    assert np.array_equal(pixels[..., 1], np.round(ramp.clip(0) * 255).astype(np.uint8))


@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_greyscale(tmp_path: Path, name: str) -> None:
    grey = noise(channels=1)
    assert np.array_equal(opened(Image.fromarray(grey), tmp_path / name), np.stack([grey] * 3, axis=-1))


def test_two_pictures_in_one_jpeg(tmp_path: Path) -> None:
    """MPO, as stereo cameras and some telephones write it: the first picture."""
    pixels = opened(Image.new("RGB", (16, 16), RED), tmp_path / "photo.jpg", format="MPO", save_all=True)
    assert np.abs(pixels.astype(int) - RED).max() <= 4
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    pixels = opened(frames[0], tmp_path / "two.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert np.abs(pixels.astype(int) - RED).max() <= 4


def test_black_and_white(tmp_path: Path) -> None:
    pixels = opened(two_halves("1", 0, 1), tmp_path / "photo.png")
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, -1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", ["photo.png", "photo.gif", "photo.bmp"])
def test_palette(tmp_path: Path, name: str) -> None:
    pixels = opened(two_halves("RGB", RED, BLUE).quantize(4), tmp_path / name)
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == (RED, BLUE)


@pytest.mark.parametrize("name", ["photo.png", "photo.gif"])
def test_palette_with_a_transparent_colour(tmp_path: Path, name: str) -> None:
    palette = two_halves("P", 0, 1)
    palette.putpalette([*RED, *BLUE])
    pixels = opened(palette, tmp_path / name, transparency=1)
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == (RED, WHITE)


def test_palette_with_partial_transparency(tmp_path: Path) -> None:
    palette = two_halves("P", 0, 1)
    palette.putpalette([*RED, *BLUE])
    pixels = opened(palette, tmp_path / "photo.png", transparency=bytes([255, 51]))
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == (RED, (204, 204, 255))


def test_rgb_with_a_transparent_colour(tmp_path: Path) -> None:
    pixels = opened(two_halves("RGB", RED, BLUE), tmp_path / "photo.png", transparency=BLUE)
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == (RED, WHITE)


@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.webp"])
def test_alpha_is_laid_on_white(tmp_path: Path, name: str) -> None:
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    pixels = opened(two_halves("RGBA", (*RED, 255), (*BLUE, 0)), tmp_path / name, **options)
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == (RED, WHITE)
    half = opened(Image.new("RGBA", (8, 8), (*RED, 51)), tmp_path / name, **options)
    assert tuple(half[0, 0]) == (255, 204, 204)


def test_grey_alpha_is_laid_on_white(tmp_path: Path) -> None:
    pixels = opened(two_halves("LA", (10, 255), (10, 0)), tmp_path / "photo.png")
    assert (tuple(pixels[0, 0]), tuple(pixels[0, -1])) == ((10, 10, 10), WHITE)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.tif"])
def test_cmyk(tmp_path: Path, name: str) -> None:
    pixels = opened(two_halves("CMYK", (0, 255, 255, 0), (0, 0, 0, 0)), tmp_path / name).astype(int)
    assert np.abs(pixels[5, 5] - RED).max() <= 4
    assert np.abs(pixels[5, -5] - WHITE).max() <= 4


@pytest.mark.parametrize("name", ["photo.gif", "photo.png", "photo.webp"])
def test_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, WHITE)]
    options = {"lossless": True} if name.endswith("webp") else {}
    pixels = opened(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert np.all(pixels == RED)


#: What a viewer does to the stored pixels for each value of the EXIF tag (CIPA DC-008).
ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: pixels.transpose(1, 0, 2)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: pixels.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("name", ["photo.png", "photo.tif", "photo.webp", "photo.jpg"])
def test_exif_orientation(tmp_path: Path, orientation: int, name: str) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16], stored[:8, 16:], stored[8:, :16] = RED, BLUE, WHITE
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"photo.webp": {"lossless": True}, "photo.jpg": {"quality": 100, "subsampling": 0}}.get(name, {})
    pixels = opened(Image.fromarray(stored), tmp_path / name, exif=exif, **options)
    expected = ORIENTATIONS[orientation](stored)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (4 if name == "photo.jpg" else 0)


def test_odd_exif_does_not_spoil_a_good_photo(tmp_path: Path) -> None:
    tags = ((256, 2, b"x\0\0\0"), (274, 3, b"\0\6\0\0"))  # a width that is text; orientation 6
    entries = b"".join(struct.pack(">HHI", tag, kind, 1) + value for tag, kind, value in tags)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4)
    pixels = opened(Image.fromarray(noise(32, 16)), tmp_path / "photo.jpg", exif=exif)
    assert pixels.shape == (32, 16, 3)


# Tensors


def test_round_trip_is_exact() -> None:
    every_value = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = to_tensor([Image.fromarray(every_value), Image.fromarray(noise(16, 16))])
    assert tensor.shape == (2, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert (tensor[0].min().item(), tensor[0].max().item()) == (-1, 1)
    first, second = to_images(tensor)
    assert np.array_equal(np.asarray(first), every_value)
    assert np.array_equal(np.asarray(second), noise(16, 16))
    assert np.array_equal(to_arrays(tensor)[1], noise(16, 16))


def test_channels_and_rows_keep_their_places() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2] = (255, 0, 255)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor[0, :, 1, 2].tolist() == [1, -1, 1]
    assert to_tensor(Image.fromarray(noise(channels=1))).shape == (1, 3, 30, 40)


def test_values_outside_are_clipped_and_gradients_left_behind() -> None:
    tensor = torch.tensor([-3.0, -1, 0, 1, 1.8]).reshape(1, 1, 1, 5).repeat(1, 3, 1, 1).requires_grad_()
    assert to_arrays(tensor)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


# Saving


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.PNG", "PNG"), ("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP")]
)
def test_ending_decides_the_format(tmp_path: Path, name: str, kind: str) -> None:
    smooth = Image.linear_gradient("L").convert("RGB")
    path = tmp_path / "new" / "folder" / name
    save_image(smooth, path)
    with Image.open(path) as image:
        assert image.format == kind
    difference = np.abs(np.asarray(open_image(path)).astype(int) - np.asarray(smooth))
    assert difference.max() <= (0 if kind == "PNG" else 8)
    assert [file.name for file in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("name", ["picture", "picture.txt", "picture.pdf", "picture.png.bak"])
def test_unknown_ending(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnwritableOutput, match=r"end it in \.png, \.jpg or \.webp"):
        save_image(Image.fromarray(noise()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_failed_save_keeps_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    save_image(Image.fromarray(noise()), path)

    def fail(self: Image.Image, fp: Path, **_: object) -> None:
        Path(fp).write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UnwritableOutput, match=r"cannot write .*picture\.png: No space left on device"):
        save_image(Image.fromarray(noise(seed=1)), path)
    monkeypatch.undo()
    assert np.array_equal(np.asarray(open_image(path)), noise())
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableOutput, match="choose another output path"):
        save_image(Image.fromarray(noise()), tmp_path / "file" / "picture.png")

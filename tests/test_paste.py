"""Paste-back: where the face lands, what is left alone, and what a photo's file keeps."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_parts import run, worked
from PIL import Image, ImageCms
from scipy import ndimage

from facelatent.boundaries import load_boundary
from facelatent.editing import AttributeEdit, draw, paste_edit
from facelatent.errors import FacelatentError
from facelatent.files import sha256_of
from facelatent.images import open_image, to_rgb
from facelatent.inversion import PasteMask, align_face, crop_quad, paste, paste_mask, photo_mask, quad_crop
from facelatent.latent import Latent
from facelatent.photos import Photo, open_photo, save_photo
from facelatent.stylegan_ops import Generator, MobileStyleGAN

QUAD = [[60.0, 40.0], [60.0, 168.0], [188.0, 168.0], [188.0, 40.0]]


def face_points(x: float, y: float, eyes: float, angle: float = 0) -> np.ndarray:
    """Landmarks of a face whose eyes are ``eyes`` apart about (x, y); only eyes and mouth count."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = [-eyes / 2, 0], [eyes / 2, 0]
    points[48], points[54] = [-eyes * 0.4, eyes], [eyes * 0.4, eyes]
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ turn.T + [x, y]


def scene(width: int, height: int, scale: float = 3, seed: int = 0) -> Image.Image:
    """A photo of soft noise whose details are ``scale`` pixels large."""
    random = np.random.default_rng(seed)
    values = np.stack([ndimage.gaussian_filter(random.normal(size=(height, width)), scale) for _ in range(3)], -1)
    return Image.fromarray((values / values.std() * 40 + 128).clip(0, 255).astype(np.uint8))


def everywhere(crop_side: int, replace: float = 1) -> PasteMask:
    """A mask that covers all of a crop but a narrow rim."""
    places = (np.arange(256) + 0.5) / 256
    edge = (np.minimum(places, 1 - places) / 0.05).clip(0, 1)
    cover = np.minimum.outer(edge, edge).astype(np.float32)
    return PasteMask(cover, np.full_like(cover, replace), crop_side)


def numbers(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float64)


# Where the face lands


@pytest.mark.parametrize(
    ("eyes", "size", "place", "angle", "border"),
    [
        (20, (300, 200), (150, 90), 0.2, False),  # smaller than the picture: averaged down
        (64, (600, 500), (300, 220), -0.4, False),
        (150, (1200, 1000), (600, 450), 0.3, False),  # larger: interpolated
        (300, (2401, 2203), (1200, 900), 0.1, False),  # so large that alignment shrinks an odd-sized photo first
        (100, (500, 500), (60, 60), 0.5, True),
    ],
)
def test_a_crop_goes_back_to_where_it_came_from(
    eyes: float, size: tuple[int, int], place: tuple[int, int], angle: float, border: bool
) -> None:
    points = face_points(*place, eyes, angle)
    quad = crop_quad(points)
    side = float(np.hypot(*(quad[3] - quad[0])))
    photo = scene(*size, scale=max(2.0, 2.5 * side / 256))
    crop = align_face(photo, points, 256, 1024)
    mask = everywhere(256)
    pasted = paste(photo, crop, quad, mask=mask)
    inside = np.asarray(photo_mask(mask, quad, photo.size)) == 255
    assert inside.mean() > 0.05
    before, after = numbers(photo)[..., 0], numbers(pasted)[..., 0]
    difference = (after - before)[inside]
    # Alignment blurs what lies at the photo's border, and a crop loses a little detail; the place is exact.
    assert np.abs(difference).mean() < (12 if border else 1.5)
    for slope in np.gradient(before):
        shift = (slope[inside] * difference).sum() / (slope[inside] ** 2).sum()
        assert abs(shift) < 0.1


def test_what_is_drawn_in_the_crop_is_seen_in_the_photo() -> None:
    photo = Image.new("RGB", (400, 300), "grey")
    points = face_points(200, 130, 50, 0.4)
    quad = crop_quad(points)
    edited = Image.new("RGB", (128, 128), "grey")
    edited.paste((255, 0, 0), (32, 80, 40, 88))  # a red square, left and low in the crop
    pasted = numbers(paste(photo, edited, quad, Image.new("RGB", (128, 128), "grey"), everywhere(128, 0)))
    rows, columns = np.nonzero(pasted[..., 0] - pasted[..., 1] > 100)
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    expected = quad[0] + across * 36 / 128 + down * 84 / 128
    assert [columns.mean(), rows.mean()] == pytest.approx(expected, abs=0.5)
    share = np.hypot(*across) / 128
    assert len(rows) == pytest.approx((8 * share) ** 2, rel=0.15)


def test_small_faces_are_averaged_not_sampled() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    photo = Image.new("RGB", (200, 200), (128, 128, 128))
    quad = crop_quad(face_points(100, 90, 20))  # 80 px for 512
    pasted = paste(photo, Image.fromarray(stripes), quad, Image.new("RGB", (512, 512), "black"), everywhere(512, 0))
    middle = numbers(pasted)[80:110, 85:115, 0]
    assert middle.std() < 3
    assert middle.mean() == pytest.approx(255, abs=3)


@pytest.mark.parametrize(
    "quad",
    [
        [[0, 0], [0, 9], [9, 9]],
        [[0, 0], [0, 0], [0, 0], [0, 0]],
        [[0, 0], [0, 90], [90, 90], [30, 0]],
        [[0, 0], [0, 90], [90, 90], [90, float("nan")]],
    ],
)
def test_bad_quads(quad: list[list[float]]) -> None:
    with pytest.raises(FacelatentError, match="quad"):
        paste(scene(100, 100), scene(64, 64), quad, mask=everywhere(64))


def test_sizes_must_agree() -> None:
    with pytest.raises(FacelatentError, match="differ in size"):
        paste(scene(300, 200), scene(64, 64), QUAD, scene(32, 32))


def test_crop_beside_the_photo_changes_nothing() -> None:
    photo = scene(100, 100)
    far = np.array(QUAD) + 1000
    assert np.array_equal(numbers(paste(photo, scene(64, 64), far, mask=everywhere(64))), numbers(photo))
    assert photo_mask(everywhere(64), far, photo.size).getbbox() is None


# What is left alone


def edits(strength: float = 60, seed: int = 1) -> tuple[Image.Image, Image.Image]:
    """A reconstruction, and an edit of it that changes the mouth."""
    plain = scene(256, 256, 8, seed)
    changed = numbers(plain)
    changed[160:200, 100:156] += strength
    return plain, Image.fromarray(changed.clip(0, 255).astype(np.uint8))


def test_pixels_outside_the_mask_keep_their_bits() -> None:
    photo, (plain, edited) = scene(260, 220), edits()
    for reconstruction in (plain, None):
        mask = paste_mask([edited], reconstruction)
        pasted = paste(photo, edited, QUAD, reconstruction, mask)
        changed = (np.asarray(pasted) != np.asarray(photo)).any(-1)
        area = np.asarray(photo_mask(mask, QUAD, photo.size)) > 0
        assert changed.sum() > 500
        assert not (changed & ~area).any()
        assert not area[:38].any()
        assert not area[:, 192:].any()
        assert area.mean() < 0.3


def test_an_edit_that_changes_nothing_leaves_the_photo() -> None:
    photo, (plain, _) = scene(260, 220), edits()
    assert np.array_equal(numbers(paste(photo, plain, QUAD, plain)), numbers(photo))


def test_the_source_is_not_touched() -> None:
    photo, (plain, edited) = scene(260, 220), edits()
    before = photo.tobytes()
    assert paste(photo, edited, QUAD, plain) is not photo
    assert photo.tobytes() == before


def test_detail_of_the_photo_stays_where_the_edit_moves_nothing() -> None:
    _, (plain, edited) = scene(260, 220), edits(strength=30)
    # The photo: the reconstruction in its place, and grain that no generator draws.
    base = paste(Image.new("RGB", (260, 220), "grey"), plain, QUAD, mask=everywhere(256))
    grain = np.random.default_rng(3).normal(0, 6, (220, 260, 1))
    photo = Image.fromarray((numbers(base) + grain).clip(0, 255).astype(np.uint8))
    kept = numbers(paste(photo, edited, QUAD, plain)) - numbers(photo)
    shown = numbers(paste(photo, edited, QUAD)) - numbers(photo)
    cheek = np.s_[92:108, 96:112]
    assert np.abs(kept[cheek]).max() <= 2
    assert np.abs(shown[cheek]).mean() > 3
    mouth = np.s_[124:136, 114:134]
    assert kept[mouth].mean() == pytest.approx(30, abs=6)


def test_moved_features_leave_no_ghosts() -> None:
    # The photo's mouth lies a little beside the reconstruction's; the edit moves it away.
    plain, moved, own = (Image.new("RGB", (256, 256), (180, 140, 120)) for _ in range(3))
    for picture, box in ((plain, (100, 170, 156, 180)), (own, (100, 174, 156, 184)), (moved, (100, 190, 156, 200))):
        picture.paste((60, 20, 20), box)
    photo = paste(Image.new("RGB", (260, 220), (180, 140, 120)), own, QUAD, None, everywhere(256))
    pasted = numbers(paste(photo, moved, QUAD, plain))[..., 0]
    column = pasted[:, 124]
    expected = numbers(paste(Image.new("RGB", (260, 220), (180, 140, 120)), moved, QUAD, None, everywhere(256)))[
        :, 124, 0
    ]
    assert np.abs(column - expected)[110:150].max() < 45
    added = numbers(paste(photo, moved, QUAD, plain, everywhere(256, 0)))[:, 124, 0]
    assert np.abs(added - expected)[110:150].max() > 80


def test_light_of_the_photo_is_kept_without_a_seam() -> None:
    plain, _ = edits()
    photo = Image.new("RGB", (260, 220), "grey")
    photo.paste(plain.resize((128, 128), Image.Resampling.BICUBIC), (60, 40))
    # Warm light from the left, as no reconstruction has it.
    light = np.linspace(35, 5, 260)[None, :, None] * [1, 0.5, -1]
    warm = Image.fromarray((numbers(photo) * 0.6 + 50 + light).clip(0, 255).astype(np.uint8))
    reconstruction = Image.fromarray((numbers(plain) * 0.6 + 50).astype(np.uint8))
    pasted = paste(warm, reconstruction, np.array(QUAD) - 0.5)
    difference = numbers(pasted) - numbers(warm)
    assert difference.any()
    assert np.abs(difference).max() <= 4


def test_hair_that_changes_is_covered_and_a_far_background_is_not() -> None:
    plain = Image.new("RGB", (256, 256), "grey")
    hair, background = numbers(plain), numbers(plain)
    hair[30:200, 40:216] += 60
    background[6:40, 6:40] += 60
    covered = paste_mask([Image.fromarray(hair.astype(np.uint8))], plain).cover
    assert covered[60, 60] > 0.9
    left = paste_mask([Image.fromarray(background.astype(np.uint8))], plain).cover
    assert left[:40, :40].max() == 0
    assert left[140, 128] == 1
    assert not covered[[0, -1]].any()
    assert not covered[:, [0, -1]].any()


def test_a_whole_photo_is_covered_to_its_border() -> None:
    plain = Image.new("RGB", (256, 256), "grey")
    mask = paste_mask([Image.new("RGB", (256, 256), "white")], plain, whole=True)
    assert mask.cover[100, 0] > 0.2
    assert paste_mask([Image.new("RGB", (256, 256), "white")], plain).cover[100, 0] == 0


def test_one_mask_for_all_frames() -> None:
    plain = Image.new("RGB", (256, 256), "grey")
    left, right = numbers(plain), numbers(plain)
    left[100:120, 20:60] += 90
    right[100:120, 196:236] += 90
    pictures = [Image.fromarray(one.astype(np.uint8)) for one in (left, right)]
    both = paste_mask(pictures, plain).cover
    for one in pictures:
        assert (both >= paste_mask([one], plain).cover - 1e-3).all()


def test_quad_crop_shows_the_quad() -> None:
    points = face_points(200, 150, 50, 0.3)
    photo = scene(400, 300, 6)
    crop = quad_crop(photo, crop_quad(points), 256)
    assert np.abs(numbers(crop) - numbers(align_face(photo, points, 256, 1024))).mean() < 2


# Modes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16", "P", "CMYK", "1"])
def test_modes(mode: str) -> None:
    plain, edited = edits()
    photo = scene(260, 220)
    if mode == "I;16":
        photo = Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257 + 3)
    elif mode.endswith("A"):
        photo = photo.convert(mode)
        photo.putalpha(Image.fromarray(np.random.default_rng(0).integers(0, 256, (220, 260), np.uint8)))
    else:
        photo = photo.convert(mode)
    mask = paste_mask([edited], plain)
    pasted = paste(photo, edited, QUAD, plain, mask)
    assert pasted.mode == {"P": "RGB", "CMYK": "RGB", "1": "L"}.get(mode, mode)
    outside = np.asarray(photo_mask(mask, QUAD, photo.size)) == 0
    base = photo if pasted.mode == mode else to_rgb(photo).convert(pasted.mode)
    assert np.array_equal(np.asarray(pasted)[outside], np.asarray(base)[outside])
    assert (np.asarray(pasted) != np.asarray(base)).any()
    if mode.endswith("A"):
        assert np.array_equal(np.asarray(pasted)[..., -1], np.asarray(photo)[..., -1])
    if mode == "I;16":
        mouth = np.asarray(pasted)[124:136, 114:134].astype(float) - np.asarray(photo)[124:136, 114:134]
        assert mouth.mean() > 20 * 257


# What a photo's file keeps


def exif_block(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(64))
    return exif.tobytes()


@cache
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("out", [".jpg", ".png", ".webp", ".tiff"])
def test_metadata_goes_with_the_photo(tmp_path: Path, suffix: str, out: str) -> None:
    path = tmp_path / f"in{suffix}"
    scene(60, 40).save(
        path,
        exif=exif_block(),
        icc_profile=profile(),
        dpi=(300, 300),
        **({"lossless": True} if suffix == ".webp" else {}),
    )
    photo = open_photo(path)
    assert photo.image.size == (40, 60)  # turned as the camera was
    assert np.array_equal(np.asarray(photo.image.convert("RGB")), np.asarray(open_image(path)))
    save_photo(photo.image, tmp_path / f"out{out}", photo)
    with Image.open(tmp_path / f"out{out}") as saved:
        exif = saved.getexif()
        assert exif.get(0x0112, 1) == 1
        assert exif[0x010F] == "Maker"
        assert exif.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
        assert saved.info["icc_profile"] == profile()
        if "webp" not in suffix + out:
            assert saved.info["dpi"] == pytest.approx((300, 300), abs=1)
        assert saved.size == (40, 60)
        if out != ".jpg":
            assert np.array_equal(np.asarray(saved.convert("RGB")), np.asarray(photo.image.convert("RGB")))
    assert np.array_equal(
        np.asarray(open_image(tmp_path / f"out{out}")), np.asarray(to_rgb(Image.open(tmp_path / f"out{out}")))
    )


def test_makers_notes_keep_their_place_and_the_thumbnail_goes(tmp_path: Path) -> None:
    raw = bytearray(exif_block())
    order = "<" if raw[6:8] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", raw, 6 + 8)
    following = 6 + 8 + 2 + 12 * count
    struct.pack_into(order + "I", raw, following, 8)  # a second directory, as of a thumbnail
    scene(60, 40).save(tmp_path / "in.jpg", exif=bytes(raw))
    kept = open_photo(tmp_path / "in.jpg").exif
    assert kept is not None
    assert len(kept) == len(raw)
    different = [index for index in range(len(raw)) if raw[index] != kept[index]]
    assert len(different) == 2  # the orientation's value, and the link to the thumbnail
    assert struct.unpack_from(order + "I", kept, following)[0] == 0


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX*\0\x08\0\0\0", b""])
def test_damaged_exif_is_left_out(tmp_path: Path, block: bytes) -> None:
    scene(60, 40).save(tmp_path / "in.jpg", exif=block)
    photo = open_photo(tmp_path / "in.jpg")
    assert photo.exif is None
    save_photo(photo.image, tmp_path / "out.jpg", photo)


def test_jpeg_is_written_with_full_colour(tmp_path: Path) -> None:
    save_photo(scene(64, 64), tmp_path / "a.jpg", Photo(scene(64, 64)))
    with Image.open(tmp_path / "a.jpg") as saved:
        assert [layer[1:3] for layer in saved.layer] == [(1, 1)] * 3
        assert max(saved.quantization[0]) < 15


def test_profile_of_another_colour_space_is_left_out(tmp_path: Path) -> None:
    cmyk = b"\0" * 16 + b"CMYK" + b"\0" * 108
    save_photo(scene(8, 8), tmp_path / "a.png", Photo(scene(8, 8), icc=cmyk))
    assert "icc_profile" not in Image.open(tmp_path / "a.png").info


def test_modes_that_a_format_lacks(tmp_path: Path) -> None:
    wide = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
    save_photo(wide, tmp_path / "a.png", Photo(wide))
    assert np.asarray(Image.open(tmp_path / "a.png")).max() == 0x8080
    save_photo(wide, tmp_path / "a.jpg", Photo(wide))
    assert np.asarray(Image.open(tmp_path / "a.jpg").convert("L")).max() == 0x80
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    save_photo(clear, tmp_path / "b.webp", Photo(clear))
    assert Image.open(tmp_path / "b.webp").getpixel((0, 0)) == (10, 20, 30, 0)
    save_photo(clear, tmp_path / "b.jpg", Photo(clear))
    assert Image.open(tmp_path / "b.jpg").getpixel((0, 0)) == (255, 255, 255)


# The command


@pytest.fixture
def photo(tmp_path: Path, tiny_generator: MobileStyleGAN) -> Path:
    """A turned photo, and beside it the latent that inverting it would have left."""
    path = tmp_path / "me.png"
    scene(220, 260).save(path, exif=exif_block(), icc_profile=profile(), dpi=(72, 72))
    with torch.no_grad():
        ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8))
    method: dict[str, Any] = {"method": "optimize", "face": None, "aligned": False}
    Latent(ws, tiny_generator.name, tiny_generator.fingerprint, method, QUAD, sha256_of(path)).save(
        tmp_path / "me.latent.safetensors"
    )
    return path


def test_edit_pastes(tmp_path: Path, photo: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    options = ("--attr", grin, "--alpha", "3", "--paste", *tiny)
    out = tmp_path / "out.png"
    worked("edit", photo, *options, "-o", out, "--mask", tmp_path / "mask.png", "--json", tmp_path / "r.json")
    before, after = np.asarray(open_image(photo)), np.asarray(open_image(out))
    assert after.shape == before.shape == (220, 260, 3)
    mask = Image.open(tmp_path / "mask.png")
    changed = (before != after).any(-1)
    assert changed.mean() > 0.05
    assert not (changed & (np.asarray(mask) == 0)).any()
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["mask_box"] == list(mask.getbbox())
    assert record["photo"] == str(photo)
    assert record["quad"] == QUAD
    with Image.open(out) as saved:
        assert saved.getexif()[0x010F] == "Maker"
        assert saved.info["icc_profile"] == profile()
    # From the latent, with the photo or its folder: the same picture.
    latent = tmp_path / "me.latent.safetensors"
    for place in (photo, tmp_path):
        worked("edit", latent, "--photo", place, *options, "-o", tmp_path / "again.png")
        assert np.array_equal(np.asarray(open_image(tmp_path / "again.png")), after)


def test_default_name_is_of_the_photos_kind(tmp_path: Path, photo: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    worked("edit", photo, "--attr", grin, "--paste", *tiny)
    assert (tmp_path / "me-edited.png").exists()
    jpeg = tmp_path / "you.JPG"
    scene(64, 64).save(jpeg)
    with torch.no_grad():
        latent = Latent.load(tmp_path / "me.latent.safetensors")
    Latent(latent.ws, latent.generator, latent.fingerprint, {"aligned": True}, None, sha256_of(jpeg)).save(
        tmp_path / "you.latent.safetensors"
    )
    worked("edit", jpeg, "--aligned", "--attr", grin, "--paste", *tiny)
    assert Image.open(tmp_path / "you-edited.JPG").size == (64, 64)


def test_edits_of_one_photo_after_another(tmp_path: Path, photo: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    options = ("--attr", grin, "--alpha", "3", "--paste", *tiny)
    worked("edit", photo, *options, "-o", tmp_path / "one.png")
    latent = Latent.load(tmp_path / "me.latent.safetensors")
    second = [[x + 10, y + 12] for x, y in QUAD]
    Latent(
        latent.ws, latent.generator, latent.fingerprint, {"aligned": False}, second, sha256_of(tmp_path / "one.png")
    ).save(tmp_path / "one.latent.safetensors")
    worked("edit", tmp_path / "one.png", *options, "-o", tmp_path / "two.png")
    one, two = (np.asarray(open_image(tmp_path / name)) for name in ("one.png", "two.png"))
    assert (one != two).any()
    assert np.array_equal(one[:50], two[:50])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{latent}", "--paste"), "pass --photo"),
        (("{latent}", "--paste", "--photo", "{other}"), "is not the photo of which"),
        (("{latent}", "--paste", "--photo", "{empty}"), "no picture in"),
        (("{latent}", "--paste", "--photo", "gone.jpg"), "gone.jpg does not exist"),
        (("{photo}", "--paste", "--photo", "{photo}"), "leave it out"),
        (("{photo}", "--paste", "-o", "{photo}"), "is the source itself"),
        (("{latent}", "--paste", "--photo", "{photo}", "-o", "{photo}"), "is the source itself"),
        (("{sample}", "--paste", "--photo", "{photo}"), "was not made from a photo"),
    ],
)
def test_refused(
    tmp_path: Path, photo: Path, grin: Path, tiny: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    latent = Latent.load(tmp_path / "me.latent.safetensors")
    Latent(latent.ws, latent.generator, latent.fingerprint).save(tmp_path / "sample.latent.safetensors")
    (tmp_path / "empty").mkdir()
    scene(30, 30, seed=9).save(tmp_path / "other.png")
    places = {
        "{latent}": tmp_path / "me.latent.safetensors",
        "{sample}": tmp_path / "sample.latent.safetensors",
        "{photo}": photo,
        "{other}": tmp_path / "other.png",
        "{empty}": tmp_path / "empty",
    }
    content = photo.read_bytes()
    result = run("edit", *(places.get(one, one) for one in arguments), "--attr", grin, *tiny)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert photo.read_bytes() == content


@pytest.mark.parametrize("extra", [("--size", "32"), ("--compare",)])
def test_options_that_do_not_go_together(
    photo: Path, grin: Path, tiny: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    result = run("edit", photo, "--attr", grin, "--paste", *extra, *tiny)
    assert result.exit_code == 2
    assert "--paste keeps the photo's size" in result.stderr
    assert run("edit", photo, "--attr", grin, "--mask", "m.png", *tiny).exit_code == 2
    assert run("animate", photo, "--attr", grin, "--photo", photo, *tiny).exit_code == 2
    assert run("invert", photo, "--paste", *tiny).exit_code == 2


def test_animation_in_the_photo_stands_still_outside(
    tmp_path: Path, photo: Path, grin: Path, tiny: tuple[str, ...]
) -> None:
    out = tmp_path / "grin.webp"
    worked("animate", photo, "--attr", grin, "--paste", "--frames", "4", "--size", "130", "-o", out, *tiny)
    with Image.open(out) as animation:
        assert animation.size == (130, 110)
        assert animation.n_frames == 4
        frames = []
        for index in range(3):
            animation.seek(index)
            frames.append(numbers(animation))
    assert np.abs(frames[0] - frames[2])[20:80, 35:90].max() > 20
    assert np.abs(frames[0] - frames[2])[90:].mean() < 3


# With real faces


@pytest.mark.assets
def test_the_astronaut_smiles_in_her_portrait(asset: Callable[[str], Path], mobile: Generator) -> None:
    """No inversion here: a mean face stands for a rough one. Nothing but the face's surroundings may change."""
    from facelatent.inversion import aligned_crop

    photo = open_image(asset("astronaut"))
    crop = aligned_crop(photo, 256)
    ws = mobile.broadcast(mobile.w_avg[None]).contiguous()
    latent = Latent(ws, mobile.name, mobile.fingerprint, quad=crop.quad.tolist())
    smile = AttributeEdit(load_boundary("smile", mobile), 2.0)
    for chosen in ([smile], []):
        pasted = paste_edit(photo, latent, mobile, chosen)
        changed = (np.asarray(pasted.image) != np.asarray(photo)).any(-1)
        area = np.asarray(pasted.mask) > 0
        assert not (changed & ~area).any()
        x, y = crop.face.landmarks[48:68].mean(0).round().astype(int)
        assert changed[y - 4 : y + 4, x - 8 : x + 8].mean() > 0.5
        left, top, right, bottom = pasted.mask.getbbox()
        low, high = crop.quad.min(0), crop.quad.max(0)
        assert low[0] <= left
        assert low[1] <= top
        assert right <= high[0] + 1
        assert bottom <= high[1] + 1


@pytest.mark.assets
def test_hull_of_a_real_face(asset: Callable[[str], Path], mobile: Generator) -> None:
    from facelatent.inversion.paste import face_area

    face = draw(mobile, mobile.broadcast(mobile.w_avg[None]), 512)[0]
    area = face_area(face, 0.8)
    assert 0.2 < area.mean() < 0.4
    assert area[140, 128]
    assert area[80, 128]  # forehead
    assert not area[20, 128]
    assert not area[:, :30].any()

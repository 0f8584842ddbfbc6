"""The whole way from a photo to a GIF, on the command line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import SHORT, names, run, worked
from PIL import Image

from facelatent.boundaries import Boundary
from facelatent.editing import draw
from facelatent.files import sha256_of
from facelatent.inversion import OptimizeSettings, Recipe, TuneSettings
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN

pytest_plugins = ("command_parts",)


@pytest.fixture
def grin(grin: Path) -> Path:
    """The boundary, for some layers only."""
    replace(Boundary.load(grin), resolutions=(4, 16)).save(grin)
    return grin


def as_saved(image: Image.Image, kind: str, path: Path) -> Path:
    """A photo as cameras, scanners and web sites leave it."""
    if kind == "16 bit":
        path = path.with_suffix(".png")
        Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(path)
    elif kind == "animated":
        path = path.with_suffix(".gif")
        image.save(path, save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    elif kind == "CMYK":
        path = path.with_suffix(".jpg")
        image.convert("CMYK").save(path, quality=95)
    else:
        path = path.with_suffix(".png")
        mode = {"greyscale": "L", "palette": "P", "alpha": "RGBA", "grey alpha": "LA", "bits": "1"}[kind]
        image.convert(mode).save(path)
    return path


@pytest.mark.assets
@pytest.mark.parametrize("kind", ["16 bit", "animated", "greyscale", "palette", "CMYK", "alpha", "grey alpha", "bits"])
def test_unusual_photos(folder: Path, photo: Path, tiny: tuple[str, ...], kind: str) -> None:
    source = as_saved(Image.open(photo), kind, folder / "odd")
    output = worked("invert", source, *SHORT, *tiny)
    assert output.startswith(f"wrote {folder / 'odd.latent.safetensors'} (psnr ")
    read = Latent.load(folder / "odd.latent.safetensors")
    assert bool(read.ws.isfinite().all())
    assert read.photo_sha256 == sha256_of(source)
    # A grey photo is not what the generator draws, but it is the same face: nearer than noise would be.
    assert read.metrics["psnr"] > 5


@pytest.mark.assets
def test_invert(folder: Path, photo: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    output = worked("invert", photo, "--preview", "both.png", "--json", "record.json", "--seed", "3", *SHORT, *tiny)
    assert [line.split()[0] for line in output.splitlines()] == ["wrote"] * 3
    assert names(folder) == ["both.png", "me.latent.safetensors", "me.png", "record.json"]
    read = Latent.load(folder / "me.latent.safetensors")
    read.check(tiny_generator)
    record = json.loads((folder / "record.json").read_text())
    assert record["metrics"] == read.metrics
    assert record["method"] == read.method
    assert read.method["settings"]["seed"] == 3
    with Image.open(folder / "both.png") as both:
        assert both.width == 2 * 512 + 4
        # The left half is the photo.
        left = np.asarray(both.crop((0, 0, 512, 512)).resize((64, 64), Image.Resampling.BOX), np.float64)
        assert np.abs(left - np.asarray(Image.open(photo))).mean() < 8
    # Once more, over it: the same bits.
    worked("invert", photo, "--overwrite", "--seed", "3", *SHORT, *tiny)
    assert torch.equal(Latent.load(folder / "me.latent.safetensors").ws, read.ws)


@pytest.mark.assets
def test_edits_of_a_photo_invert_it_once(
    folder: Path, photo: Path, grin: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(Recipe, optimize=OptimizeSettings(1, 1), tune=TuneSettings(steps=1))
    monkeypatch.setattr("facelatent.photo_latents.Recipe", few)
    runs: list[int] = []
    real = sys.modules["facelatent.inversion.methods"].optimize

    def counted(*arguments: object, **options: object) -> torch.Tensor:
        runs.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr("facelatent.inversion.methods.optimize", counted)
    first = worked("edit", photo, "--aligned", "--attr", grin, "-o", "a.png", *tiny)
    assert first.splitlines()[0].startswith(f"wrote {folder / 'me.latent.safetensors'}")
    latent = (folder / "me.latent.safetensors").read_bytes()
    again = worked("edit", photo, "--aligned", "--attr", grin, "-o", "b.png", *tiny)
    assert again == "wrote b.png\n"
    worked("animate", photo, "--aligned", "--attr", grin, "--frames", "2", "--size", "16", *tiny)
    assert runs == [1]
    assert (folder / "a.png").read_bytes() == (folder / "b.png").read_bytes()
    assert (folder / "me.latent.safetensors").read_bytes() == latent
    # Another photo of that name is inverted anew.
    Image.open(photo).rotate(90).save(photo)
    worked("edit", photo, "--aligned", "--attr", grin, "-o", "c.png", *tiny)
    assert runs == [1, 1]
    assert (folder / "c.png").read_bytes() != (folder / "a.png").read_bytes()


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def test_edit(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    assert worked("edit", latent, "--attr", grin, "--alpha", "0", "-o", "none.png", *tiny) == "wrote none.png\n"
    ws = Latent.load(latent).ws
    with torch.no_grad():
        unedited = draw(tiny_generator, ws)[0]
    assert np.abs(picture(folder / "none.png") - np.asarray(unedited)).max() <= 1

    worked("edit", latent, "--attr", grin, "--alpha", "3", "--json", "record.json", *tiny)
    assert np.abs(picture(folder / "me-edited.png") - picture(folder / "none.png")).mean() > 1
    record = json.loads((folder / "record.json").read_text())
    assert record["picture"].endswith("me-edited.png")
    assert record["edits"] == [{"attribute": "grin", "alpha": 3.0, "layers": [4, 16]}]
    assert record["metrics"] == {"psnr": 30.0}


def test_edits_add_up(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    once = ("edit", latent, *tiny, "--attr", grin)
    worked(*once, "--alpha", "1.5", "-o", "one.png")
    worked(*once, "--attr", grin, "--alpha", "2.5", "--alpha", "-1", "-o", "two.png")
    worked(*once, "--attr", grin, "--alpha", "0.75", "-o", "shared.png")
    worked(*once, "--alpha", "1.5", "--layers", "4-4", "-o", "coarse.png")
    for name in ("two.png", "shared.png"):
        assert np.abs(picture(folder / name) - picture(folder / "one.png")).max() <= 1
    assert np.abs(picture(folder / "coarse.png") - picture(folder / "one.png")).max() > 1


def test_layers_beyond_the_generator(latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    result = run("edit", latent, "--attr", grin, "--layers", "500-600", *tiny)
    assert result.exit_code in (1, 2)


def test_edit_sizes_and_formats(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    worked("edit", latent, "--attr", grin, "--size", "24", "-o", "small.webp", *tiny)
    assert Image.open(folder / "small.webp").size == (24, 24)
    worked("edit", latent, "--attr", grin, "--size", "32", "--compare", "-o", "new/both.jpg", *tiny)
    with Image.open(folder / "new" / "both.jpg") as both:
        assert both.format == "JPEG"
        assert both.width == 2 * 32 + 4
        assert both.height > 32


@pytest.mark.parametrize(("bounce", "drawn"), [((), 6), (("--no-bounce",), 6)])
def test_animate(
    folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...], bounce: tuple[str, ...], drawn: int
) -> None:
    options = ("--from", "-4", "--to", "4", "--frames", "6", "--size", "32", "--fps", "10", *bounce)
    output = worked("animate", latent, "--attr", grin, *options, "-o", "grin.gif", "--json", "record.json", *tiny)
    assert output.startswith(f"wrote grin.gif ({drawn} frames, ")
    with Image.open(folder / "grin.gif") as gif:
        assert gif.n_frames == drawn
        assert gif.size == (32, 32)
        assert gif.info["loop"] == 0
        assert gif.info["duration"] == 100
    record = json.loads((folder / "record.json").read_text())
    assert record["frames"] == drawn
    assert record["from"] == [{"attribute": "grin", "alpha": -4.0, "layers": [4, 16]}]
    assert record["to"][0]["alpha"] == 4.0
    assert names(folder) == ["grin.gif", "me.latent.safetensors", "record.json"]


def test_animation_has_a_name_by_default(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    worked("animate", latent, "--attr", grin, "--frames", "2", "--size", "16", *tiny)
    assert names(folder) == ["me-grin.gif", "me.latent.safetensors"]


def test_sheet(folder: Path, tiny: tuple[str, ...]) -> None:
    assert worked("sample", "--seed", "1-9,12", "--size", "32", "--json", "r.json", *tiny).startswith(
        "wrote samples.png (10 faces)"
    )
    assert Image.open(folder / "samples.png").width == 8 * 32 + 7 * 4
    record = json.loads((folder / "r.json").read_text())
    assert record["seeds"] == [*range(1, 10), 12]
    first = (folder / "samples.png").read_bytes()
    worked("sample", "--seed", "1-9,12", "--size", "32", *tiny)
    assert (folder / "samples.png").read_bytes() == first
    worked("sample", "--seed", "2-10,12", "--size", "32", *tiny)
    assert (folder / "samples.png").read_bytes() != first


def test_separate_samples(folder: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN, grin: Path) -> None:
    for out in ("a", "b"):
        worked("sample", "--seed", "3,7", "--psi", "0.9", "--separate", "-o", out, *tiny)
    assert names(folder / "a") == [
        "seed0003.latent.safetensors",
        "seed0003.png",
        "seed0007.latent.safetensors",
        "seed0007.png",
    ]
    for name in ("seed0003.png", "seed0007.png"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    read = Latent.load(folder / "a" / "seed0003.latent.safetensors")
    assert torch.equal(read.ws, Latent.load(folder / "b" / "seed0003.latent.safetensors").ws)
    assert torch.allclose(read.ws[:, 5], tiny_generator.sample_w(3, 0.9), atol=1e-6)
    assert read.method == {"method": "sample", "seed": 3, "psi": 0.9}
    # A sample can be edited as a photo's latent can.
    worked("edit", "a/seed0003.latent.safetensors", "--attr", grin, "--alpha", "0", *tiny)
    assert (folder / "a" / "seed0003-edited.png").read_bytes() == (folder / "a" / "seed0003.png").read_bytes()


def test_psi_zero_is_one_face(folder: Path, tiny: tuple[str, ...]) -> None:
    worked("sample", "--seed", "1,2", "--psi", "0", "--separate", "-o", "mean", *tiny)
    assert (folder / "mean/seed0001.png").read_bytes() == (folder / "mean/seed0002.png").read_bytes()

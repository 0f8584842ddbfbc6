"""Many pictures in one go: failures are named and stop nothing, nothing is lost, and a second run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import run, worked
from conftest import bomb
from PIL import Image

from facelatent.commands.batch import Job, gather, plan
from facelatent.commands.batch import run as run_jobs
from facelatent.editing import draw
from facelatent.errors import AssetUnavailable, NoFaceFound
from facelatent.files import sha256_of
from facelatent.images import open_image, picture_suffixes
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN

SUFFIXES = (".jpg", ".png")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return tmp_path


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Inversions that only start; what they are asked for is counted. Metrics need weights and are left out."""
    runs: list[int] = []

    def instead(square: Image.Image, generator: MobileStyleGAN, *rest: object) -> torch.Tensor:
        runs.append(1)
        level = float(np.asarray(square).mean()) / 255
        return (generator.w_avg * (1 + level)).expand(1, generator.num_ws, -1).clone()

    monkeypatch.setattr("facelatent.inversion.methods.optimize", instead)
    monkeypatch.setattr("facelatent.inversion.methods.tune", lambda *arguments: None)
    monkeypatch.setattr("facelatent.inversion.methods.reconstruction_metrics", lambda *pictures: {"psnr": 20.0})
    return runs


def picture(path: Path, seed: int, size: tuple[int, int] = (64, 64)) -> Path:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


# Which files


def test_gather(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "c.heic"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "d.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    taken, others = gather([tmp_path, tmp_path / "b.jpg", tmp_path / "gone.jpg", tmp_path / "notes.txt"], SUFFIXES)
    assert [path.name for path in taken] == ["a.PNG", "b.jpg", "folder.jpg", "gone.jpg", "notes.txt"]
    assert [path.name for path in others] == ["c.heic", "notes.txt"]


def test_endings() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"} <= set(picture_suffixes())
    assert not {".pdf", ".safetensors", ".mp4"} & set(picture_suffixes())


def test_no_two_outputs_of_one_name(tmp_path: Path) -> None:
    sources = [tmp_path / name for name in ("a.jpg", "a.png", "A.jpg", "b.jpg", "x/b.jpg")]
    jobs, failures = plan(sources, lambda source: tmp_path / "out" / f"{source.stem}.png")
    assert [job.source for job in jobs] == [sources[0], sources[3]]
    assert [failure.source for failure in failures] == [sources[1], sources[2], sources[4]]
    assert str(sources[1]) in failures[0].reason
    assert f"is that of {sources[0]}" in failures[0].reason


def test_outputs_that_are_inputs(tmp_path: Path) -> None:
    sources = [tmp_path / "a.png", tmp_path / "b.png"]
    jobs, failures = plan(sources, lambda source: source.with_name("b.png") if source.stem == "a" else source / "x")
    assert [job.source for job in jobs] == [sources[1]]
    assert "is an input" in failures[0].reason


# What becomes of them


def jobs_of(*stems: str) -> list[Job]:
    return [Job(Path(stem), Path(f"{stem}.out")) for stem in stems]


def test_failures_stop_nothing() -> None:
    def work(job: Job) -> None:
        if job.source.name == "b":
            raise NoFaceFound("no face\nfound")
        if job.source.name == "c":
            raise ZeroDivisionError("of all things")

    outcome = run_jobs(jobs_of("a", "b", "c", "d"), work)
    assert [job.source.name for job in outcome.done] == ["a", "d"]
    assert [one.reason for one in outcome.failed] == ["b: no face found", "c: ZeroDivisionError: of all things"]
    assert not outcome.interrupted


def test_missing_weights_stop_everything() -> None:
    def work(job: Job) -> None:
        raise AssetUnavailable("no network")

    with pytest.raises(AssetUnavailable):
        run_jobs(jobs_of("a", "b"), work)


def test_an_interruption_keeps_what_is_done() -> None:
    def work(job: Job) -> None:
        if job.source.name == "b":
            raise KeyboardInterrupt

    outcome = run_jobs(jobs_of("a", "b", "c"), work)
    assert outcome.interrupted
    assert [job.source.name for job in outcome.done] == ["a"]
    assert outcome.failed == []


# The bar: 100 pictures, 10 of them broken


def cut(path: Path) -> None:
    picture(path, 0, (128, 128))
    path.write_bytes(path.read_bytes()[:3000])


def unreadable(path: Path) -> None:
    picture(path, 0)
    path.chmod(0)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.jpg": (cut, "is damaged or cut off"),
    "short.png": (cut, "is damaged or cut off"),
    "text.jpg": (lambda path: path.write_text("Dear Sir,\n"), "is not an image"),
    "vector.png": (lambda path: path.write_text("<svg/>"), "is not an image"),
    "empty.jpg": (lambda path: path.touch(), "is empty (0 bytes)"),
    "folder.jpg": (lambda path: path.mkdir(), "is a folder, not an image"),
    "bomb.png": (bomb, "megapixels are opened"),
    "link.jpg": (lambda path: path.symlink_to("nowhere.jpg"), "does not exist"),
    "twin.jpg": (lambda path: picture(path, 1) and picture(path.with_suffix(".bmp"), 2), "is that of"),
    "noise.gif": (lambda path: path.write_bytes(b"GIF89a" + os.urandom(50)), "noise.gif"),
}


def fill(photos: Path, good: int) -> list[str]:
    """A folder of pictures, of which :data:`BROKEN` fail; returns the names of those."""
    for number in range(good):
        picture(photos / f"p{number:03d}.{('png', 'jpg', 'webp')[number % 3]}", number)
    for name, (make, _) in BROKEN.items():
        make(photos / name)
    return sorted(BROKEN)


def test_a_hundred_pictures(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    photos = folder / "photos"
    fill(photos, 89)  # and the twin's other half
    (photos / "notes.txt").write_text("not a picture")
    assert len(names(photos)) == 101
    arguments = ("invert", "photos", "-o", "latents", "--aligned", "--json", "r.json", *tiny)
    result = run(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert len(names(folder / "latents")) == 90
    assert len(fast) == 90
    assert "90 of 100 done, 10 failed" in result.stdout
    lines = result.stderr.splitlines()
    assert lines[0].startswith("left alone in photos: 1 other file(s) (.txt)")
    assert lines[1] == "facelatent: 10 of 100 failed:"
    listed = {line.split()[0].rstrip(":") for line in lines[2:]}
    assert listed == {f"photos/{name}" for name in BROKEN}
    for name, (_, reason) in BROKEN.items():
        (line,) = (line for line in lines[2:] if f"photos/{name}" in line.split(" is that of ")[0])
        assert reason in line
    record = json.loads((folder / "r.json").read_text())
    assert len(record["done"]) == 90
    assert {Path(one["source"]).name for one in record["failed"]} == set(BROKEN)
    # Run again, only what failed is tried; with one mended, one more is there.
    (photos / "empty.jpg").unlink()
    picture(photos / "empty.jpg", 500)
    contents = {path: path.stat().st_mtime_ns for path in (folder / "latents").iterdir()}
    result = run(*arguments)
    assert result.exit_code == 1
    assert "91 of 100 done, 9 failed" in result.stdout
    assert len(fast) == 91
    assert {path: path.stat().st_mtime_ns for path in contents} == contents


@pytest.mark.assets
def test_faces_that_are_missing_or_too_small(
    folder: Path, asset: Callable[[str], Path], tiny: tuple[str, ...], fast: list[int]
) -> None:
    portrait = open_image(asset("astronaut"))
    portrait.save(folder / "photos" / "good.png")
    wide = Image.new("RGB", (1600, 400), "white")
    wide.paste(portrait.resize((180, 180)), (30, 30))
    wide.save(folder / "photos" / "far.png")
    Image.new("RGB", (300, 200), "tan").save(folder / "photos" / "wall.jpg")
    result = run("invert", "photos", *tiny)
    assert result.exit_code == 1
    assert "1 of 3 done, 2 failed" in result.stdout
    assert "no face found in photos/wall.jpg" in result.stderr
    assert "photos/far.png" in result.stderr
    latent = Latent.load(folder / "photos" / "good.latent.safetensors")
    assert latent.photo_sha256 == sha256_of(folder / "photos" / "good.png")
    assert latent.quad is not None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable to root")
def test_unreadable_file(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    picture(folder / "photos" / "a.png", 1)
    unreadable(folder / "photos" / "b.png")
    result = run("invert", "photos", "--aligned", *tiny)
    assert result.exit_code == 1
    assert "photos/b.png cannot be read: Permission denied" in result.stderr


def test_unreadable_file_by_another_name(
    folder: Path, tiny: tuple[str, ...], fast: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(folder / "photos" / "a.png", 1)
    picture(folder / "photos" / "b.png", 2)
    real = Image.open

    def guarded(file: Path, *rest: object, **options: object) -> Image.Image:
        if Path(file).name == "b.png":
            raise PermissionError(13, "Permission denied")
        return real(file, *rest, **options)

    monkeypatch.setattr(Image, "open", guarded)
    result = run("invert", "photos", "--aligned", *tiny)
    assert result.stderr.splitlines()[-1] == "  photos/b.png cannot be read: Permission denied"
    assert names(folder / "photos") == ["a.latent.safetensors", "a.png", "b.png"]


# Invert


def test_several_files_and_folders(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    for name in ("photos/a.png", "b.png", "c.png"):
        picture(folder / name, hash(name) % 1000)
    output = worked("invert", "photos", "b.png", "photos/a.png", "--aligned", *tiny)
    assert output.splitlines()[-1] == "2 of 2 done"
    assert (folder / "photos/a.latent.safetensors").exists()
    assert (folder / "b.latent.safetensors").exists()


def test_one_file_into_a_folder(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    picture(folder / "a.png", 1)
    worked("invert", "a.png", "-o", "latents/", "--aligned", *tiny)
    assert names(folder / "latents") == ["a.latent.safetensors"]


def test_a_latent_of_something_else_is_kept(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    for stem in ("a", "b"):
        picture(folder / "photos" / f"{stem}.png", ord(stem))
    worked("invert", "photos", "--aligned", *tiny)
    picture(folder / "photos" / "a.png", 77)
    before = (folder / "photos/a.latent.safetensors").read_bytes()
    result = run("invert", "photos", "--aligned", *tiny)
    assert result.exit_code == 1
    assert "photos/a.latent.safetensors exists, of another photo" in result.stderr
    assert "kept photos/b.latent.safetensors" in result.stdout
    assert (folder / "photos/a.latent.safetensors").read_bytes() == before
    worked("invert", "photos", "--aligned", "--overwrite", *tiny)
    assert (folder / "photos/a.latent.safetensors").read_bytes() != before
    assert len(fast) == 4


def test_nothing_to_do(folder: Path, tiny: tuple[str, ...]) -> None:
    (folder / "photos" / "sub").mkdir()
    picture(folder / "photos" / "sub" / "a.png", 1)
    result = run("invert", "photos", *tiny)
    assert result.exit_code == 1
    assert result.stderr.startswith("facelatent: photos has no pictures (")
    assert "folders in it are not searched" in result.stderr
    assert run("invert", *tiny).exit_code == 2
    picture(folder / "photos" / "b.png", 1)
    assert run("invert", "photos", "--preview", "p.png", *tiny).exit_code == 2


def test_folder_that_cannot_be_written(folder: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    picture(folder / "photos" / "a.png", 1)
    (folder / "notes.txt").touch()
    result = run("invert", "photos", "-o", "notes.txt", "--aligned", *tiny)
    assert result.exit_code == 1
    assert "cannot write" in result.stderr
    assert fast == []


# Edit


def test_edit_a_folder(folder: Path, grin: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    for stem in "abc":
        picture(folder / "photos" / f"{stem}.png", ord(stem))
    (folder / "photos" / "d.png").touch()
    options = ("--attr", grin, "--alpha", "2", "--aligned", *tiny)
    result = run("edit", "photos", *options, "-o", "out", "--json", "r.json")
    assert result.exit_code == 1
    assert names(folder / "out") == ["a.png", "b.png", "c.png"]
    assert result.stderr.splitlines() == ["facelatent: 1 of 4 failed:", "  photos/d.png is empty (0 bytes)"]
    record = json.loads((folder / "r.json").read_text())
    assert [one["picture"] for one in record["done"]] == [f"out/{stem}.png" for stem in "abc"]
    assert record["done"][0]["edits"][0]["alpha"] == 2.0
    # The codes were kept beside the photos: the next edit inverts nothing.
    assert len(fast) == 3
    run("edit", "photos", *options, "--paste", "-o", "pasted")
    assert len(fast) == 3
    assert names(folder / "pasted") == ["a.png", "b.png", "c.png"]
    assert Image.open(folder / "pasted" / "a.png").size == (64, 64)


def test_edit_a_folder_of_latents(folder: Path, grin: Path, tiny: tuple[str, ...], fast: list[int]) -> None:
    for stem in "ab":
        picture(folder / "photos" / f"{stem}.png", ord(stem))
    worked("invert", "photos", "-o", "latents", "--aligned", *tiny)
    options = ("--attr", grin, *tiny)
    worked("edit", "latents", *options, "-o", "out")
    assert names(folder / "out") == ["a.png", "b.png"]
    (folder / "photos" / "b.png").unlink()
    result = run("edit", "latents", *options, "--paste", "--photo", "photos", "-o", "pasted")
    assert result.exit_code == 1
    assert names(folder / "pasted") == ["a.png"]
    assert "no picture in photos is the photo of which latents/b.latent.safetensors was made" in result.stderr


def test_edit_needs_a_folder_for_many(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    picture(folder / "photos" / "a.png", 1)
    assert run("edit", "photos", "--attr", grin, *tiny).exit_code == 2
    result = run("edit", "photos", "--attr", grin, "-o", "photos", "--aligned", *tiny)
    assert result.exit_code == 1
    assert "is an input; choose another output folder" in result.stderr


def test_single_photos_as_before(
    folder: Path, grin: Path, tiny: tuple[str, ...], fast: list[int], tiny_generator: MobileStyleGAN
) -> None:
    with torch.no_grad():
        draw(tiny_generator, tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)))[0].save(folder / "me.png")
    assert worked("invert", "me.png", "--aligned", *tiny) == "wrote me.latent.safetensors (psnr 20.000)\n"
    assert worked("edit", "me.png", "--aligned", "--attr", grin, *tiny) == "wrote me-edited.png\n"


# Ctrl-C


@pytest.mark.slow
def test_interrupted(folder: Path, tiny_generator_file: Path) -> None:
    for number in range(30):
        picture(folder / "photos" / f"{number:02d}.png", number)
    code = (
        "import signal, time\n"
        # A shell that runs the tests in the background has interrupts ignored, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import facelatent.inversion.methods as methods\n"
        "def slow(square, generator, *rest):\n"
        "    time.sleep(0.3)\n"
        "    return generator.w_avg.expand(1, generator.num_ws, -1).clone()\n"
        "methods.optimize = slow\n"
        "methods.tune = lambda *arguments: None\n"
        "methods.reconstruction_metrics = lambda *pictures: {}\n"
        "from facelatent.cli import main\n"
        "main(prog_name='facelatent')\n"
    )
    arguments = [
        "invert",
        "photos",
        "-o",
        "latents",
        "--aligned",
        "--device",
        "cpu",
        "--generator",
        tiny_generator_file,
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    latents = folder / "latents"
    until = time.monotonic() + 120
    # Hidden files are being written still.
    while time.monotonic() < until and len(list(latents.glob("[!.]*"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "facelatent: interrupted; the same command goes on from here" in stderr
    kept = names(latents)
    assert 2 <= len(kept) < 30
    assert f"{len(kept)} of 30 done" in stdout
    for name in kept:
        assert Latent.load(latents / name).ws.isfinite().all()


def test_models_are_loaded_once(
    folder: Path, tiny: tuple[str, ...], fast: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import facelatent.stylegan_ops as ops

    loads: list[int] = []
    real = ops.load_generator

    def counted(*arguments: object) -> object:
        loads.append(1)
        return real(*arguments)

    monkeypatch.setattr(ops, "load_generator", counted)
    for stem in "abc":
        picture(folder / "photos" / f"{stem}.png", ord(stem))
    worked("invert", "photos", "--aligned", *tiny)
    assert loads == [1]
    assert len(fast) == 3

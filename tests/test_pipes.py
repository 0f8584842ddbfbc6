"""Standard input and output, patterns, --quiet, --format, completion, and the note in what is written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_parts import run
from PIL import Image

from facelatent import images
from facelatent.boundaries import shipped_boundaries
from facelatent.cli import main
from facelatent.commands import pipes
from facelatent.commands.common import complete_attribute
from facelatent.images import save_image
from facelatent.latent import Latent
from facelatent.note import EDITED, GENERATED
from facelatent.photos import open_photo, save_photo
from facelatent.render import save_animation
from facelatent.stylegan_ops import MobileStyleGAN

QUICK = ("--aligned", "--method", "optimize", "--steps", "2")


@pytest.fixture
def home(tmp_path: Path, tiny_generator: MobileStyleGAN, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a latent and two pictures."""
    folder = tmp_path / "home"
    (folder / "photos" / "more").mkdir(parents=True)
    monkeypatch.chdir(folder)
    ws = tiny_generator.broadcast(tiny_generator.sample_w(5, 0.8)).detach()
    Latent(ws, tiny_generator.name, tiny_generator.fingerprint).save("me.latent.safetensors")
    for name in ("photos/a.png", "photos/more/b.png"):
        Image.new("RGB", (64, 64), "grey").save(name)
    return folder


@pytest.fixture
def no_inversion(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """A photo's latent is the one of ``home``; LPIPS, which inversion compares by, needs weights."""

    def found(photo, generator, *rest):
        images.open_image(photo)
        return Latent.load(home / "me.latent.safetensors")

    monkeypatch.setattr("facelatent.photo_latents.invert_photo", found)


def png(**options: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_latent_in_picture_out(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    edit = ("edit", "--attr", grin, "--alpha", "2", *tiny)
    assert run(*edit, "me.latent.safetensors", "-o", "file.png").exit_code == 0
    piped = run(*edit, "-", data=Path("me.latent.safetensors").read_bytes())
    assert (piped.exit_code, piped.stderr) == (0, "")
    assert piped.stdout_bytes == Path("file.png").read_bytes()
    named = run(*edit, "me.latent.safetensors", "-o", "-", "--quiet")
    assert named.stdout_bytes == Path("file.png").read_bytes()
    jpg = run(*edit, "me.latent.safetensors", "-o", "-", "--format", "jpg")
    assert Image.open(io.BytesIO(jpg.stdout_bytes)).format == "JPEG"
    assert sorted(path.name for path in home.iterdir()) == ["file.png", "me.latent.safetensors", "photos"]


@pytest.mark.usefixtures("no_inversion")
def test_photo_in_latent_out(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    found = run("invert", "-", *QUICK, *tiny, data=png())
    assert found.exit_code == 0, found.stderr
    Path("piped.latent.safetensors").write_bytes(found.stdout_bytes)
    assert Latent.load("piped.latent.safetensors").ws.shape == (1, 8, 512)
    edited = run("edit", "-", "--attr", grin, *QUICK, *tiny, data=png())
    assert Image.open(io.BytesIO(edited.stdout_bytes)).size == (64, 64)
    written = run("edit", "-", "--attr", grin, "-o", "out.png", "--json", "-", *QUICK, *tiny, data=png())
    assert json.loads(written.stdout)["picture"] == "out.png"


def test_json_to_stdout(home: Path, tiny: tuple[str, ...]) -> None:
    result = run("sample", "--seed", "3", "-o", "a.png", "--size", "32", "--json", "-", *tiny)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["seeds"] == [3]
    both = run("sample", "--seed", "3", "-o", "-", "--json", "-", *tiny)
    assert (both.exit_code, both.stdout) == (2, "")
    assert "only one thing can go to standard output" in both.stderr
    Path("r.json").unlink(missing_ok=True)
    kept = run("sample", "--seed", "3", "-o", "-", "--json", "r.json", *tiny)
    assert Image.open(io.BytesIO(kept.stdout_bytes)).format == "PNG"
    assert json.loads(Path("r.json").read_text())["out"] == "-"


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "standard input is empty"), (png()[:60], "- is damaged"), (b"hello", "- is not an image")],
    ids=["empty", "cut", "text"],
)
def test_bad_input(data: bytes, message: str, home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    result = run("edit", "-", "--attr", grin, *tiny, data=data)
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
    assert message in result.stderr
    assert "/tmp" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_folders_cannot_be_piped(home: Path, tiny: tuple[str, ...]) -> None:
    samples = run("sample", "--seed", "3", "--separate", "-o", "-", *tiny)
    assert (samples.exit_code, samples.stdout_bytes) == (2, b"")
    many = run("invert", "-", "photos/a.png", *tiny, data=png())
    assert (many.exit_code, many.stdout_bytes) == (2, b"")
    assert "-o names the folder" in many.stderr


def test_clips_through_pipes(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    animate = ("animate", "--attr", grin, "--frames", "4", "--size", "32", *tiny)
    assert run(*animate, "me.latent.safetensors", "-o", "file.gif").exit_code == 0
    latent = Path("me.latent.safetensors").read_bytes()
    for arguments in (("me.latent.safetensors", "-o", "-"), ("-",)):
        piped = run(*animate, *arguments, data=latent)
        assert (piped.exit_code, piped.stderr) == (0, "")
        assert piped.stdout_bytes == Path("file.gif").read_bytes()
    webp = Image.open(io.BytesIO(run(*animate, "-", "--format", "webp", data=latent).stdout_bytes))
    assert (webp.format, webp.n_frames) == ("WEBP", 4)
    assert run(*animate, "-", "-o", "named.webp", data=latent).exit_code == 0
    assert Image.open("named.webp").format == "WEBP"
    assert run(*animate, "me.latent.safetensors", "--format", "webp").stdout.startswith("wrote me-grin.webp ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "-", "--format", "mp4"), "an MP4 cannot go to standard output"),
        (("-o", "-/"), "a folder of frames cannot go to standard output"),
        (("-o", "-", "--json", "-"), "only one thing can go to standard output"),
    ],
    ids=["mp4", "folder", "twice"],
)
def test_clips_that_cannot_be_piped(
    arguments: tuple[str, ...], message: str, home: Path, tiny: tuple[str, ...], grin: Path
) -> None:
    before = sorted(home.iterdir())
    result = run("animate", "me.latent.safetensors", "--attr", grin, *arguments, *tiny)
    assert (result.exit_code, result.stdout_bytes) == (2, b"")
    assert message in result.stderr
    assert sorted(home.iterdir()) == before


def test_stdin_only_once(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    result = run("edit", "-", "-", "--attr", grin, *tiny, data=png())
    assert result.exit_code == 2
    assert "read only once" in result.stderr


@pytest.mark.usefixtures("no_inversion")
def test_quoted_patterns(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    result = run("edit", "photos/**/*.png", "--attr", grin, "-o", "out", "--format", "webp", *QUICK, *tiny)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.webp", "b.webp"]
    nothing = run("invert", "photos/*.jpg", *QUICK, *tiny)
    assert (nothing.exit_code, nothing.stderr) == (1, "facelatent: no file matches photos/*.jpg\n")
    Path("[odd].png").write_bytes(png())
    assert run("invert", "[odd].png", *QUICK, *tiny).exit_code == 0


def test_quiet(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    edit = ("edit", "me.latent.safetensors", "--attr", grin, *tiny)
    assert run(*edit).stdout == "wrote me-edited.png\n"
    quiet = run(*edit, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    missing = run("edit", "none.png", "--attr", grin, "--quiet", *tiny)
    assert (missing.exit_code, missing.stderr) == (1, "facelatent: none.png does not exist\n")


def test_constants_that_are_written_twice() -> None:
    assert pipes.MAX_BYTES == images.MAX_BYTES
    assert set(pipes.FORMATS.values()) <= set(images.picture_suffixes())


def test_completion() -> None:
    from click import Context

    context = Context(main)
    names = [item.value for item in complete_attribute(context, main.params[0], "")]
    assert names == sorted(shipped_boundaries())
    assert [item.value for item in complete_attribute(context, main.params[0], "age,smi")] == ["age,smile"]
    assert complete_attribute(context, main.params[0], "./x")[0].type == "file"
    assert "_FACELATENT_COMPLETE=zsh_complete" in run("completion", "zsh").stdout
    assert run("completion", "tcsh").exit_code == 2


def test_interrupted(monkeypatch: pytest.MonkeyPatch, home: Path, tiny: tuple[str, ...]) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("facelatent.stylegan_ops.load_generator", stop)
    result = run("sample", "--seed", "1", "-o", "x.png", *tiny)
    assert (result.exit_code, result.stderr) == (130, "facelatent: interrupted\n")


def test_a_real_pipe(home: Path) -> None:
    """A picture that is not one, through a process's own streams."""
    command = [sys.executable, "-m", "facelatent", "render", "-"]
    done = subprocess.run(command, input=b"nothing", capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"facelatent: - is not an image")


# The note


def described(path: Path) -> str:
    """The XMP packet of a picture."""
    with Image.open(path) as image:
        image.load()
        packet = image.info.get("xmp", b"")
        return packet.decode() if isinstance(packet, bytes) else packet


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_note(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save_image(Image.new("RGB", (16, 16)), path)
    assert f"digitalsourcetype/{EDITED}<" in described(path)
    with Image.open(path) as image:
        assert "facelatent" in (image.info.get("Software"), image.getexif().get(0x0131))
    save_image(Image.new("RGB", (16, 16)), path, None)
    assert b"facelatent" not in path.read_bytes()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_note_beside_a_photos_own_data(name: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0131], exif[0x010F] = "Camera 1.0", "Maker"
    original = tmp_path / f"original{Path(name).suffix}"
    Image.new("RGB", (16, 16)).save(original, exif=exif)
    photo = open_photo(original)
    save_photo(photo.image, tmp_path / name, photo)
    save_photo(photo.image, tmp_path / f"plain-{name}", photo, None)
    with Image.open(tmp_path / name) as noted, Image.open(tmp_path / f"plain-{name}") as plain:
        assert (noted.getexif()[0x0131], noted.getexif()[0x010F]) == ("Camera 1.0", "Maker")
        assert noted.info.get("exif") == plain.info.get("exif")
        assert (np.asarray(noted) == np.asarray(plain)).all()
    assert EDITED in described(tmp_path / name)
    assert EDITED not in described(tmp_path / f"plain-{name}")


def test_note_of_animations(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp"):
        save_animation(frames, tmp_path / name)
        assert EDITED.encode() in (tmp_path / name).read_bytes()
        save_animation(frames, tmp_path / name, note=None)
        assert EDITED.encode() not in (tmp_path / name).read_bytes()


def test_note_of_commands(home: Path, tiny: tuple[str, ...], grin: Path) -> None:
    sample = ("sample", "--seed", "3", "-o", "s.png", *tiny)
    edit = ("edit", "me.latent.safetensors", "--attr", grin, "-o", "e.png", *tiny)
    assert run(*sample).exit_code == run(*edit).exit_code == 0
    assert f"/{GENERATED}<" in described(Path("s.png"))
    assert f"/{EDITED}<" in described(Path("e.png"))
    assert run(*sample, "--no-note").exit_code == run(*edit, "--no-note").exit_code == 0
    assert described(Path("s.png")) == described(Path("e.png")) == ""
    animate = ("animate", "me.latent.safetensors", "--attr", grin, "--frames", "4", "--size", "64", *tiny)
    for more, noted in (((), True), (("--no-note",), False)):
        folder = f"frames-{noted}/"
        assert run(*animate, "-o", "a.gif", *more).exit_code == run(*animate, "-o", folder, *more).exit_code == 0
        assert (b"facelatent" in Path("a.gif").read_bytes()) == noted
        assert bool(described(Path(folder, "0001.png"))) == noted

"""Bad input of every kind: one line that says what is wrong, before the work, and nothing lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_parts import SHORT, misused, names, refused, run, worked
from conftest import bomb, make_tiny_generator
from PIL import Image
from safetensors.torch import save_file

from facelatent.boundaries import Boundary
from facelatent.inversion import alignment
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN, save_generator

pytest_plugins = ("command_parts",)


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


@pytest.mark.assets
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


@pytest.mark.assets
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


@pytest.mark.assets
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


@pytest.mark.assets
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

"""The command ``adapt``: a whole run on tiny networks, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from adapt_fixtures import blind_network, painting
from command_parts import run
from PIL import Image

from facelatent.domain_adapt import GRAPHIC, PAINTED, Style, VggSettings, difa_terms
from facelatent.domain_adapt.descent import Descent
from facelatent.domain_adapt.guidance import vgg as vgg_module


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random guidance at 64 px, and no detector: neither's weights are there."""
    network = blind_network()
    monkeypatch.setattr(vgg_module, "SIDE", 64)
    monkeypatch.setattr(vgg_module, "load_lpips", lambda net: SimpleNamespace(features=network))
    monkeypatch.setattr("facelatent.inversion.alignment.find_faces", lambda image: [])


@pytest.fixture
def art(tmp_path: Path) -> Path:
    path = tmp_path / "art.png"
    painting((200, 260)).save(path)
    return path


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("facelatent: ")]
    return line.removeprefix("facelatent: ")


def test_from_a_picture_to_a_style(art: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    out, record = tmp_path / "art.safetensors", tmp_path / "art.json"
    result = run("adapt", art, "-o", out, "--steps", "3", "--json", record, *tiny)
    assert result.exit_code == 0, result.output
    assert f"wrote {out}" in result.stdout
    assert "no face found" in result.stderr
    assert (tmp_path / "art.safetensors.work" / "step-0003.jpg").is_file()
    style = Style.load(out)
    assert style.name == "art"
    assert style.names()
    written = json.loads(record.read_text())
    assert written["steps"] == 3
    assert written["guidance"] == "vgg16"
    assert written["references"] == [str(art)]
    sheet = tmp_path / "sheet.png"
    assert run("sample", "--seed", "1-2", "--style", out, "-o", sheet, *tiny).exit_code == 0


def test_the_default_name_and_several_references(art: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    painting(seed=2).convert("RGBA").save(other)
    result = run("adapt", art, other, "--steps", "1", *tiny)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "art.style.safetensors").is_file()


def test_an_interrupted_run_is_one_line_and_goes_on(
    art: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = Descent.advance

    def interrupted(descent: Descent) -> None:
        if descent.step == 2:
            raise KeyboardInterrupt
        advance(descent)

    command = ("adapt", art, "-o", tmp_path / "a.safetensors", "--steps", "4", *tiny)
    with monkeypatch.context() as patch:
        patch.setattr(Descent, "advance", interrupted)
        assert "run the same command again" in refused(*command)
    assert not (tmp_path / "a.safetensors").exists()
    assert "going on from step 2 of 4" in run(*command).stdout
    assert (tmp_path / "a.safetensors").exists()


def poster(folder: Path) -> Path:
    """Three flat inks."""
    pixels = np.full((260, 260, 3), (240, 220, 180), np.uint8)
    pixels[60:200, 70:190] = (40, 40, 90)
    pixels[100:160, 100:160] = (190, 70, 40)
    Image.fromarray(pixels).save(folder / "poster.png")
    return folder / "poster.png"


def test_the_look_follows_the_reference(art: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    looks = {}
    for name, picture, options in (
        ("soft", art, ()),
        ("flat", poster(tmp_path), ()),
        ("told", poster(tmp_path), ("--look", "painted")),
    ):
        record = tmp_path / f"{name}.json"
        out = tmp_path / f"{name}.safetensors"
        result = run("adapt", picture, "-o", out, "--steps", "1", *options, "--json", record, *tiny)
        assert result.exit_code == 0, result.output
        assert ("--look graphic" in result.stdout) == (name == "flat")
        looks[name] = VggSettings(**json.loads(record.read_text())["settings"]["vgg"])
    assert looks == {"soft": PAINTED, "flat": GRAPHIC, "told": PAINTED}
    result = run("adapt", art, "--look", "graphic", "--direction-only", *tiny)
    assert result.exit_code == 2
    assert "neither --clip nor --direction-only" in result.output


def test_bad_input(art: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    painting((40, 40)).save(small)
    assert "needs at least 64" in refused("adapt", small, *tiny)
    assert "does not exist" in refused("adapt", tmp_path / "none.png", *tiny)
    assert "is the reference itself" in refused("adapt", art, "-o", art, *tiny)
    assert "--text needs CLIP" in refused("adapt", "-o", tmp_path / "t.safetensors", "--text", "photo", "oil", *tiny)
    assert run("adapt", *tiny).exit_code == 2
    assert run("adapt", art, "--faithful", *tiny).exit_code == 2
    assert run("adapt", art, "--clip", "a", "--clip-model", "b", "--clip-model", "c", *tiny).exit_code == 2


def test_clip_without_open_clip(
    art: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    np.savez(tmp_path / "weights.npz")
    line = refused("adapt", art, "--clip", tmp_path / "weights.npz", *tiny)
    assert "pip install 'facelatent[clip]'" in line


def test_the_direction_alone(art: Path, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difa_terms, "mean_embedding", lambda *arguments: torch.zeros(960))
    record = tmp_path / "art.json"
    command = ("adapt", art, "-o", tmp_path / "a.safetensors", "--direction-only", "--steps", "1", "--json", record)
    result = run(*command, *tiny)
    assert result.exit_code == 0, result.output
    assert list(json.loads(record.read_text())["losses"]) == ["direction vgg16"]


def test_help_has_examples() -> None:
    shown = run("adapt", "--help").stdout
    assert "facelatent adapt mona.png -o mona.safetensors" in shown
    assert "--style" in shown

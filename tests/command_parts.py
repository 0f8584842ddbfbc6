"""What tests of commands share: running them, and the files of a user who has a tiny generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from facelatent.cli import main
from facelatent.editing import draw
from facelatent.latent import Latent
from facelatent.stylegan_ops import MobileStyleGAN

#: An inversion of no time.
SHORT = ("--aligned", "--steps", "2", "--tune-steps", "2", "--device", "cpu")


def run(*arguments: object, data: bytes | None = None) -> Result:
    """A command's result, whatever it is; ``data`` is its standard input."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=data)


def worked(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert not result.exception
    return result.stdout


def refused(*arguments: object) -> str:
    """The one line, without its prefix, of a command that must fail as a user's mistake does."""
    result = run(*arguments)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("facelatent: ")
    assert result.stdout == ""
    return lines[0].removeprefix("facelatent: ")


def misused(*arguments: object) -> str:
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

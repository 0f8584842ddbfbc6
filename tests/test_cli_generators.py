"""The commands about generator files."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoint_files as files
import click
import pytest
import torch
from click.testing import CliRunner, Result

from facelatent.commands import generators
from facelatent.errors import UnsafeCheckpoint
from facelatent.stylegan_ops import generator as generator_module
from facelatent.stylegan_ops.checkpoints import read_checkpoint


@pytest.fixture(autouse=True)
def isolated_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELATENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(generator_module, "_STATISTICS_SAMPLES", 512)


@pytest.fixture
def pickle_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pkl"
    path.write_bytes(files.nvidia_pickle(files.nvidia_state()))
    return path


def run(*arguments: object) -> Result:
    group = click.Group()
    generators.add_to(group)
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def test_convert_writes_each_layout(pickle_file: Path, tmp_path: Path) -> None:
    for layout, name, kind in (
        ("facelatent", "a.safetensors", "facelatent"),
        ("rosinality", "b.pt", "rosinality"),
        ("nvidia-state", "c.safetensors", "nvidia-state"),
    ):
        result = run("convert", pickle_file, tmp_path / name, "--to", layout)
        assert result.exit_code == 0, result.output
        assert result.output == f"wrote {tmp_path / name}\n"
        assert read_checkpoint(tmp_path / name).kind == kind
    assert run("convert", pickle_file, tmp_path / "d.pt", "--to", "keras").exit_code == 2


def test_inspect_tells_people_and_programs(pickle_file: Path) -> None:
    text = run("inspect", pickle_file).output
    for part in ("NVIDIA StyleGAN2-ADA pickle", "32 px", "8 in W+, 11 in style space: b4.conv1 6", "nothing"):
        assert part in text
    found = json.loads(run("inspect", pickle_file, "--json").output)
    assert found["kind"] == "nvidia-pickle" and found["layers"][0] == ["b4.conv1", 6]
    assert found["fingerprint"] in text


def test_inspect_names_the_encoder(tmp_path: Path, pickle_file: Path) -> None:
    path = tmp_path / "bundle.pt"
    for options, kind in (
        ({"encoder_type": "GradualStyleEncoder", "output_size": 32}, "psp"),
        ({"encoder_type": "Encoder4Editing", "stylegan_size": 32}, "e4e"),
        ({}, "unknown"),
    ):
        torch.save({**files.encoder_bundle(), "opts": options}, path)
        assert f"\nencoder:     {kind}\n" in run("inspect", path).output
        assert json.loads(run("inspect", path, "--json").output)["encoder"] == kind
    assert "\nencoder:     none\n" in run("inspect", pickle_file).output
    assert json.loads(run("inspect", pickle_file, "--json").output)["encoder"] is None


def test_imported_generators_are_listed(pickle_file: Path) -> None:
    assert run("generators", "list").output == "mobile-ffhq-1024\n"
    assert run("generators", "import", "mine", pickle_file).exit_code == 0
    assert run("generators", "list").output == "mobile-ffhq-1024\nmine\n"
    assert "imported already" in str(run("generators", "import", "mine", pickle_file).exception)
    assert run("generators", "import", "mine", pickle_file, "--overwrite").exit_code == 0


def test_errors_are_ours(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    assert isinstance(run("inspect", path).exception, UnsafeCheckpoint)

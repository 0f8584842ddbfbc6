"""Atomic writing, checks of output paths, and our safetensors files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facelatent.errors import InvalidFile, UnwritableOutput
from facelatent.files import atomic_path, check_writable, load_tensors, save_tensors, sha256_of

TENSORS = {
    "ws": torch.linspace(-1, 1, 48).reshape(1, 3, 16),
    "half": torch.arange(4, dtype=torch.float16),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 512),
}
METADATA = {"kind": "toy", "sides": [4, 1024], "psi": 0.7, "note": "Zürich\n", "nothing": None, "more": {"a": [True]}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# atomic_path


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        temporary.write_text("{}")
        assert not target.exists()
        written = temporary.stat().st_ino
    assert target.read_text() == "{}"
    assert target.stat().st_ino == written  # renamed, not copied
    assert names(target.parent) == ["out.json"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(1)])
def test_old_file_stays_when_the_block_fails(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_full_disk(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    with (
        pytest.raises(UnwritableOutput, match=r"cannot write .*out\.txt: No space left on device"),
        atomic_path(target) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == []


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "out.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o640


def test_killed_run_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    script = (
        "import os, sys\nfrom facelatent.files import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(target)]).returncode == -9
    assert target.read_text() == "old"


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "out.txt"


def deep_below_a_file(tmp_path: Path) -> Path:
    return below_a_file(tmp_path) / "more" / "out.txt"


def a_folder(tmp_path: Path) -> Path:
    return tmp_path


def the_current_folder(_: Path) -> Path:
    return Path()


BAD_PATHS = [below_a_file, deep_below_a_file, a_folder, the_current_folder]


@pytest.mark.parametrize("make", BAD_PATHS)
def test_path_that_cannot_be_written(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    target = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(UnwritableOutput, match=r"cannot write .*choose another output path") as caught,
        atomic_path(target),
    ):
        pytest.fail("the block must not start")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnwritableOutput, match=r"cannot write .*choose another output path"):
        check_writable(target)
    assert sorted(tmp_path.rglob("*")) == before


def test_name_that_is_too_long(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 300 + ".txt")
    with pytest.raises(UnwritableOutput, match="File name too long"), atomic_path(target) as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == []


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answers are replaced."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UnwritableOutput, match="is not a writable folder"):
        check_writable(tmp_path / "out.txt")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UnwritableOutput, match="Permission denied"), atomic_path(tmp_path / "out.txt"):
        pytest.fail("the block must not start")


def test_check_writable_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.txt").write_text("old")
    for path in ("out.txt", tmp_path / "a" / "b" / "out.txt", tmp_path / "old.txt"):
        check_writable(path)
    assert names(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


# safetensors


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    save_tensors(path, TENSORS, METADATA)
    tensors, metadata = load_tensors(path)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_views_and_tensors_with_gradients_can_be_saved(tmp_path: Path) -> None:
    ws = torch.randn(1, 512, generator=torch.Generator().manual_seed(0)).requires_grad_()
    save_tensors(tmp_path / "a.safetensors", {"ws": ws.unsqueeze(1).expand(-1, 16, -1), "t": torch.eye(3).T}, {})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert torch.equal(tensors["ws"], ws.detach().unsqueeze(1).repeat(1, 16, 1))
    assert metadata == {}


def test_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, METADATA)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_tensors(path, TENSORS, {"bad": object()})
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.safetensors"]


def truncated(path: Path) -> None:
    save_tensors(path, TENSORS, METADATA)
    path.write_bytes(path.read_bytes()[:-5])


def huge_header(path: Path) -> None:
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


def foreign_metadata(path: Path) -> None:
    save_file({"x": torch.ones(1)}, path, {"format": "pt"})


def pickled(path: Path) -> None:
    torch.save({"x": torch.ones(1)}, path)


BAD_FILES: list[Callable[[Path], object]] = [
    truncated,
    huge_header,
    foreign_metadata,
    pickled,
    lambda path: path.touch(),
    lambda path: path.write_text("not tensors"),
    lambda path: path.mkdir(),
    lambda path: None,
]


@pytest.mark.parametrize("make", BAD_FILES)
def test_bad_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "a.safetensors"
    make(path)
    with pytest.raises(InvalidFile) as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# Checksums


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_sha256_without_file_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.10 has no ``hashlib.file_digest``."""
    monkeypatch.delattr(hashlib, "file_digest", raising=False)
    test_sha256(tmp_path)

"""The notebooks run from top to bottom, and what is stored in them is small and is of their own cells."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
#: With more a notebook is slow to open and to review.
MOST_BYTES = 600_000
#: A reader takes in a cell at a glance.
MOST_LINES = 10

of_each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def execute() -> ModuleType:
    """The script behind ``make notebooks``."""
    spec = importlib.util.spec_from_file_location("execute", NOTEBOOKS[0].parent / "execute.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_four() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.assets
@pytest.mark.slow
@of_each
def test_it_runs(path: Path) -> None:
    environment = {**os.environ, "FACELATENT_QUICK": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(path.parents[1]), os.environ.get("PYTHONPATH", "")])
    # A process of its own talks to the kernel: this one has been through other tests.
    command = [sys.executable, str(path.parent / "execute.py"), "--check", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]


@of_each
def test_stored_outputs_are_small_and_whole(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert not any("image/png" in output.get("data", {}) for output in outputs)
    fewest = 2 if path.name.startswith("4_") else 3  # the fourth's stand-in for a checkpoint draws no faces to edit
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= fewest
    for output in outputs:
        if "execution_count" in output:
            assert output.execution_count in range(1, len(cells) + 1)


@of_each
def test_stored_outputs_are_of_this_code_and_the_full_settings(path: Path, execute: ModuleType) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert 'QUICK = bool(os.environ.get("FACELATENT_QUICK"))' in code_cells(path)[0].source
    made = {"outputs_of": execute.code_digest(notebook), "quick": False}
    assert notebook.metadata.get("facelatent") == made, "the code has changed: run 'make notebooks', and look at them"


@of_each
def test_cells_are_short(path: Path) -> None:
    for cell in code_cells(path):
        assert len([line for line in cell.source.splitlines() if line]) <= MOST_LINES, cell.source


@of_each
def test_nothing_of_one_machine_is_stored(path: Path) -> None:
    assert not re.findall(r"/(?:home|root|tmp|Users)/\S+", path.read_text())

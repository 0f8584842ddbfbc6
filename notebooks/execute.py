"""Run notebooks, and store in them what their cells show.

    python notebooks/execute.py                     # all of them, in full: ten minutes of two CPU cores
    python notebooks/execute.py notebooks/1_*.ipynb
    python notebooks/execute.py --check             # run them, and store nothing

They run in a temporary folder, by the kernel called python3, which is this environment's own. Of the outputs, progress
bars and times are left out, so that a second run changes little.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

#: Longest that a cell may take, in seconds.
CELL_SECONDS = 1800


def run(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells in ``folder``, and put what they show into ``notebook``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    private = Config()
    private.KernelManager.transport = "ipc"  # by TCP, other users of this machine could listen
    with tempfile.TemporaryDirectory() as sockets:
        private.KernelManager.ip = str(Path(sockets) / "kernel")
        NotebookClient(
            notebook,
            config=private,
            timeout=CELL_SECONDS,
            startup_timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    # What the kernel says of itself changes with every patch release of Python.
    notebook.metadata["language_info"] = {"name": "python"}
    quick = bool(os.environ.get("FACELATENT_QUICK"))
    notebook.metadata["facelatent"] = {"outputs_of": code_digest(notebook), "quick": quick}


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """16 hex digits of SHA-256 over the code: tells outputs of this code from those of an earlier one."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """All that its cells show."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def main(paths: list[str]) -> None:
    """Run each, and store what it shows unless it is only checked."""
    check = paths[:1] == ["--check"]
    for path in map(Path, paths[check:] or sorted(Path(__file__).parent.glob("*.ipynb"))):
        notebook = nbformat.read(path, as_version=4)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, Path(folder))
        if check and not any("image/jpeg" in output.get("data", {}) for output in outputs(notebook)):
            sys.exit(f"{path.name} shows no picture")
        if check and any(output.output_type == "error" for output in outputs(notebook)):
            sys.exit(f"{path.name} shows an error")
        if not check:
            nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What every benchmark prints: the machine, a table, and a JSON file."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """This machine by cores and memory."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {gigabytes:.0f} GB, {platform.machine()}{gpu}, torch {torch.__version__}"


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with equal keys as aligned text."""
    columns = list(rows[0])
    cells = [columns, *[[_cell(row[column]) for column in columns] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def publish(name: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Print a table and write ``results/NAME.json``."""
    print(f"{name} ({machine()})")
    for key, value in facts.items():
        print(f"  {key}: {value}")
    print(table(rows))
    RESULTS.mkdir(exist_ok=True)
    record = {"benchmark": name, "machine": machine(), **facts, "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)

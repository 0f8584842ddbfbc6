"""One command for many files: which they are, and doing them all whatever becomes of each."""

# Nothing heavy is imported at the top: `facelatent --version` must answer before torch could load.
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from facelatent.commands.batch import Failure, Job, gather, is_folder, plan, run
from facelatent.commands.common import on_terminal, say, write_json
from facelatent.commands.pipes import named
from facelatent.errors import FacelatentError


def are_many(inputs: tuple[Path, ...], out: str | None) -> bool:
    """Whether there are many files to work on: several, a folder, or one whose result goes into a folder."""
    from facelatent.images import picture_suffixes

    into_folder = out is not None and out.endswith(("/", os.sep))
    return len(inputs) > 1 or into_folder or is_folder(inputs[0], picture_suffixes())


def gathered(inputs: tuple[Path, ...], suffixes: tuple[str, ...], otherwise: str | None = None) -> list[Path]:
    """The files to work on; a folder without any by ``suffixes`` is searched for the ending ``otherwise``.

    Raises:
        FacelatentError: a folder has none.
    """
    sources: list[Path] = []
    for given in inputs:
        found, others = gather([given], suffixes)
        if not found and otherwise:
            found, others = gather([given], (otherwise,))
        elif others := [path for path in others if not path.name.endswith(".safetensors")]:
            endings = ", ".join(sorted({path.suffix.lower() or "no ending" for path in others}))
            click.echo(f"left alone in {given}: {len(others)} other file(s) ({endings})", err=True)
        if not found and is_folder(given, suffixes):
            endings = ", ".join(suffixes)
            raise FacelatentError(f"{given} has no pictures ({endings}); folders in it are not searched: name those")
        sources += [path for path in found if path not in sources]
    return sources


def planned(
    sources: list[Path], target_of: Callable[[Path], Path], options: dict[str, Any]
) -> tuple[list[Job], list[Failure]]:
    """What to do and what cannot be done, see :func:`~facelatent.commands.batch.plan`.

    Raises:
        UnwritableOutput: a folder of the results, or the file of ``--json``, cannot be written.
    """
    from facelatent.files import check_writable

    jobs, failures = plan(sources, target_of)
    for target in {job.target.parent / "x": None for job in jobs}:
        check_writable(target)
    if options["json_file"] is not None:
        check_writable(options["json_file"])
    return jobs, failures


def run_all(
    jobs: list[Job],
    failures: list[Failure],
    work: Callable[[Job], dict[str, Any]],
    verb: str,
    json_file: Path | None,
) -> None:
    """Do all jobs with a progress bar, list the failures, and exit 1 if there were any (130 if it was stopped)."""
    from tqdm import tqdm

    records: list[dict[str, Any]] = []

    def one(job: Job) -> None:
        record = work(job)
        records.append({"source": str(job.source), **record})
        say(f"{'kept' if record.get('kept') else 'wrote'} {job.target}")

    with tqdm(jobs, desc=verb, unit="photo", disable=not on_terminal()) as bar:
        outcome = run(bar, one, failures)
    failed = [{"source": str(one.source), "reason": one.reason} for one in outcome.failed]
    write_json(json_file, {"done": records, "failed": failed, "interrupted": outcome.interrupted})
    total = len(jobs) + len(failures)
    click.echo(f"{len(outcome.done)} of {total} done" + (f", {len(failed)} failed" if failed else ""))
    if failed:
        lines = [f"facelatent: {len(failed)} of {total} failed:", *(f"  {named(one['reason'])}" for one in failed)]
        click.echo("\n".join(lines), err=True)
    if outcome.interrupted:
        click.echo("facelatent: interrupted; the same command goes on from here", err=True)
        raise SystemExit(130)
    if failed:
        raise SystemExit(1)

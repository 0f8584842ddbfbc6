"""Many pictures in one go: which they are, where each result goes, and what became of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facelatent.errors import AssetUnavailable, FacelatentError


@dataclass(frozen=True)
class Job:
    """One file and where what is made of it goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """One file of which nothing was made, and why, in one line that names it."""

    source: Path
    reason: str


@dataclass
class Outcome:
    """What became of a batch so far.

    Attributes:
        done: the jobs whose result is there.
        failed: those of which nothing was made.
        interrupted: whether the user stopped it before the end.
    """

    done: list[Job] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    interrupted: bool = False


def is_folder(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether an input is a folder of files. One that is called like a picture counts as a broken picture."""
    return path.is_dir() and path.suffix.lower() not in suffixes


def gather(inputs: Iterable[Path], suffixes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """The files that ``inputs`` name, and those in their folders that are left alone.

    A file is taken whatever its name. Of a folder the entries whose names end with one of ``suffixes`` are taken, in
    the order of their names; hidden ones are passed over, and folders within it are not entered.

    Raises:
        FacelatentError: a folder cannot be listed.
    """
    taken: dict[Path, Path] = {}
    others = []
    for given in inputs:
        if not is_folder(given, suffixes):
            taken.setdefault(given.absolute(), given)
            continue
        try:
            entries = sorted(entry for entry in given.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            raise FacelatentError(f"{given} cannot be listed: {error.strerror}") from error
        for entry in entries:
            if entry.name.lower().endswith(tuple(suffixes)):
                taken.setdefault(entry.absolute(), entry)
            elif entry.is_file():
                others.append(entry)
    return list(taken.values()), others


def plan(sources: Iterable[Path], target_of: Callable[[Path], Path]) -> tuple[list[Job], list[Failure]]:
    """One job a source. Where two would write one file, the first is done and the other fails: nothing is lost."""
    sources = list(sources)
    inputs = {_key(source) for source in sources}
    owners: dict[str, Path] = {}
    jobs, failures = [], []
    for source in sources:
        target = target_of(source)
        owner = owners.setdefault(_key(target), source)
        if owner is not source:
            failures.append(Failure(source, f"{source}: its output {target} is that of {owner}, too; rename one"))
        elif _key(target) in inputs:
            failures.append(Failure(source, f"{source}: its output {target} is an input; choose another output folder"))
        else:
            jobs.append(Job(source, target))
    return jobs, failures


def run(jobs: Iterable[Job], work: Callable[[Job], None], failed: Iterable[Failure] = ()) -> Outcome:
    """Do every job; one that fails does not stop the others.

    Args:
        jobs: what to do, in order.
        work: does one.
        failed: what failed already.

    Raises:
        AssetUnavailable: weights that every job needs cannot be fetched.
    """
    outcome = Outcome(failed=list(failed))
    try:
        for job in jobs:
            try:
                work(job)
            except AssetUnavailable:
                raise
            except FacelatentError as error:
                outcome.failed.append(Failure(job.source, _naming(job.source, str(error))))
            except Exception as error:  # whatever one file sets off, the others are still to be done
                outcome.failed.append(Failure(job.source, _naming(job.source, f"{type(error).__name__}: {error}")))
            else:
                outcome.done.append(job)
    except KeyboardInterrupt:
        outcome.interrupted = True
    return outcome


def _naming(source: Path, reason: str) -> str:
    line = " ".join(reason.split())
    return line if str(source) in line else f"{source}: {line}"


def _key(path: Path) -> str:
    """What tells two files apart on every file system: some take no notice of case."""
    return os.path.normpath(path.absolute()).casefold()

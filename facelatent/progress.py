"""Telling how far long work has come: a bar on a terminal, or a caller's own function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

#: Whether to show a bar; or what to call after each step instead, with what is done, the step, and of how many. It runs
#: on the thread that works, between steps: what it raises ends the work.
Progress = bool | Callable[[str, int, int], None]


def progress_bar(what: str, total: int, progress: Progress) -> Any:
    """A tqdm bar of ``total`` steps, or what looks like one to who moves it and calls ``progress``."""
    if isinstance(progress, bool):
        return tqdm(total=total, desc=what, unit="step", disable=not progress)
    return _Reporting(what, total, progress)


class _Reporting:
    """The part of tqdm's interface that :func:`facelatent.inversion.descent.descend` uses."""

    def __init__(self, what: str, total: int, report: Callable[[str, int, int], None]) -> None:
        self.total = total
        self._what, self._report, self._done = what, report, 0

    def __enter__(self) -> _Reporting:
        self._report(self._what, 0, self.total)
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def set_postfix(self, **values: Any) -> None:
        """What a bar shows behind its count is not reported."""

    def update(self) -> None:
        """One step more."""
        self._done += 1
        self._report(self._what, self._done, self.total)

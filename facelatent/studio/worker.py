"""One thread owns the generator: pictures are asked for from anywhere, and drawn there one after another."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Superseded(Exception):
    """A newer request with the same key came before this one was begun."""


@dataclass(frozen=True)
class _Job:
    work: Callable[[], Any]
    future: Future[Any]
    key: Hashable = None

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work())
        except Exception as error:  # whoever waits for the future gets it
            self.future.set_exception(error)


class Worker:
    """A thread that does quick jobs at once and slow ones, inversions, when there is nothing quick.

    A slow job calls :meth:`serve` between its steps, so that drawing goes on meanwhile.

    It should load the generator, too, after :func:`~facelatent.memory.keep_freed_memory`, else it takes half as long
    again. OpenMP's threads belong to the thread that first computed with them: once two threads have theirs, there are
    more than cores, and all of them sleep between loops instead of waiting ready.

    Args:
        patience: seconds that a slow job, once it was interrupted, waits for the next quick one: who drags a slider is
            not to wait for a step at each picture.
    """

    def __init__(self, patience: float = 0.3) -> None:
        self._patience = patience
        self._quick: deque[_Job] = deque()
        self._slow: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="facelatent-studio", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether slow jobs should end."""
        return self._closed

    def quick(self, work: Callable[[], _Result], key: Hashable = None) -> Future[_Result]:
        """Do ``work`` soon. A waiting job with the same ``key`` gives way: its future raises Superseded."""
        job = _Job(work, Future(), key)
        with self._changed:
            overtaken = [other for other in self._quick if key is not None and other.key == key]
            for other in overtaken:
                self._quick.remove(other)
            self._add(self._quick, job)
        for other in overtaken:
            if other.future.set_running_or_notify_cancel():
                other.future.set_exception(Superseded())
        return job.future

    def slow(self, work: Callable[[], _Result]) -> Future[_Result]:
        """Do ``work`` when nothing else is to be done, in turn."""
        job = _Job(work, Future())
        with self._changed:
            self._add(self._slow, job)
        return job.future

    def serve(self) -> None:
        """Do the quick jobs that wait, and what follows them; for the worker's own thread, within a slow job."""
        job = self._next(self._quick)
        while job is not None:
            job.run()
            job = self._next(self._quick, self._patience)

    def close(self, seconds: float = 10.0) -> None:
        """End the thread: what waits is dropped, a slow job that looks at :attr:`closed` ends, at most ``seconds``."""
        with self._changed:
            self._closed = True
            dropped = [*self._quick, *self._slow]
            self._quick.clear()
            self._slow.clear()
            self._changed.notify_all()
        for job in dropped:
            job.future.cancel()
        self._thread.join(seconds)

    def _add(self, queue: deque[_Job], job: _Job) -> None:
        if self._closed:
            job.future.cancel()
            return
        queue.append(job)
        self._changed.notify_all()

    def _next(self, queue: deque[_Job], patience: float = 0.0) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: queue or self._closed, patience)
            return queue.popleft() if queue else None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._quick or self._slow or self._closed)
                if self._closed:
                    return
            job = self._next(self._quick) or self._next(self._slow)
            if job is not None:
                job.run()

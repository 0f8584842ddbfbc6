"""Load the compiled kernels; a failure is remembered for the process and told once."""

from __future__ import annotations

import ctypes
import re
import threading
import warnings
from dataclasses import dataclass
from typing import get_args

from facelatent.cuda_kernels import store
from facelatent.cuda_kernels.compiling import look, obtain
from facelatent.cuda_kernels.toolchain import Kind, gpus
from facelatent.errors import KernelsUnavailable

_outcomes: dict[Kind, ctypes.CDLL | KernelsUnavailable] = {}
_warned: set[Kind] = set()
_one_thread = threading.Lock()


@dataclass(frozen=True)
class State:
    """Whether kernels are there, or will be at first use.

    Attributes:
        ok: whether they are or will be.
        text: the same in words, and what to do if not.
    """

    ok: bool
    text: str


def library(kind: Kind) -> ctypes.CDLL:
    """The loaded library, compiled first where needed.

    Raises:
        KernelsUnavailable: it cannot be compiled or loaded here; the message says why.
    """
    if kind not in _outcomes:
        with _one_thread:
            if kind not in _outcomes:
                _outcomes[kind] = _attempt(kind)
    outcome = _outcomes[kind]
    if isinstance(outcome, KernelsUnavailable):
        raise outcome
    return outcome


def available(kind: Kind) -> bool:
    """Whether :func:`library` works; if not, warns once."""
    try:
        library(kind)
    except KernelsUnavailable as error:
        if kind not in _warned:
            _warned.add(kind)
            warnings.warn(f"{kind} kernels: {error}; using plain PyTorch", RuntimeWarning, stacklevel=2)
        return False
    return True


def status() -> str:
    """One line for each kind of kernels: ready, what would compile it at first use, or why not. Compiles nothing."""
    return "\n".join(f"{kind + ':':<6}{state(kind).text}" for kind in get_args(Kind))


def state(kind: Kind) -> State:
    """What :func:`status` says of one kind."""
    outcome = _outcomes.get(kind)
    if isinstance(outcome, KernelsUnavailable):
        return State(False, f"unavailable: {outcome}")
    try:
        how, ready, problem = look(kind, store.read_sources(kind, store.SOURCES))
    except KernelsUnavailable as error:
        return State(False, f"unavailable: {error}")
    if ready is not None:
        record = store.record_of(ready)
        made = f", compiled in {record.seconds} s by {record.compiler}" if record else ""
        return State(True, f"{'loaded' if outcome else 'ready'}, {ready}{made}")
    if how is None:
        return State(False, f"unavailable: {problem}")
    targets = f" for {', '.join(f'sm_{one}' for one in how.targets)}" if kind == "cuda" else ""
    return State(True, f"not compiled yet; {how.title} will at first use{targets}")


def _attempt(kind: Kind) -> ctypes.CDLL | KernelsUnavailable:
    try:
        path = obtain(kind)
        _check_driver(kind, store.record_of(path))
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path = obtain(kind, fresh=True)
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelsUnavailable(
                f"{path} does not load ({error}); if its folder forbids programs, set FACELATENT_CACHE to another"
            ) from error
    except KernelsUnavailable as error:
        return error


def _check_driver(kind: Kind, record: store.Record | None) -> None:
    """A library of CUDA 13 needs a driver of CUDA 13, and would say so only at the first launch."""
    present = gpus() if kind == "cuda" else None
    compiled = re.search(r"\bCUDA (\d+)", record.compiler) if record else None
    if present and compiled and present.driver[0] < int(compiled[1]):
        driver = "{}.{}".format(*present.driver)
        raise KernelsUnavailable(
            f"the NVIDIA driver supports CUDA {driver}, nvcc is CUDA {compiled[1]}; update the driver, or set "
            f"CUDA_HOME to a CUDA {present.driver[0]} toolkit"
        )

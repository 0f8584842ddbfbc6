"""That freed memory is kept, and shared by all threads."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_HEAD = """
import ctypes, resource, sys, threading
from facelatent.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
"""
_COUNT_FAULTS = """
def use() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(40_000_000)
    ctypes.memset(block, 1, 40_000_000)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

use()
print(sum(use() for _ in range(4)))
"""
_COMPARE_PLACES = """
places = []

def use() -> None:
    block = libc.malloc(16_000_000)
    places.append(block)
    libc.free(block)

thread = threading.Thread(target=use)
thread.start()
thread.join()
use()
print(places[0] == places[1])
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switch")


def said(code: str, how: str) -> str:
    command = [sys.executable, "-c", _HEAD + code, how]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACELATENT_MALLOC", raising=False)


def test_memory_has_the_pages_that_it_had_before() -> None:
    pages = 40_000_000 / 65536  # of 64 kB, where there are such
    assert int(said(_COUNT_FAULTS, "kept")) < 0.1 * pages
    assert int(said(_COUNT_FAULTS, "as it comes")) > pages


def test_a_thread_has_no_memory_of_its_own() -> None:
    assert said(_COMPARE_PLACES, "kept") == "True"

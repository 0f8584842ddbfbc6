"""Stop glibc from giving every large tensor fresh pages, which costs more than half of a CPU forward pass."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


@cache
def keep_freed_memory() -> bool:
    """Make this process reuse freed memory instead of returning it to the system; True if that was done.

    It affects the whole process: its resident size stays at its peak. Only glibc has the switch; elsewhere, and with
    ``FACELATENT_MALLOC=default`` in the environment, nothing happens. For other threads than the main one it must come
    before torch is imported, whose threads make arenas that later ones share.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("FACELATENT_MALLOC") == "default":
        return False
    libc = ctypes.CDLL(None)
    # One arena: those that other threads would get are heaps of at most 64 MB, which shrink again whatever is set here.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(parameter, value) for parameter, value in settings)

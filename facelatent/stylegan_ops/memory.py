"""Stop glibc from giving every large tensor fresh pages, which costs more than half of a CPU forward pass."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

# Parameters of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@cache
def keep_freed_memory() -> bool:
    """Make this process reuse freed memory instead of returning it to the system; True if that was done.

    It affects the whole process: its resident size stays at its peak. Only glibc has the switch; elsewhere, and with
    ``FACELATENT_MALLOC=default`` in the environment, nothing happens.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("FACELATENT_MALLOC") == "default":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(libc.mallopt(parameter, value) for parameter, value in settings)

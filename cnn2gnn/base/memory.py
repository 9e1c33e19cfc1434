"""What becomes of memory that tensors on the CPU have given back."""

from __future__ import annotations

import ctypes
import os
import sys

# of `mallopt(3)`; glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT = 1 << 30  # bytes at the end of the heap that stay this process's
_FROM_THE_HEAP = 32 << 20  # bytes; glibc takes no more: larger tensors get pages of their own
_YOURS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # of glibc's environment


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, up to 1 GiB, unless its environment says what it shall do.

    A training step frees what the next one needs again. By default that goes back to the system,
    which then fills thousands of pages with zeros a step: a tenth of the time of a small student.

    Returns:
        Whether this system's malloc has been told so; else nothing changes.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _YOURS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    told = ((_M_TRIM_THRESHOLD, _KEPT), (_M_MMAP_THRESHOLD, _FROM_THE_HEAP))
    return all([mallopt(option, size) == 1 for option, size in told])

"""How the process asks the system for memory. Light to import."""

from __future__ import annotations

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Lets a training step use the memory that the step before has freed, in large pages.

    By default glibc gives every large tensor back to the system when it dies and asks for it again in the next step,
    page by page; on virtual machines that costs up to a third of the time of a step. The peak stays what it is.
    To be called before torch is imported, for it reads its part once.

    Returns:
        Whether it was done: only glibc on Linux knows how. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(name, size) == 1 for name, size in ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, 2 * LARGEST - 1))
    )

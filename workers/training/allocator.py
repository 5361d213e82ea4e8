"""One setting of the C library's allocator that large steps gain from."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20
KEPT_BYTES = 512 << 20


@functools.cache
def keep_freed_memory() -> bool:
    """Makes this process keep up to 512 MiB of freed memory, and says whether that worked.

    By default glibc gives the megabytes that every step frees back to the system and faults them
    in again at the next: measured as a sixth of a transformer's replayed step. The setting is the
    process's, changes no result, and does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    )

"""What the process does with the memory of tensors that are gone."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, for the whole process; whether it does (glibc alone can).

    Otherwise each large activation of each step is new memory, which the kernel must find and clear page by page.  The
    process holds the most memory that it ever needed until it ends.  GPUs' memory is torch's own affair.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all([libc.mallopt(_MMAP_THRESHOLD, _NEVER), libc.mallopt(_TRIM_THRESHOLD, _NEVER)])

"""Memory of tensors that are gone stays the process'."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ALLOCATING = """
import resource, sys
import torch
from hwnas.supernet.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
for _ in range(3):
    torch.ones(3, 4_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(3, 4_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 3 * 4_000_000 * 4 // 4096
"""Of one tensor."""


def faults(how: str) -> int:
    """Pages that the kernel had to find for 20 tensors of 48 MB, one after the other."""
    ended = subprocess.run([sys.executable, "-c", ALLOCATING, how], capture_output=True, text=True, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone can be told")
def test_freed_memory_is_used_again_and_not_fetched_from_the_kernel_anew() -> None:
    assert faults("kept") < 5 * PAGES, "the heap may still grow once or twice"
    assert faults("returned") > 15 * PAGES, "so the test could fail"

"""Whether the processor that this program believes to run on is emulated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

_PROC = Path("/proc")


def emulator(proc: Path = _PROC) -> Optional[str]:
    """The name of the program that emulates this process's processor, such as ``qemu-aarch64-static``.

    One that emulates single programs, as QEMU's user mode does, is what the kernel runs, and answers for
    ``/proc/self/exe`` with the program that it emulates; nobody answers for the same link of the thread.

    ``None`` is no proof: a whole emulated machine has a kernel of its own, which knows nothing of it.
    """
    try:
        believed, run = (Path(os.readlink(str(proc / who / "exe"))) for who in ("self", "thread-self"))
    except OSError:  # not Linux, or older than 3.17
        return None
    return None if run == believed else run.name

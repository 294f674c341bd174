"""Processes of the agent's own code: how they are started, how they end, and what they may write to."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, Callable, Dict, List


def module_command(module: str, *arguments: str) -> List[str]:
    """The command that runs a module of the agent in this Python."""
    return [sys.executable, "-m", module, *arguments]


def module_environment() -> Dict[str, str]:
    """This process's environment, in which Python finds the modules that this process finds, from any directory."""
    return dict(os.environ, PYTHONPATH=os.pathsep.join(str(Path(path).absolute()) for path in sys.path if path))


def claim_stdout() -> BinaryIO:
    """Keep stdout for replies, and send what anything else prints there, native libraries too, to stderr."""
    replies = os.fdopen(os.dup(1), "wb")
    sys.stdout.flush()
    os.dup2(2, 1)
    return replies


def end_with_host(descriptor: int, leave: Callable[[], None], grace_s: float = 0.0) -> None:
    """End this process when the other end of ``descriptor`` is closed, even in the midst of a request."""

    def wait() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # a hang-up is always reported; while there is none this costs nothing
        poll.poll()
        time.sleep(grace_s)
        leave()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-host", daemon=True).start()

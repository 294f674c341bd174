"""A progress that comes to a certain place and no further, so that a process can be killed there."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from hwnas.progress import Silent
from tests.forked import begun


class Stopping(Silent):
    """Goes no further at the n-th advance of a task's n-th time; says so by a file."""

    def __init__(self, place: tuple[str, int, int], mark: Path) -> None:
        self.place, self.mark = place, mark
        self.task, self.times, self.advances = "", 0, 0

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        self.task, self.advances = description, 0
        self.times += description == self.place[0]

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.advances += 1
        if (self.task, self.times, self.advances) == self.place:
            self.mark.touch()
            signal.pause()


def killed_at(place: tuple[str, int, int], function: Callable[..., None], directory: Path, *arguments: object) -> None:
    """Call a module's function with a directory, arguments and a :class:`Stopping`, and kill it at that place."""
    mark = directory / "stopped"
    process = begun(function, directory, *arguments, Stopping(place, mark))
    while process.is_alive() and not mark.exists():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"it ended before {place}"
    mark.unlink()

"""Processes that a test kills or lets end, forked from one that has imported what takes longest."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from hwnas.search import STRATEGIES

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["hwnas.training", *(location.partition(":")[0] for location in STRATEGIES.values())])


def begun(function: Callable[..., None], *arguments: object, **settings: Any) -> BaseProcess:
    """A process in which a module's function is being called."""
    process = _CONTEXT.Process(target=function, args=arguments, kwargs=settings)
    process.start()
    return process


def killed_when(met: Callable[[], bool], function: Callable[..., None], *arguments: object, **settings: Any) -> None:
    """Call a module's function in a process of its own, and kill that at once when a condition is met."""
    process = begun(function, *arguments, **settings)
    while process.is_alive() and not met():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def finished(function: Callable[..., None], *arguments: object, **settings: Any) -> None:
    """Call a module's function in a process of its own, to its end."""
    process = begun(function, *arguments, **settings)
    process.join()
    assert process.exitcode == 0

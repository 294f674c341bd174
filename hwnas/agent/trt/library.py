"""TensorRT or TensorRT-RTX as a module, and a logger that keeps what went wrong."""

from __future__ import annotations

import importlib
import re
import sys
from collections import deque
from typing import Any, Deque

from ..protocol import AgentError, ErrorKind

_LINES_KEPT = 20
_WARNING = 2
"""Severities are numbered from 0, an internal error, to 4, verbose."""
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|mem_alloc_failed|cudaErrorMemoryAllocation|bad_alloc|could not be allocated", re.IGNORECASE
)
_NO_DRIVER = re.compile(r"driver version is insufficient|no CUDA-capable device", re.IGNORECASE)


_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_SOURCES = {
    "tensorrt": "it comes with JetPack, or from NVIDIA's package index",
    "tensorrt_rtx": "pip install hwnas[rtx]",
}


class Library:
    """The Python API of one library, with a logger to hand to it."""

    def __init__(self, trt: Any) -> None:
        """``trt`` is the module ``tensorrt`` or ``tensorrt_rtx``."""
        self.trt = trt
        self.version = str(trt.__version__)
        self.title = "%s %s" % (_TITLES.get(trt.__name__, trt.__name__), self.version)
        self.errors: Deque[str] = deque(maxlen=_LINES_KEPT)
        self.logger = _logger(trt, self.errors)

    def failure(self, doing: str, kind: str = ErrorKind.INTERNAL) -> AgentError:
        """What failed just now: of ``kind``, or ``out-of-memory`` where what was logged tells of it."""
        # Without a GPU every error is followed by one of CUDA's, which tells nothing new.
        told = [line for line in self.errors if "cudaError" not in line] or list(self.errors) or ["it gave no reason"]
        if _OUT_OF_MEMORY.search(" ".join(self.errors)):
            kind = ErrorKind.OUT_OF_MEMORY
        return AgentError(kind, "%s failed: %s" % (doing, shortened(told[-1])))

    def made(self, thing: Any, doing: str, kind: str = ErrorKind.INTERNAL) -> Any:
        """``thing``, which the library just made.

        Raises:
            AgentError: it is ``None``, so that it was not made.
        """
        if thing is None:
            raise self.failure(doing, kind)
        return thing

    def misses_driver(self) -> bool:
        """Whether what was logged tells that there is no driver, or no GPU."""
        return _NO_DRIVER.search(" ".join(self.errors)) is not None


def open_library(module: str) -> Library:
    """The library in ``module``.

    Raises:
        AgentError: ``bad-request`` when it is not installed, or not whole.
    """
    try:
        return Library(importlib.import_module(module))
    except Exception as error:  # a wheel without its libraries raises what its loader happens to raise
        reason = "%s: %s" % (type(error).__name__, shortened(str(error)))
        source = _SOURCES.get(module, "see its makers")
        message = "%s is not installed here (%s); %s" % (module, reason, source)
        raise AgentError(ErrorKind.BAD_REQUEST, message) from error


def shortened(text: str) -> str:
    """A native library's message as one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:300] + "…"


def _logger(trt: Any, errors: Deque[str]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Errors are kept, warnings go to stderr, all else is dropped."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) < _WARNING:
                errors.append(message)
            if int(severity) <= _WARNING:
                sys.stderr.write("%s\n" % shortened(message))

    return Logger()

"""An agent with one more runtime, ``faulty``, whose models say how they misbehave.

The "ONNX" is ``<when>:<what>``: ``compile`` or ``run``, and ``hang``, ``kill``, ``chatter``, ``memory`` or ``bug``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.agent import runtimes
from hwnas.agent.__main__ import main
from hwnas.agent.arrays import Array
from hwnas.agent.runtimes import Engine, Runtime, RuntimeOptions, TensorInfo


def misbehave(what: str) -> None:
    if what == "hang":
        time.sleep(10**6)
    elif what == "kill":
        print("about to be killed", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "chatter":
        os.write(1, b"native noise\n")
    elif what == "memory":
        raise MemoryError
    elif what == "bug":
        raise ZeroDivisionError("a bug")
    elif what == "descend":
        os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", "100000"])
        time.sleep(10**6)


class FaultyEngine(Engine):
    inputs = [TensorInfo("image", "float32", (1, 3, 4, 4))]  # noqa: RUF012
    outputs = [TensorInfo("logits", "float32", (1, 2))]  # noqa: RUF012

    def __init__(self, content: bytes) -> None:
        self.when, _, self.what = content[:40].decode(errors="replace").partition(":")

    def upload(self, arrays: Sequence[Array]) -> None:
        pass

    def run(self) -> None:
        if self.when == "run":
            misbehave(self.what)

    def download(self) -> list[Array]:
        return [np.zeros((1, 2), np.float32)]


class FaultyRuntime(Runtime):
    name = "faulty"
    default_provider = "none"
    precisions = ("fp32",)

    def version(self) -> str:
        return "0"

    def providers(self) -> list[str]:
        return ["none"]

    def identity(self, options: RuntimeOptions) -> dict[str, Any]:
        return {}

    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        when, _, what = onnx[:40].decode(errors="replace").partition(":")
        if when == "compile":
            misbehave(what)
        output.write_bytes(onnx)

    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        return FaultyEngine(engine)


if __name__ == "__main__":
    runtimes.RUNTIMES["faulty"] = "__main__:FaultyRuntime"
    sys.exit(main())

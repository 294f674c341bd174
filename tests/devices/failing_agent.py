"""An agent that measures well, then fails in each way that ``$HWNAS_TEST_FAULT`` names, then measures well again.

How often it measured is kept in the agents' common directory, since not every agent outlives a failure.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hwnas.agent import protocol, server
from hwnas.agent.__main__ import main

write = protocol.encode


class FailingAgent(server.Agent):
    """Fails as it answers."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._count = home / "measured"

    def answer(self, line: bytes) -> dict[str, Any]:
        reply = super().answer(line)
        return {**reply, "fault": self._next()} if json.loads(line)["request"] == "measure" else reply

    def _next(self) -> str | None:
        count = int(self._count.read_text()) if self._count.exists() else 0
        self._count.write_text(str(count + 1))
        turns = os.environ["HWNAS_TEST_FAULT"].split(",")
        return turns[count - 1] if 0 < count <= len(turns) else None


def encode(message: dict[str, Any]) -> bytes:
    """In place of :func:`hwnas.agent.protocol.encode`."""
    fault = message.pop("fault", None)
    line = write(message)
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "late":
        time.sleep(10**6)
    elif fault == "torn":
        os.write(2, b"no more\n")
        return line[: len(line) // 2] + b"\n"
    return {"garbage": b"\x00\xff\n", "twice": line * 2}.get(fault, line)


if __name__ == "__main__":
    server.Agent = FailingAgent  # type: ignore[misc]
    protocol.encode = encode
    sys.exit(main())

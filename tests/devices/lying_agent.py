"""Not an agent: after a proper greeting it answers every request with what ``$HWNAS_TEST_FAULT`` says.

Of several faults there each agent has the next one; how many there were is kept in their common directory.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from hwnas.agent import protocol, server
from hwnas.agent.__main__ import main

ANSWERS: dict[str, bytes] = {
    "garbage": b"\xff\xfe not json\n",
    "other": b'{"id": 999, "ok": true, "result": {}}\n',
    "hollow": b'{"id": 2, "ok": true, "result": {}}\n',
    "list": b"[]\n",
    "torn": b'{"id": 2, "ok": tr',
    "endless": b"x" * (1 << 21),
}


def next_fault(counter: Path) -> str:
    """What this agent does wrong."""
    counter.parent.mkdir(mode=0o700, exist_ok=True)
    count = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(count + 1))
    faults = os.environ["HWNAS_TEST_FAULT"].split(",")
    return faults[count % len(faults)]


def lie(arguments: list[str] | None = None) -> int:
    """In place of :func:`hwnas.agent.server.main`."""
    fault = next_fault(Path((arguments or sys.argv[1:])[1]) / "agents")
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        request = json.loads(line)
        greeting = request["request"] == "hello"
        version = 99 if fault == "version" else protocol.VERSION
        result: dict[str, Any] = {"protocol": version} if greeting else {"identity": {}, "context": {}}
        proper = json.dumps({"id": request["id"], "ok": True, "result": result}).encode() + b"\n"
        if fault == "flood":
            sys.stderr.write("complaint\n" * 10**4)
        if greeting or fault == "flood":
            out.write(proper)
        elif fault == "twice":
            out.write(proper * 2)
        else:
            out.write(ANSWERS[fault])
        out.flush()
        if fault == "torn" and not greeting:
            break
    return 0


if __name__ == "__main__":
    server.main = lie
    sys.exit(main())

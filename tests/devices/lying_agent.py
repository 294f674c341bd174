"""Not an agent: after a proper greeting it answers every request with what its first argument says."""

from __future__ import annotations

import json
import sys
from typing import Any

ANSWERS: dict[str, bytes | None] = {
    "garbage": b"\xff\xfe not json\n",
    "other": b'{"id": 999, "ok": true, "result": {}}\n',
    "hollow": b'{"id": 2, "ok": true, "result": {}}\n',
    "list": b"[]\n",
    "torn": b'{"id": 2, "ok": tr',
    "twice": None,
}

answer = sys.argv[1]
out = sys.stdout.buffer
for line in sys.stdin.buffer:
    request = json.loads(line)
    version = 99 if answer == "version" else 1
    result: dict[str, Any] = {"protocol": version} if request["request"] == "hello" else {"identity": {}, "context": {}}
    proper = json.dumps({"id": request["id"], "ok": True, "result": result}).encode() + b"\n"
    if request["request"] == "hello":
        out.write(proper)
    elif answer == "twice":
        out.write(proper * 2)
    else:
        out.write(ANSWERS[answer] or b"")
    out.flush()
    if answer == "torn" and request["request"] != "hello":
        break

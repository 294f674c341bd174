"""An NNI trial, ``python -m hwnas.search.service.trial``: starts a worker and carries lines between it and the search.

Each accuracy is reported to NNI as an intermediate result, and the best as the final one, for its web page.  The trial
ends when the worker or the connection to the search does, and takes the worker with it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from threading import Thread
from typing import IO

SOCKET, HOME, PARENT = "HWNAS_SERVICE_SOCKET", "HWNAS_SERVICE_HOME", "HWNAS_SERVICE_PARENT"
"""Environment: the search's Unix socket, the user's own HOME, and the process that NNI's server ends with."""
LONGEST = 400


def main() -> None:
    """Carry lines until one side ends."""
    path = os.environ[SOCKET]
    restore_environment()

    import nni

    place = nni.get_next_parameter()["place"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        search = connection.makefile("rw")
        search.write(json.dumps({"place": place}) + "\n")
        search.flush()
        command = json.loads(search.readline())["command"]
        sys.exit(_carry(search, command))


def restore_environment() -> None:
    """Undo what was set for NNI's server and is not for those who work."""
    os.environ.pop("NODE_OPTIONS", None)
    if home := os.environ.pop(HOME, None):
        os.environ["HOME"] = home


def _carry(search: IO[str], command: list[str]) -> int:
    """Carry lines; returns the worker's exit status."""
    import nni

    try:
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        _send(search, {"ended": f"{command[0]} cannot be started ({error.strerror})"})
        return 1
    assert worker.stdin and worker.stdout and worker.stderr
    last_words: list[str] = []
    listener = Thread(target=_listen, args=(worker.stderr, last_words), daemon=True)
    listener.start()
    Thread(target=_forward, args=(search, worker), daemon=True).start()
    best: float | None = None
    for line in worker.stdout:
        search.write(line)
        search.flush()
        with suppress(ValueError, TypeError, KeyError):
            top1 = float(json.loads(line)["top1"])
            best = top1 if best is None else max(best, top1)
            nni.report_intermediate_result(top1)
    status = worker.wait()
    listener.join(timeout=2)
    if best is not None:
        nni.report_final_result(best)
    with suppress(OSError):
        _send(search, {"ended": (last_words or [f"exit status {status}"])[-1][:LONGEST]})
    return status


def _forward(search: IO[str], worker: subprocess.Popen[str]) -> None:
    """From the search to the worker; the worker dies with the connection, even in the midst of an evaluation."""
    assert worker.stdin
    with suppress(OSError, ValueError):
        for line in search:
            worker.stdin.write(line)
            worker.stdin.flush()
    worker.kill()


def _listen(stream: IO[str], last_words: list[str]) -> None:
    """Pass the worker's stderr on and remember its last line."""
    for line in stream:
        sys.stderr.write(line)
        if line.strip():
            last_words[:] = [line.strip()]


def _send(search: IO[str], value: dict[str, str]) -> None:
    search.write(json.dumps(value) + "\n")
    search.flush()


if __name__ == "__main__":
    main()

"""``hwnas-agent.pyz serve``: the service's process, from the first socket to the last answer."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

from ..environment import begin_undisturbed
from ..private import private_directory
from ..protocol import AgentError
from ..slots.layout import default_root
from ..thermal import THERMAL, Thermal
from .address import DEFAULT, actual_address, listen, parse_address
from .admission import Admission
from .choice import COOL_S, STEP_S, Governor
from .metrics import Metrics
from .notify import Notifier
from .record import Presence
from .routes import Routes
from .server import HttpServer
from .service import Service
from .watching import Watcher

_TICK_S = 0.2
_READ_HEAT_EVERY_S = 1.0
_SAY_EVERY_S = 5.0
_END_WITHIN_S = 10.0
_SWITCH_S = 0.0005


def main(arguments: List[str]) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP looks at once.  Gives 2 where it cannot begin, 1 after a fault."""
    options = _parser().parse_args(arguments)
    begin_undisturbed()
    try:
        return _Process(options).run()
    except (AgentError, PermissionError) as error:
        sys.stderr.write("%s\n" % error)
        return 2


class _Process:
    """All parts of the service, and the main thread's work."""

    def __init__(self, options: argparse.Namespace) -> None:
        address = parse_address(options.address)
        root = private_directory(options.root or default_root())
        self._presence = Presence(root)
        # Compilers keep there what they made, and load it as code.
        os.environ["TMPDIR"] = str(private_directory(root / "scratch"))
        listening = listen(address, options.socket_mode)
        self._address = actual_address(address, listening)
        self._token = secrets.token_hex(16)
        self._thermal = Thermal(options.thermal)
        self._notifier = Notifier()
        self._metrics = Metrics()
        self._service = Service(root, self._metrics, Governor(options.step_s, options.cool_s))
        self._watcher = Watcher(root, self._service, self._metrics)
        most_bytes = options.body_mib << 20
        admission = Admission(options.queue, most_bytes=4 * most_bytes)
        self._server = HttpServer(listening, Routes(self._service, self._metrics, admission, most_bytes, self._token))
        self._stopping = threading.Event()
        self._known: Dict[str, Any] = {}
        self._said: Dict[str, Any] = {}
        self._next_heat = self._next_word = 0.0
        self._ready = False

    def run(self) -> int:
        """Serve to the end."""
        sys.setswitchinterval(_SWITCH_S)  # an answer that is ready must not wait 5 ms for a thread that reads the next
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        signal.signal(signal.SIGHUP, lambda *_: self._watcher.read_again())
        self._server.start()
        self._watcher.start()
        while not self._stopping.wait(_TICK_S) and self._service.fault is None:
            self._tick(time.monotonic())
        return self._end()

    def _tick(self, now: float) -> None:
        if now >= self._next_heat:
            self._next_heat = now + _READ_HEAT_EVERY_S
            self._service.observe_heat(self._thermal.slowed_by(), now)
        self._say(now)
        if not self._ready and self._watcher.looked.is_set():
            self._ready = True
            self._notifier.tell(READY="1")
        stuck_s = self._notifier.watchdog_s
        if stuck_s is not None and self._server.alive and self._service.busy_s < stuck_s:
            self._notifier.tell(WATCHDOG="1")

    def _say(self, now: float) -> None:
        """Write the record when something else serves, and otherwise now and then."""
        state = self._service.state()
        known = {name: state.get(name) for name in ("digest", "model", "since", "problem")}
        if known == self._known and now < self._next_word:
            return
        self._known, self._next_word = known, now + _SAY_EVERY_S
        record = {
            "pid": os.getpid(),
            "address": str(self._address),
            "token": self._token,
            **known,
            "p99_ms": self._metrics.p99_ms(),
        }
        if record == self._said:
            return
        self._said = record
        self._presence.say(record)
        self._notifier.tell(STATUS=state["problem"] or "serving %s" % state["model"])

    def _end(self) -> int:
        self._notifier.tell(STOPPING="1")
        answered = self._server.end(_END_WITHIN_S)
        idle = self._watcher.stop(1.0)
        if answered and idle:
            self._service.stop()
        if self._address.path is not None:
            self._address.path.unlink()
        self._presence.leave()
        if self._service.fault is not None:
            sys.stderr.write("the device failed: %s\n" % self._service.fault)
        code = 0 if answered and self._service.fault is None else 1
        if not (answered and idle):  # a thread is within a library that cannot be told to stop
            sys.stderr.flush()
            os._exit(code)
        return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hwnas-agent.pyz serve", description="Serve the active model of this board.")
    parser.add_argument("--root", type=Path, default=None, help="where the slots are")
    parser.add_argument("--address", default=DEFAULT, help="127.0.0.1:8731 or unix:/path")
    parser.add_argument("--socket-mode", type=_mode, default=0o600, help="permissions of a Unix socket, such as 660")
    parser.add_argument("--queue", type=_positive, default=32, help="most requests that wait at a time")
    parser.add_argument("--body-mib", type=_positive, default=16, help="largest body, in MiB")
    parser.add_argument("--step-s", type=float, default=STEP_S, help="heat that lasts: another step to a faster model")
    parser.add_argument("--cool-s", type=float, default=COOL_S, help="cool for so long: a step back")
    parser.add_argument("--thermal", type=Path, default=THERMAL, help="where the kernel tells of heat")
    return parser


def _mode(text: str) -> int:
    mode = int(text, 8)
    if not 0 <= mode <= 0o777:
        raise ValueError(text)
    return mode


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""State and audit of one root: a state is durable before anything that stands on it begins."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional

from ..private import private_directory
from ..protocol import AgentError, ErrorKind
from . import durable
from .disk import Disk, disk_error
from .layout import Layout, digest_of, link_to
from .state import State, Switch


class Books:
    """``state.json``, ``audit.jsonl``, ``current`` and ``previous``, under one lock."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk
        self._depth = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one at work; whatever the one before left half done is put in order first.

        Raises:
            AgentError: ``busy`` when another process is at work, ``disk`` for whatever the disk refuses.
        """
        try:
            if self._depth:
                yield
                return
            private_directory(self._layout.root)
            with durable.opened(self._disk, self._layout.lock, os.O_RDWR | os.O_CREAT) as descriptor:
                self._disk.lock(descriptor)
                self._depth += 1
                try:
                    self._put_in_order()
                    yield
                finally:
                    self._depth -= 1
        except BlockingIOError as error:
            raise AgentError(
                ErrorKind.BUSY, "another process is at work in %s; wait for it" % self._layout.root
            ) from error
        except OSError as error:
            raise disk_error(error) from error

    def state(self) -> State:
        """The state as last written."""
        content = durable.read(self._disk, self._layout.state)
        return State() if content is None else State.decoded(content)

    def current(self) -> Optional[str]:
        """The slot that ``current`` points at."""
        return digest_of(self._disk.readlink(self._layout.current))

    def record(self, state: State, event: str, **details: Any) -> None:
        """Make ``state`` the state, by an event for the audit."""
        number = state.event.get("number", 0) + 1
        state = replace(state, event=dict(details, number=number, event=event, time=utc_now()))
        durable.replace(self._disk, self._layout.state, state.encoded())
        self._note(state.event)

    def switch(self, switch: Switch) -> None:
        """Let ``current`` point elsewhere; the moment when it does is the only one that counts."""
        self.record(replace(self.state(), switch=switch), "switching", **_told(switch))
        durable.point(self._disk, self._layout.current, link_to(switch.target))
        self._finish(switch)

    def audit(self) -> List[Dict[str, Any]]:
        """All events, oldest first."""
        content = durable.read(self._disk, self._layout.audit) or b""
        return [json.loads(line.decode("utf-8")) for line in durable.whole_lines(content)]

    def _finish(self, switch: Switch) -> None:
        self.record(self.state().switched(), switch.kind, **_told(switch))
        self._rebuild_previous()

    def _put_in_order(self) -> None:
        for directory in (self._layout.slots, self._layout.incoming):
            durable.make_directory(self._disk, directory)
        state = self.state()
        if state.event and not self._is_noted(state.event):
            self._note(state.event)
        if state.switch is not None:
            if self.current() == state.switch.target:
                self._finish(state.switch)
            else:
                self.record(replace(state, switch=None), "switch abandoned", **_told(state.switch))
        self._rebuild_previous()
        for name in self._disk.list(self._layout.slots):
            if name not in state.slots:
                durable.remove(self._disk, self._layout.slots / name)

    def _rebuild_previous(self) -> None:
        wanted = link_to(self.state().previous(self.current()))
        if self._disk.readlink(self._layout.previous) != wanted:
            durable.point(self._disk, self._layout.previous, wanted)

    def _is_noted(self, event: Dict[str, Any]) -> bool:
        """Whether the event is the audit's last line."""
        line = durable.last_line(self._disk, self._layout.audit)
        return bool(line) and bool(json.loads(line.decode("utf-8")).get("number") == event["number"])

    def _note(self, event: Dict[str, Any]) -> None:
        durable.append_line(self._disk, self._layout.audit, json.dumps(event, sort_keys=True).encode("utf-8"))


def _told(switch: Switch) -> Dict[str, Any]:
    return {"slot": switch.target, "from": switch.origin, "reason": switch.reason}


def utc_now() -> str:
    """As the board's clock has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

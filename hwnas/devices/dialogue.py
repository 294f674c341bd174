"""Requests to the agent on a device and what is made of its replies, whichever agent it is at the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from hwnas.agent import protocol
from hwnas.agent.protocol import Fields
from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.errors import AgentLostError, RefusedError, as_clause
from hwnas.errors import DeviceError

SHORT_S = 60.0
"""For a request that takes no time."""
_NO_ANSWER = (ValueError, TypeError, LookupError, OverflowError, protocol.AgentError)
"""What reading a reply raises that holds something else than was asked for."""

Reply = dict[str, Any]
Result = TypeVar("Result")


class Dialogue:
    """One request after the other; the first one starts an agent.

    An agent that dies or does not answer costs the request in flight, which raises; the next request starts another
    in the same directory.  Not for several threads at once.
    """

    def __init__(self, target: str, connection: Connection) -> None:
        """``target`` is the name of the device's, for errors."""
        self._target, self._connection = target, connection
        self._requests = 0
        self._interrupted_by: int | None = None
        self.agent: AgentProcess | None = None
        """The last one that was started."""
        self.resume: Callable[[], object] | None = None
        """What is asked first of an agent that takes over."""

    def close(self) -> None:
        """End the agent and let go of the device."""
        if self.agent is not None:
            self.agent.stop()
            self.agent = None
        self._connection.close()

    def interrupt(self) -> None:
        """End the request that another thread waits for; from now on only the thread that called this may make one."""
        self._interrupted_by = threading.get_ident()
        self._connection.give_up()
        if self.agent is not None:
            self.agent.kill()

    def request(
        self, request: str, doing: str, timeout_s: float, read: Callable[[Reply], Result], **payload: Any
    ) -> Result:
        """One request and what ``read`` makes of its result; ``doing`` says what the device was at if it failed.

        Raises:
            RefusedError: the agent refused.
            AgentLostError: it died, took longer than ``timeout_s``, or answered what ``read`` cannot make anything of.
            DeviceError: none could be started.
        """
        agent = self._running_agent()
        self._requests += 1
        line = protocol.encode({"id": self._requests, "request": request, **payload})
        try:
            reply = Fields(protocol.decode(agent.exchange(line, timeout_s)))
            if reply.integer("id") == self._requests:
                if reply.flag("ok"):
                    return read(reply.record("result"))
                error = Fields(reply.record("error"))
                raise RefusedError(
                    error.text("kind"), f"target '{self._target}', {doing}: {as_clause(error.text('message'))}."
                )
        except AgentLostError as error:
            raise type(error)(self._lost(agent, doing, str(error))) from error
        except _NO_ANSWER:
            pass  # not of this protocol, or not an answer to this request
        agent.kill()
        raise AgentLostError(self._lost(agent, doing, "it answered something else"))

    def _running_agent(self) -> AgentProcess:
        self._require_uninterrupted()
        if self.agent is None or not self.agent.alive:
            if self.agent is not None:
                self.agent.stop()
            self.agent = self._connection.start_agent()
            self._require_uninterrupted()
            version = self.request("hello", "greeting its agent", SHORT_S, lambda reply: reply["protocol"])
            if version != protocol.VERSION:
                self.agent.stop()
                raise DeviceError(
                    f"the agent on '{self._target}' speaks protocol {as_clause(str(version))}, this hwnas "
                    f"{protocol.VERSION}; install the same hwnas on both sides."
                )
            if self.resume is not None:
                self.resume()
        return self.agent

    def _require_uninterrupted(self) -> None:
        if self._interrupted_by not in (None, threading.get_ident()):
            raise AgentLostError(f"the agent on '{self._target}' was interrupted.")

    def _lost(self, agent: AgentProcess, doing: str, what: str) -> str:
        words = agent.last_words().strip().splitlines()[-5:]
        told = f"; its last words: {as_clause(' | '.join(words))}" if words else ""
        return f"the agent on '{self._target}' was lost while {doing}: {what}{told}."

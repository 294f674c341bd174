"""What a way to reach a device must do; tests/conformance holds the suite that every one must pass."""

from __future__ import annotations

from abc import ABC, abstractmethod


class AgentProcess(ABC):
    """One running agent and the two pipes to it."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether another request may be sent; once false, false for ever."""

    @abstractmethod
    def exchange(self, line: bytes, timeout_s: float) -> bytes:
        """Send one request line and wait for its reply line.

        Whenever no whole reply comes - the agent died, the wire broke, the time is over, the caller was
        interrupted - the agent is killed, so that no late reply is ever taken for that to another request.

        Raises:
            AgentTimeoutError: after ``timeout_s`` seconds.
            AgentLostError: the agent or the way to it is gone.
        """

    @abstractmethod
    def last_words(self) -> str:
        """The last lines that the agent wrote to its stderr."""

    @abstractmethod
    def kill(self) -> None:
        """End the agent and everything it started at once; the directory stays as it is for the next one."""

    @abstractmethod
    def stop(self) -> None:
        """Let the agent end and remove its directory, or else kill it; calling it again does nothing."""


class Connection(ABC):
    """A way to a device, with a private directory there that outlives each agent until :meth:`close`."""

    @abstractmethod
    def start_agent(self) -> AgentProcess:
        """Start an agent in the connection's directory.

        Raises:
            DeviceError: it could not be started.
        """

    def give_up(self) -> None:  # noqa: B027
        """Let no caller of :meth:`start_agent` wait for a device to come back, from now on and in any thread."""

    @abstractmethod
    def close(self) -> None:
        """Remove the directory and let go of the device; calling it again does nothing."""

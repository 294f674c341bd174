"""How talking to a device fails."""

from __future__ import annotations

from hwnas.errors import DeviceError


class AgentLostError(DeviceError):
    """The agent died or the way to it broke; the next request starts another."""


class AgentTimeoutError(AgentLostError):
    """The agent did not answer in time and was killed."""


class RefusedError(DeviceError):
    """The agent refused a request and lives on; ``kind`` is one of ``hwnas.agent.protocol.ErrorKind``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class UnreachableError(DeviceError):
    """There is no way to the device at the moment; trying again later may help."""

"""How talking to a device fails."""

from __future__ import annotations

from hwnas.errors import DeviceError

_LONGEST_CLAUSE = 500


class AgentLostError(DeviceError):
    """The agent died or the way to it broke; the next request starts another."""


class AgentTimeoutError(AgentLostError):
    """The agent did not answer in time and was killed."""


class RefusedError(DeviceError):
    """The agent refused a request and lives on; ``kind`` is one of ``hwnas.agent.protocol.ErrorKind``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TooHotError(DeviceError):
    """The device did not cool down in the time that there was for it."""


class UnreachableError(DeviceError):
    """There is no way to the device at the moment; trying again later may help."""


class InUseError(DeviceError):
    """Another session has the device."""


def as_clause(text: str) -> str:
    """What a device said as part of a sentence: one line, nothing that a terminal would obey, not without end."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(line.split())[:_LONGEST_CLAUSE]

"""What host and agent say to each other: one JSON object a line, one request at a time.

Request ``{"id": 7, "request": "compile", ...}``; reply ``{"id": 7, "ok": true, "result": {...}}`` or
``{"id": 7, "ok": false, "error": {"kind": "...", "message": "..."}}``.  Durations travel as whole nanoseconds, sizes
as bytes, blobs as base64 chunks of a content addressed by its SHA-256.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Optional, Sequence

VERSION = 1
CHUNK_BYTES = 4 << 20
"""Largest piece of a blob or of an array in one message, before base64."""
MAX_LINE_BYTES = 64 << 20
"""A longer line is refused: the other side is not speaking this protocol."""

Message = Dict[str, Any]


class ErrorKind:
    """The kinds of refusal; the message beside it is one sentence for people."""

    BAD_REQUEST = "bad-request"
    CORRUPT_BLOB = "corrupt-blob"
    UNKNOWN_BLOB = "unknown-blob"
    UNKNOWN_ENGINE = "unknown-engine"
    TAMPERED_ENGINE = "tampered-engine"
    MODEL_REFUSED = "model-refused"
    FALLBACK = "fallback"
    OUT_OF_MEMORY = "out-of-memory"
    NO_DEVICE = "no-device"
    DEVICE_FAULT = "device-fault"
    DISK = "disk"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class AgentError(Exception):
    """A request that was refused or failed; the agent lives on."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def encode(message: Message) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of one line.

    Raises:
        AgentError: ``bad-request``, when the line is not a JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AgentError(ErrorKind.BAD_REQUEST, "the line is not JSON (%s)" % error) from error
    if not isinstance(message, dict):
        raise AgentError(ErrorKind.BAD_REQUEST, "the line is JSON but not an object")
    return message


def success(identity: Any, result: Message) -> Message:
    """The reply to a request that was met."""
    return {"id": identity, "ok": True, "result": result}


def failure(identity: Any, error: AgentError) -> Message:
    """The reply to a request that was not met."""
    return {"id": identity, "ok": False, "error": {"kind": error.kind, "message": error.message}}


class Fields:
    """Typed reading of a message's fields, so that a malformed request ends in a sentence and not in a traceback."""

    def __init__(self, message: Message) -> None:
        self.message = message

    def text(self, name: str, default: Optional[str] = None) -> str:
        """A string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def integer(self, name: str, default: Optional[int] = None, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self._wrong(name, "a whole number of at least %d" % least, value)
        return value

    def number(self, name: str, default: Optional[float] = None) -> float:
        """A finite number of at least 0."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise self._wrong(name, "a finite number of at least 0", value)
        return float(value)

    def flag(self, name: str, default: Optional[bool] = None) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def record(self, name: str, default: Optional[Message] = None) -> Message:
        """A nested object."""
        value = self._value(name, default)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return value

    def items(self, name: str, default: Optional[Sequence[Any]] = None) -> Sequence[Any]:
        """A list; what is in it is for the caller to check."""
        value = self._value(name, default)
        if not isinstance(value, (list, tuple)):
            raise self._wrong(name, "a list", value)
        return value

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.message.get(name) is not None

    def _value(self, name: str, default: Any) -> Any:
        value = self.message.get(name, default)
        if value is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "field '%s' is missing" % name)
        return value

    @staticmethod
    def _wrong(name: str, expected: str, found: Any) -> AgentError:
        shown = repr(found)[:60]
        return AgentError(ErrorKind.BAD_REQUEST, "field '%s' must be %s, found %s" % (name, expected, shown))

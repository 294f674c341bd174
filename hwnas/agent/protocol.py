"""What host and agent say to each other: one JSON object a line, one request at a time.

Request ``{"id": 7, "request": "compile", ...}``; reply ``{"id": 7, "ok": true, "result": {...}}`` or
``{"id": 7, "ok": false, "error": {"kind": "...", "message": "..."}}``.  Durations travel as whole nanoseconds, sizes
as bytes, blobs as base64 chunks of a content addressed by its SHA-256.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

VERSION = 2
CHUNK_BYTES = 4 << 20
"""Largest piece of a blob or of an array in one message, before base64."""
MAX_LINE_BYTES = 64 << 20
"""A longer line is refused: the other side is not speaking this protocol."""
_DEEPEST = 32
_LARGEST = 2**53
"""Whole numbers beyond are not the same to every reader of JSON."""

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
    NOT_PERMITTED = "not-permitted"
    IN_USE = "in-use"
    DISK = "disk"
    TIMEOUT = "timeout"
    BAD_BUNDLE = "bad-bundle"
    UNTRUSTED = "untrusted"
    TOO_OLD = "too-old"
    UNHEALTHY = "unhealthy"
    BUSY = "busy"
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
        AgentError: ``bad-request``, when the line is not one JSON object in UTF-8, names a field twice, holds a number
            or text that is none (``NaN``, half a surrogate pair), or is nested too deep.
    """
    try:
        text = line.decode("utf-8")
        message = json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
        if "\\u" in text:
            json.dumps(message, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise AgentError(ErrorKind.BAD_REQUEST, "the line is not JSON (%s)" % error) from error
    if not isinstance(message, dict):
        raise AgentError(ErrorKind.BAD_REQUEST, "the line is JSON but not an object")
    if not _is_shallow(message):
        raise AgentError(ErrorKind.BAD_REQUEST, "the line is nested deeper than %d levels" % _DEEPEST)
    return message


def _object(pairs: List[Tuple[str, Any]]) -> Message:
    message = dict(pairs)
    if len(message) < len(pairs):
        raise ValueError("a field is there twice")
    return message


def _finite(text: str) -> float:
    number = float(text)
    if not abs(number) <= sys.float_info.max:
        raise ValueError("%s is no number" % text[:20])
    return number


def _is_shallow(message: Message) -> bool:
    level: List[Any] = [message]
    for _ in range(_DEEPEST):
        inner = [value for outer in level for value in (outer.values() if isinstance(outer, dict) else outer)]
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return True
    return False


def success(identity: Any, result: Message) -> Message:
    """The reply to a request that was met."""
    return {"id": identity, "ok": True, "result": result}


def failure(identity: Any, error: AgentError) -> Message:
    """The reply to a request that was not met."""
    return {"id": identity, "ok": False, "error": {"kind": error.kind, "message": error.message}}


class Fields:
    """Typed reading of a message's fields, so that a malformed request ends in a sentence and not in a traceback."""

    def __init__(self, message: Message) -> None:
        if not isinstance(message, dict):
            raise AgentError(ErrorKind.BAD_REQUEST, "an object is needed, found %s" % repr(message)[:60])
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
        if value > _LARGEST:
            raise self._wrong(name, "a whole number of at most %d" % _LARGEST, value)
        return value

    def number(self, name: str, default: Optional[float] = None) -> float:
        """A finite number of at least 0."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
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

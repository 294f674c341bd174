"""Answers to requests, and refusals that have a status of their own."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Mapping, NamedTuple

from ..protocol import AgentError, ErrorKind

_STATUS = {ErrorKind.BAD_REQUEST: HTTPStatus.BAD_REQUEST, ErrorKind.BUSY: HTTPStatus.SERVICE_UNAVAILABLE}


class Reply(NamedTuple):
    """What is sent back."""

    status: HTTPStatus
    content_type: str
    content: bytes
    headers: Mapping[str, str] = {}


class RefusedError(Exception):
    """A request that is not even wrong: its status says why."""

    def __init__(self, status: HTTPStatus, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.reply = refusal(status, sentence, headers)


def json_reply(record: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> Reply:
    """An object as JSON."""
    return Reply(status, "application/json", json.dumps(record).encode() + b"\n")


def refusal(status: HTTPStatus, sentence: str, headers: Mapping[str, str]) -> Reply:
    """``{"error": sentence}``."""
    return json_reply({"error": sentence}, status)._replace(headers=headers)


def refusal_of(error: Exception) -> Reply:
    """By an error's kind: 400 where the request is wrong, 503 where it may be tried again, else 500."""
    if isinstance(error, RefusedError):
        return error.reply
    if not isinstance(error, AgentError):
        sentence = "%s: %s" % (type(error).__name__, " ".join(str(error).split())[:300])
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, sentence, {})
    headers = {"Retry-After": "1"} if error.kind == ErrorKind.BUSY else {}
    return refusal(_STATUS.get(error.kind, HTTPStatus.INTERNAL_SERVER_ERROR), error.message, headers)

"""What can be asked of the service, without the ways of HTTP."""

from __future__ import annotations

import contextlib
import hmac
import math
import socket
import sys
import time
import traceback
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import Any, Callable, Dict, Iterable, Optional
from urllib.parse import parse_qs

from .. import protocol
from ..protocol import AgentError, ErrorKind, Fields
from . import answers, metrics, npy
from .admission import Admission
from .metrics import Metric, Metrics, Sample
from .pause import MOST_S
from .replies import RefusedError, Reply, json_reply, refusal_of
from .service import Service

_MOST_JSON_BYTES = 4096


class Request(ABC):
    """One request, of which nothing but the head was read."""

    command: str
    path: str

    @abstractmethod
    def header(self, name: str) -> Optional[str]:
        """Its value, or ``None``."""

    @abstractmethod
    def size(self, most: int) -> int:
        """Bytes of the body.

        Raises:
            RefusedError: it is not told, or more than ``most``.
        """

    @abstractmethod
    def body(self, size: int) -> bytes:
        """The body."""


class Routes:
    """The paths of the service."""

    def __init__(self, service: Service, counted: Metrics, admission: Admission, most_bytes: int, token: str) -> None:
        """
        Args:
            service: what is asked.
            counted: its counters.
            admission: the bound of the queue.
            most_bytes: largest body of an inference.
            token: who has it may pause the service.
        """
        self._service, self._metrics, self._admission = service, counted, admission
        self._token = token
        self.most_bytes = most_bytes
        self._routes: Dict[str, Dict[str, Callable[[Request], Reply]]] = {
            "/infer": {"POST": self._infer},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._exposition},
            "/budget": {"GET": self._budget, "POST": self._set_budget},
            "/quiesce": {"POST": self._quiesce},
            "/resume": {"POST": self._resume},
        }

    def answer(self, request: Request) -> Reply:
        """What to send back; whatever goes wrong with a request is a status and one sentence as JSON.

        Raises:
            OSError: the client is gone.
        """
        began = time.perf_counter()
        try:
            reply = self._route(request)(request)
        except (ConnectionError, socket.timeout):
            raise
        except Exception as error:  # the service outlives a bug in one request; its trace goes to the log
            if not isinstance(error, (AgentError, RefusedError)):
                traceback.print_exc(file=sys.stderr)
            reply = refusal_of(error)
        if _path(request) == "/infer":
            self._metrics.answered(int(reply.status), time.perf_counter() - began)
        return reply

    def _route(self, request: Request) -> Callable[[Request], Reply]:
        path = _path(request)
        if path not in self._routes:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such path; there are %s" % ", ".join(self._routes))
        methods = self._routes[path]
        if request.command not in methods:
            allowed = ", ".join(methods)
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "%s takes %s" % (path, allowed), Allow=allowed)
        if request.header("Origin") is not None:
            raise RefusedError(HTTPStatus.FORBIDDEN, "web pages have no business here")
        return methods[request.command]

    def _infer(self, request: Request) -> Reply:
        form, size = answers.accepted(request.header("Accept")), request.size(self.most_bytes)
        with self._admission.entered(size):
            answer = self._service.infer(npy.read_npy(request.body(size)))
            content_type, content = answers.body(answer.outputs, form)
        headers = {"Hwnas-Slot": answer.digest, "Hwnas-Model": answer.model}
        return Reply(HTTPStatus.OK, content_type, content, headers)

    def _health(self, request: Request) -> Reply:
        state = {**self._service.state(), "p99_ms": self._metrics.p99_ms(), "waiting": self._admission.waiting}
        asked = parse_qs(request.path.partition("?")[2]).get("seconds")
        if asked is not None:
            state["lately"] = self._metrics.lately(_seconds(asked[-1]))
        return json_reply(state, HTTPStatus.OK if state["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)

    def _exposition(self, _: Request) -> Reply:
        text = self._metrics.render(_present(self._service.state(), self._admission.waiting))
        return Reply(HTTPStatus.OK, metrics.CONTENT_TYPE, text.encode())

    def _budget(self, _: Request) -> Reply:
        state = self._service.state()
        return json_reply({name: state.get(name) for name in ("budget_ms", "model", "fits", "models")})

    def _set_budget(self, request: Request) -> Reply:
        fields = _fields(request)
        if set(fields.message) != {"latency_ms"}:
            raise AgentError(ErrorKind.BAD_REQUEST, 'a budget is {"latency_ms": 5.0}, or null for none')
        latency_ms = fields.number("latency_ms") if fields.has("latency_ms") else None
        if latency_ms == 0:
            raise AgentError(ErrorKind.BAD_REQUEST, "a budget must be more than 0 ms")
        self._service.set_budget(latency_ms)
        return self._budget(request)

    def _quiesce(self, request: Request) -> Reply:
        self._require_token(request)
        seconds = _fields(request).number("seconds", MOST_S)
        if not 0 < seconds <= MOST_S:
            raise AgentError(ErrorKind.BAD_REQUEST, "a pause takes more than 0 and at most %g s" % MOST_S)
        self._service.quiesce(seconds)
        return json_reply({"paused": True})

    def _resume(self, request: Request) -> Reply:
        self._require_token(request)
        paused_s, expired = self._service.resume()
        return json_reply({"paused_s": paused_s, "expired": expired})

    def _require_token(self, request: Request) -> None:
        given = (request.header("Authorization") or "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, b"Bearer " + self._token.encode()):
            sentence = "this needs the token of service.json, as 'Authorization: Bearer TOKEN'"
            raise RefusedError(HTTPStatus.FORBIDDEN, sentence)


def _path(request: Request) -> str:
    return request.path.split("?", 1)[0]


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise AgentError(ErrorKind.BAD_REQUEST, "'seconds' must be a number above 0, found %r" % text[:40])


def _fields(request: Request) -> Fields:
    """The body, a JSON object; no body is an empty one."""
    if request.header("Content-Length") is None and request.header("Transfer-Encoding") is None:
        return Fields({})
    return Fields(protocol.decode(request.body(request.size(_MOST_JSON_BYTES)) or b"{}"))


def _present(state: Dict[str, Any], waiting: int) -> Iterable[Metric]:
    """What the state of the service says, as gauges."""
    yield Metric("hwnas_ready", "gauge", "Whether a model is served.", [Sample(int(state["ready"]))])
    yield Metric(
        "hwnas_throttled", "gauge", "Whether heat slows the device down.", [Sample(int(bool(state["throttled"])))]
    )
    yield Metric("hwnas_waiting_requests", "gauge", "Requests read and not yet answered.", [Sample(waiting)])
    if state["budget_ms"] is not None:
        budget = [Sample(state["budget_ms"] / 1e3)]
        yield Metric("hwnas_budget_seconds", "gauge", "Latency that the model served may take.", budget)
    if state["ready"]:
        served = {"digest": state["digest"], "name": state["name"], "model": state["model"]}
        info = [Sample(1, {**served, "version": str(state["version"])})]
        yield Metric("hwnas_model_info", "gauge", "The model that serves.", info)
        expected = [Sample(model["expected_ms"] / 1e3, {"model": model["id"]}) for model in state["models"]]
        yield Metric("hwnas_expected_seconds", "gauge", "Latency of each model, measured when loaded.", expected)

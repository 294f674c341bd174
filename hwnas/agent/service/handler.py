"""One connection of a client, as http.server has it."""

from __future__ import annotations

import contextlib
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Optional

from .replies import RefusedError, Reply, refusal
from .routes import Request

if TYPE_CHECKING:
    from .server import HttpServer

_IDLE_S, _BODY_S, _LINGER_S = 60.0, 10.0, 1.0
_PIECE = 1 << 16


class Handler(BaseHTTPRequestHandler, Request):
    """Requests follow each other on a connection, unless one was not read to its end."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    wbufsize = -1  # an answer leaves in one piece
    server: "HttpServer"

    def setup(self) -> None:
        """Take the connection."""
        if self.request.family != socket.AF_UNIX:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lingers = False
        super().setup()

    def finish(self) -> None:
        """Leave; closing a connection with unread data would take the answer from the client, so read on a little."""
        super().finish()
        if self._lingers:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(_LINGER_S)
                rest = self.server.routes.most_bytes
                while rest > 0:
                    rest -= len(self.connection.recv(_PIECE)) or rest

    def handle_one_request(self) -> None:
        """Wait for a request and answer it."""
        self.server.connections.waits(self.connection)
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Its first line has come: it will be answered, even if the service ends."""
        self.server.connections.works(self.connection)
        return super().parse_request()

    def version_string(self) -> str:
        """What answers call the service."""
        return "hwnas"

    def handle_expect_100(self) -> bool:
        """Tell a client that asks first, as curl does with large bodies, to go on."""
        told = super().handle_expect_100()
        self.wfile.flush()
        return told

    def __getattr__(self, name: str) -> Any:
        """What http.server calls for a request, ``do_`` and its method: here the same for all."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def header(self, name: str) -> Optional[str]:
        """See :class:`Request`."""
        return self.headers.get(name)

    def size(self, most: int) -> int:
        """See :class:`Request`."""
        sizes = self.headers.get_all("Content-Length", [])
        if not sizes or self.header("Transfer-Encoding") is not None:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "the body's size must be told by Content-Length alone")
        if len(sizes) > 1 or not (sizes[0].isdigit() and sizes[0].isascii() and len(sizes[0]) < 16):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is not one whole number")
        if int(sizes[0]) > most:
            sentence = "the body has %s bytes; at most %d are taken" % (sizes[0], most)
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        return int(sizes[0])

    def body(self, size: int) -> bytes:
        """See :class:`Request`."""
        self.connection.settimeout(_BODY_S)
        content: bytes = self.rfile.read(size)
        self.connection.settimeout(_IDLE_S)
        if len(content) < size:
            raise ConnectionAbortedError("the client left in the midst of its request")
        self._unread = False
        return content

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:  # noqa: ARG002
        """Send what http.server itself refuses, before there is a request."""
        self._unread = True
        self._send(refusal(HTTPStatus(code), message or HTTPStatus(code).phrase, {}))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server has
        """Say nothing: what is to be known of requests is in the metrics."""

    def _answer(self) -> None:
        self._unread = self.header("Content-Length") not in (None, "0") or self.header("Transfer-Encoding") is not None
        self._send(self.server.routes.answer(self))

    def _send(self, reply: Reply) -> None:
        self._lingers |= self._unread
        if self._unread or self.server.connections.ending:
            self.close_connection = True
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":  # None where http.server could not read so far
            self.wfile.write(reply.content)
        self.wfile.flush()

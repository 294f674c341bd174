"""The HTTP server: a thread for each connection, on a socket that listens already."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import traceback
from typing import Any, Tuple, Union

from .connections import Connections
from .handler import Handler
from .routes import Routes

_POLL_S = 0.1
_MOST_CONNECTIONS = 256
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Accepted = Union[socket.socket, Tuple[bytes, socket.socket]]


class HttpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves from :meth:`start` to :meth:`end`."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, routes: Routes) -> None:
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.routes = routes
        self.connections = Connections()
        self._accepting = threading.Thread(target=self.serve_forever, args=(_POLL_S,), name="accepting", daemon=True)

    def start(self) -> None:
        """Accept connections from now on."""
        self._accepting.start()

    @property
    def alive(self) -> bool:
        """Whether connections are accepted."""
        return self._accepting.is_alive()

    def end(self, within_s: float) -> bool:
        """Accept no more, answer what has come; gives whether that was done in time."""
        self.shutdown()
        self._accept_the_last()
        self.server_close()
        return self.connections.end(within_s)

    def process_request(self, request: Accepted, client_address: Any) -> None:
        """Begin a thread for a connection."""
        assert isinstance(request, socket.socket)
        if self.connections.opened(request) > _MOST_CONNECTIONS:
            with contextlib.suppress(OSError):
                request.sendall(_TOO_MANY)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Accepted) -> None:
        """Close a connection."""
        super().shutdown_request(request)
        assert isinstance(request, socket.socket)
        self.connections.closed(request)

    def handle_error(self, request: Accepted, client_address: Any) -> None:  # noqa: ARG002
        """Say nothing of clients that leave; everything else is a bug, whose trace goes to the log."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc(file=sys.stderr)

    def _accept_the_last(self) -> None:
        """Connections that the kernel has accepted for us may carry requests already."""
        self.connections.ending = True
        self.socket.setblocking(False)
        while True:
            try:
                connection, address = self.socket.accept()
            except OSError:
                return
            connection.setblocking(True)
            self.process_request(connection, address)

"""The service of this board as other programs of the board ask it: installing, measuring, testing."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from .address import Address, parse_address
from .npy import CONTENT_TYPE_OF_SEVERAL, read_npz, write_npy
from .pause import MOST_S
from .record import find_service


class Pause:
    """What became of a pause, once it is over."""

    held = False
    """Whether it lasted to the end of the block; what was measured in one that did not may be contended."""


class ServiceClient:
    """Asks the service that lives in a root; one connection a request, wherever it listens by then."""

    def __init__(self, root: Path, timeout_s: float = 10.0) -> None:
        self._root, self._timeout_s = root, timeout_s

    def health(self, lately_s: Optional[float] = None) -> Dict[str, Any]:
        """Its state, whether it is ready or not; with how it answered in the last ``lately_s`` as ``lately``.

        Raises:
            AgentError: ``busy``: no service lives there, or it does not answer; ``bad-request``: what it answers.
        """
        query = "" if lately_s is None else "?seconds=%.3f" % lately_s
        status, content = self._ask("GET", "/health" + query)
        return _record(200 if status == 503 else status, content)

    def infer(self, images: Array) -> Dict[str, Array]:
        """The outputs for ``images`` [N, ...] by name; raises as :meth:`health`."""
        status, content = self._ask("POST", "/infer", write_npy(images), {"Accept": CONTENT_TYPE_OF_SEVERAL})
        return read_npz(content) if status == 200 else _refused(status, content)

    def set_budget(self, latency_ms: Optional[float]) -> Dict[str, Any]:
        """Have it keep a budget; gives what it serves then.  Raises as :meth:`health`."""
        return _record(*self._ask("POST", "/budget", json.dumps({"latency_ms": latency_ms}).encode()))

    @contextlib.contextmanager
    def quiesced(self, seconds: float = MOST_S) -> Iterator[Pause]:
        """Keep its requests waiting within the block, for at most ``seconds``; raises as :meth:`health`."""
        _record(*self._ask("POST", "/quiesce", json.dumps({"seconds": seconds}).encode()))
        pause = Pause()
        try:
            yield pause
        finally:
            with contextlib.suppress(AgentError):  # a service that died meanwhile was not paused to the end
                pause.held = not _record(*self._ask("POST", "/resume"))["expired"]

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({})
    ) -> Tuple[int, bytes]:
        record = find_service(self._root)
        if record is None:
            raise AgentError(ErrorKind.BUSY, "no service lives in %s" % self._root)
        connection = connection_to(parse_address(record["address"]), self._timeout_s)
        try:
            connection.request(method, path, body, {"Authorization": "Bearer " + record["token"], **headers})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise AgentError(ErrorKind.BUSY, "the service in %s does not answer: %s" % (self._root, reason)) from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(str(self._path))


def connection_to(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to a service, wherever it listens."""
    if address.path is not None:
        return _UnixConnection(address.path, timeout_s)
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)


def _record(status: int, content: bytes) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(content)
    return found if status == 200 else _refused(status, content)


def _refused(status: int, content: bytes) -> Any:
    sentence = "the service answered %d: %s" % (status, json.loads(content)["error"])
    raise AgentError(ErrorKind.BUSY if status == 503 else ErrorKind.BAD_REQUEST, sentence)

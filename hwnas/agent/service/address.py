"""Where the service listens: a loopback address or a Unix socket, nothing that another machine reaches."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
from pathlib import Path
from typing import NamedTuple, Optional

from ..protocol import AgentError, ErrorKind

DEFAULT = "127.0.0.1:8731"
_BACKLOG = 128


class Address(NamedTuple):
    """One of both."""

    path: Optional[Path]
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return "unix:%s" % self.path
        return "%s:%d" % ("[%s]" % self.host if ":" in self.host else self.host, self.port)


def parse_address(text: str) -> Address:
    """The address of ``127.0.0.1:8731``, ``[::1]:8731``, ``localhost:8731`` or ``unix:/run/hwnas.sock``.

    Raises:
        AgentError: ``bad-request``: it is none, or other machines could reach it.
    """
    if text.startswith("unix:"):
        path = Path(text[len("unix:") :])
        if not path.is_absolute():
            raise _refusal("'%s' names no absolute path; write unix:/run/hwnas.sock" % text)
        return Address(path)
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not port.isdigit() or not port.isascii() or int(port) > 65535 or not host:
        raise _refusal("'%s' is no address; write 127.0.0.1:8731 or unix:/run/hwnas.sock" % text)
    host = "127.0.0.1" if host == "localhost" else host
    if not _is_loopback(host):
        raise _refusal("the service listens on this board alone, not on %s; write 127.0.0.1:%s" % (host, port))
    return Address(None, host, int(port))


def listen(address: Address, mode: int) -> socket.socket:
    """A listening socket; ``mode`` are the permissions of a Unix socket.

    Raises:
        AgentError: ``bad-request``: something else listens there or lies there, or the address is not this board's.
    """
    if address.path is None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return _bound(socket.socket(family, socket.SOCK_STREAM), (address.host, address.port), address)
    _clear_away(address.path)
    mask = os.umask(0o777 & ~mode)
    try:
        return _bound(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), str(address.path), address)
    finally:
        os.umask(mask)


def actual_address(address: Address, listening: socket.socket) -> Address:
    """``address`` with the port that the kernel chose where none was asked for."""
    return address if address.path is not None else address._replace(port=listening.getsockname()[1])


def _bound(created: socket.socket, place: object, address: Address) -> socket.socket:
    created.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        created.bind(place)  # type: ignore[arg-type]
        created.listen(_BACKLOG)
    except OSError as error:
        created.close()
        raise _refusal("%s cannot be listened on: %s" % (address, error.strerror)) from error
    return created


def _clear_away(path: Path) -> None:
    """Remove the socket of a service that was killed."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise _refusal("%s is there and is no socket; choose another path" % path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        if trial.connect_ex(str(path)) == 0:
            raise _refusal("another service listens on unix:%s" % path)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(sentence: str) -> AgentError:
    return AgentError(ErrorKind.BAD_REQUEST, sentence)

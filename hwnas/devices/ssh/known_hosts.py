"""The keys of hosts that were seen before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh

from hwnas.errors import BadFileError
from hwnas.files import explain_os_errors

_DEFAULT_PORT = 22
_OWN = "~/.ssh/known_hosts"
_SYSTEM = "/etc/ssh/ssh_known_hosts"


class KnownHosts:
    """What OpenSSH's ``known_hosts`` files have of one host; a new key is appended to the first of them."""

    def __init__(self, host: str, files: Sequence[str] = ()) -> None:
        """
        Args:
            host: as the files call it: a name with :func:`address`, or an alias.
            files: as the client configuration names them; by default the user's and the system's.

        Raises:
            BadFileError: a file cannot be read.
        """
        self.host = host
        self._paths = [Path(name).expanduser() for name in files or (_OWN, _SYSTEM)]
        self._reload()

    def match(self, *_: object) -> Any:
        """The keys of the host, as asyncssh asks for them; addresses do not count, a name has its own keys."""
        return self._table.match(self.host, "", None)

    def fingerprints(self) -> list[str]:
        """Of the keys that are known."""
        return [key.get_fingerprint() for key in self.match()[0]]

    def add(self, key: asyncssh.SSHKey) -> None:
        """Remember the key.

        Raises:
            UserError: the file cannot be written.
        """
        path = self._paths[0]
        line = f"{self.host} {key.export_public_key().decode().strip()}\n"
        with explain_os_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab+") as file:
                size = file.seek(0, os.SEEK_END)
                unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                file.write(b"\n" * unfinished + line.encode())
        self._reload()

    def places(self) -> str:
        """The files, for a sentence."""
        return " or ".join(str(path) for path in self._paths if path.exists()) or str(self._paths[0])

    def _reload(self) -> None:
        texts = []
        for path in self._paths:
            try:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BadFileError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
        try:
            self._table = asyncssh.import_known_hosts("\n".join(texts))
        except ValueError as error:
            raise BadFileError(f"{self.places()} has a line that is none of known_hosts ({error}).") from error


def address(host: str, port: int | None) -> str:
    """A host and port as OpenSSH writes them."""
    return host if port in (None, _DEFAULT_PORT) else f"[{host}]:{port}"

"""A real OpenSSH server on the loopback interface, with keys of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from hwnas.devices.target import Ssh

_STARTS_WITHIN_S = 30.0


class Sshd:
    """A server for the user who runs the tests."""

    def __init__(
        self,
        home: Path,
        extra: str = "",
        environment: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """``extra`` lines come first in its configuration; ``prefix`` is a command that runs it elsewhere."""
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None or shutil.which("ssh-keygen") is None:
            pytest.skip("needs an SSH client and server, see scripts/system-packages.sh")
        self.home, self.address, self._prefix, self._program = home, address, prefix, program
        self.port = free_port()
        self.config = home / "config"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("host", "user"):
            make_key(home / name)
        variables = {"XDG_CACHE_HOME": home / "cache", "HWNAS_LOCK": home / "lock", **(environment or {})}
        (home / "sshd_config").write_text(
            f"{extra}SetEnv {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
            f"Port {self.port}\nListenAddress {address}\nHostKey {home}/host\nAuthorizedKeysFile {home}/user.pub\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\n"
        )
        self.remember_host()
        self.config.write_text(
            f"Host box\nHostName {address}\nPort {self.port}\nIdentityFile {home}/user\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {home}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        )

    def settings(self, **others: Any) -> Ssh:
        """How a target describes the way to it."""
        described = {"kind": "ssh", "host": "box", "config": str(self.config), "python": sys.executable}
        return Ssh.model_validate(described | others)

    def remember_host(self) -> None:
        """Let ``known_hosts`` hold the server's key, and no other."""
        key = (self.home / "host.pub").read_text()
        (self.home / "known_hosts").write_text(f"[{self.address}]:{self.port} {key}")

    def start(self) -> None:
        """Serve, once it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [*self._prefix, self._program, "-D", "-e", "-f", str(self.home / "sshd_config")]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < deadline, "the SSH server does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and every connection to it."""
        if self._process is not None:
            parent = psutil.Process(self._process.pid)
            parent.suspend()  # it shall let nobody in meanwhile
            for child in parent.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name().startswith("sshd"):
                        child.kill()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _answers(self) -> bool:
        command = [*self._prefix, "ssh-keyscan", "-T", "1", "-p", str(self.port), self.address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def make_key(path: Path, passphrase: str = "") -> None:
    """A new Ed25519 key in ``path``, in place of the one there."""
    for file in (path, path.with_suffix(".pub")):
        file.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)


def free_port() -> int:
    """A port on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(home: Path, *arguments: Any, **options: Any) -> Iterator[Sshd]:
    """A server while the block runs; the arguments are those of :class:`Sshd`."""
    server = Sshd(home, *arguments, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()

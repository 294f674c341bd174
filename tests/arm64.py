"""A board of another architecture: an arm64 Debian under QEMU's user-mode emulation, behind an SSH server of its own.

Tests ask for the fixture ``arm64_board``, which gives an :class:`Arm64Board`, and carry ``@pytest.mark.slow``::

    @pytest.mark.slow
    def test_something_on_a_board(arm64_board: Arm64Board) -> None:
        with Device(arm64_board.target(), SshConnection(arm64_board.settings())) as device:
            ...
        assert arm64_board.run("uname", "-m") == "aarch64\\n"

``scripts/arm64_board.sh`` makes it on first use (minutes) and keeps it; where it cannot be made, tests skip and say so.
It runs programs some ten to a hundred times slower than this machine does, so timeouts must be generous.  What a test
leaves in its home directory, ``/home/board``, the next one finds: remove it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices import Target, load_target
from hwnas.devices.target import Ssh

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "arm64_board.sh"
HOST = "arm64-board"
_CANNOT_BE_HAD = 3


class Arm64Board:
    """The board while it runs.

    Attributes:
        config: OpenSSH client configuration that knows it as ``arm64-board``, with its key and its host's.
    """

    def __init__(self) -> None:
        home = os.environ.get("HWNAS_ARM64_BOARD") or Path.home() / ".cache/hwnas/arm64-board"
        self.config = Path(home) / "ssh_config"

    def settings(self, **others: Any) -> Ssh:
        """How a target describes the way to it."""
        return Ssh.model_validate({"kind": "ssh", "host": HOST, "config": str(self.config), **others})

    def target(self, name: str = "arm64") -> Target:
        """A target of it, like ``host-cpu`` but for the connection."""
        return load_target("host-cpu").model_copy(update={"name": name, "connection": self.settings()})

    def run(self, *command: str) -> str:
        """What a command prints on the board.

        Raises:
            subprocess.CalledProcessError: it fails.
        """
        ssh = ["ssh", "-F", str(self.config), HOST, *command]
        return subprocess.run(ssh, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def serving() -> Iterator[Arm64Board]:
    """The board while the block runs; one that ran before goes on afterwards."""
    ran_before = _board("ssh-config").returncode == 0
    started = _board("start")
    if started.returncode == _CANNOT_BE_HAD:
        pytest.skip(f"needs an emulated arm64 board: {started.stderr.strip().splitlines()[-1]}")
    assert started.returncode == 0, started.stderr
    try:
        yield Arm64Board()
    finally:
        if not ran_before:
            _board("stop")


def _board(subcommand: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, subcommand], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)

"""Agents that run on this machine, whatever way leads to them: others in their place, and whether they are gone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from hwnas.devices import Connection, Device
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from tests.sshd import Sshd

FAULT = "HWNAS_TEST_FAULT"
"""The variable that says to a program in an agent's place what it shall do wrong."""
_EVENTUALLY_S = 30.0


def locally(program: Path, fault: str) -> Connection:
    """A way to this machine at whose end ``program`` is in the agent's place."""
    return LocalConnection(["/usr/bin/env", f"{FAULT}={fault}", sys.executable, str(program)])


def over_ssh(server: Sshd, program: Path, fault: str, directory: Path) -> Connection:
    """A way over SSH at whose end ``program`` is in the agent's place; all else is as on any board."""
    python = directory / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$3" = attend ] && exec env {FAULT}={fault} {sys.executable} {program} attend "$4"\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return SshConnection(server.settings(python=str(python)))


def pid_of(device: Device) -> int:
    """The process id of the device's agent."""
    return int(device._request("hello", "greeting it", 60, dict)["pid"])


def gone(pid: int) -> bool:
    """Whether nothing is left of an agent, nor of what it started: no process of its group but zombies."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` comes true within a generous time."""
    deadline = time.monotonic() + _EVENTUALLY_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False

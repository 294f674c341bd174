"""The agent's way onto a board: once for each version, checked by its hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import asyncssh

from hwnas.devices.errors import UnreachableError
from hwnas.devices.ssh.loop import LoopThread
from hwnas.devices.ssh.process import RemoteProcess
from hwnas.devices.zipapp import agent_zipapp
from hwnas.errors import DeviceError

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(14, 7, -1)))
"""Where a board's Python is looked for, unless the target names one."""
_OLDEST = [3, 8]
_ANSWERS_WITHIN_S = 60.0
_ARRIVES_WITHIN_S = 900.0
_TRIES = 2


@dataclass(frozen=True)
class DeliveredAgent:
    """The agent on a board and the Python that runs it."""

    python: str
    path: str

    def command(self, *arguments: str) -> list[str]:
        """What runs it."""
        return [self.python, "-E", self.path, *arguments]


def deliver(
    loop: LoopThread, connection: asyncssh.SSHClientConnection, where: str, python: str | None = None
) -> DeliveredAgent:
    """Send the agent, as far as it is not there.

    Args:
        where: the board's name in errors.
        python: the board's Python; ``None``: the first of :data:`PYTHONS` that can run the agent.

    Raises:
        UnreachableError: the connection broke; what has arrived stays there.
        DeviceError: there is no Python that can run the agent, or no place for it.
    """
    unfit = []
    for candidate in PYTHONS if python is None else (python,):
        agent, complaint = _deliver(loop, connection, where, candidate)
        if agent is not None:
            return agent
        if complaint:
            unfit.append(complaint)
    found = "; ".join(dict.fromkeys(unfit)) or f"there is no {python or 'python3'}"
    raise DeviceError(
        f"{where} has no Python 3.8 or newer with NumPy, which the agent needs ({found}); install python3 and "
        "python3-numpy there, or name the one to use as connection.python in the target."
    )


def _deliver(
    loop: LoopThread, connection: asyncssh.SSHClientConnection, where: str, python: str
) -> tuple[DeliveredAgent | None, str]:
    """The delivered agent, or why this Python cannot run it (nothing where there is none)."""
    content = agent_zipapp()
    arguments = [hashlib.sha256(content).hexdigest(), str(len(content))]
    result: dict[str, Any] = {}
    for _ in range(_TRIES):
        process = RemoteProcess(loop, connection, [python, "-E", "-c", _reception(), *arguments])
        try:
            greeting = read_message(process, where, _ANSWERS_WITHIN_S)
            if greeting is None:
                return None, ""
            if "error" in greeting:
                raise DeviceError(f"{where} cannot take the agent: {greeting['error']}.")
            version = ".".join(map(str, greeting["python"]))
            if greeting["python"][:2] < _OLDEST:
                return None, f"{python} is Python {version}"
            if not greeting["numpy"]:
                return None, f"{python}, Python {version}, has no NumPy"
            process.write(content[greeting["received"] :])
            process.hang_up()
            result = read_message(process, where, _ARRIVES_WITHIN_S) or {"error": process.end()}
        finally:
            process.close()
        if "path" in result:
            return DeliveredAgent(python, result["path"]), ""
        if connection.is_closed():
            raise UnreachableError(f"The connection to {where} broke while the agent was sent there.")
    raise DeviceError(f"{where} cannot take the agent: {result['error']}; free some space there or mend its disk.")


def read_message(process: RemoteProcess, where: str, timeout_s: float) -> dict[str, Any] | None:
    """The program's next line as an object, ``None`` when it ended without one.

    Raises:
        UnreachableError: it does not answer in time.
        DeviceError: something else is printed in between.
    """
    try:
        line = process.read_line(timeout_s)
    except TimeoutError as error:
        raise UnreachableError(f"{where} did not answer within {timeout_s:g} s.") from error
    if line is None:
        return None
    try:
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    except ValueError:
        pass
    shown = line.decode(errors="replace").strip()[:80]
    raise DeviceError(
        f"{where} says '{shown}' where only a program's output is expected; its account must allow commands, and its "
        "shell must print nothing when one is run (look in ~/.bashrc there)."
    )


def _reception() -> str:
    return resources.files("hwnas.agent").joinpath("reception.py").read_text(encoding="utf-8")

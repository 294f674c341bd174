"""How an agent lives on a board that a host reaches over SSH.

``hold`` runs as long as the host is connected: it has the board's lease, ends agents when told, and ends the agent when
it hears nothing more of the host.  ``attend`` is an agent in the session's directory, which outlives each of them.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List

from .environment import begin_undisturbed
from .lease import HeldError, Lease
from .private import private_directory
from .protocol import AgentError
from .reception import cache_root
from .settings import Settings

LEASE_S = 90.0
"""A session that was not heard of for so long has lost the board."""
SILENCE_S = 60.0
"""An agent whose host was not heard of for so long is ended, while the board is still its session's."""
RETURN_S = 15.0
"""How long a board waits for the return of a host that hung up."""
_SECONDS_TO_DIE = 5.0
_GUARD = "agent.pid"
_SILENCE = "silence"


def hold(session: str, owner: str) -> None:
    """Have the board for a session until told to ``end``, a hang-up, or silence; ``keep`` prolongs the lease."""
    lease, home = Lease(session, owner), _home(session)
    try:
        lease.take(LEASE_S)
        _clear(except_for=private_directory(home))
    except HeldError as error:
        _say({"held_by": error.owner, "seconds": error.seconds})
        return
    except OSError as error:
        _say({"error": "%s: %s" % (error.filename or home, error.strerror or error)})
        return
    _say({"ready": True})
    try:
        _obey(lease, home)
    except HeldError:  # this process was stopped for so long that another session came
        end_agent(home)


def _obey(lease: Lease, home: Path) -> None:
    """Do what the host says, until it says no more.

    Raises:
        HeldError: the board was lost to another session.
    """
    for command in _commands(sys.stdin.fileno()):
        if command == "keep":
            lease.take(LEASE_S)
        elif command == "kill":
            end_agent(home)
            _say({"ready": True})
        elif command == "end":
            end_agent(home)
            _restore_settings()
            shutil.rmtree(str(home), ignore_errors=True)
            lease.release()
            _say({"ready": True})
            return
        elif command == _SILENCE and lease.shorten(RETURN_S):
            end_agent(home)
            _restore_settings()
    lease.shorten(RETURN_S)


def _restore_settings() -> None:
    """Set back what the agent had set, before another session may have the board."""
    try:
        Settings().restore_left()
    except (AgentError, OSError) as error:
        sys.stderr.write("%s\n" % error)


def attend(session: str) -> int:
    """Be the session's agent, in place of the one before."""
    begin_undisturbed()
    if os.getpgrp() != os.getpid():
        os.setsid()
    home = private_directory(_home(session))
    end_agent(home)
    guard = os.open(str(home / _GUARD), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(guard, fcntl.LOCK_EX)  # until this process ends, however that is
    os.ftruncate(guard, 0)
    os.pwrite(guard, b"%d" % os.getpid(), 0)

    from . import server

    return server.main(["--home", str(home)])


def end_agent(home: Path) -> None:
    """Kill the agent that lives in ``home`` with all that it started, if there is one.

    Raises:
        TimeoutError: it does not die.
    """
    try:
        guard = os.open(str(home / _GUARD), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        deadline = time.monotonic() + _SECONDS_TO_DIE
        while not _locked(guard):
            if time.monotonic() > deadline:
                raise TimeoutError("the agent in %s does not die" % home)
            _kill_group(os.pread(guard, 20, 0))
            time.sleep(0.01)
    finally:
        os.close(guard)


def _locked(guard: int) -> bool:
    """Whether the guard could be locked, because no living agent has it."""
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kill_group(written: bytes) -> None:
    if written:  # else the agent is about to write its number
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(written), signal.SIGKILL)


def _clear(except_for: Path) -> None:
    """Remove what sessions left behind that the board was taken from, and what their agents were run from."""
    for home in except_for.parent.iterdir():
        if home != except_for:
            end_agent(home)
            shutil.rmtree(str(home), ignore_errors=True)
    for archive in cache_root().joinpath("agents").glob("*.pyz"):
        if archive.name != Path(sys.argv[0]).name:
            archive.unlink()


def _commands(descriptor: int) -> Iterator[str]:
    """What the host says, line by line, until it hangs up; ``_SILENCE`` if it says nothing for too long."""
    heard = b""
    while select.select([descriptor], [], [], SILENCE_S)[0]:
        piece = os.read(descriptor, 4096)
        if not piece:
            return
        *lines, heard = (heard + piece).split(b"\n")
        for line in lines:
            yield line.decode("ascii", errors="replace")
    yield _SILENCE


def _home(session: str) -> Path:
    return cache_root() / "sessions" / session


def _say(message: Dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(arguments: List[str]) -> int:
    """``hold`` or ``attend``."""
    parser = argparse.ArgumentParser(prog="hwnas.agent")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("hold", "attend"):
        command = commands.add_parser(name)
        command.add_argument("session")
        if name == "hold":
            command.add_argument("owner")
    options = parser.parse_args(arguments)
    if options.command == "attend":
        return attend(options.session)
    hold(options.session, options.owner)
    return 0

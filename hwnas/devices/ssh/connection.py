"""A board that is reached over SSH."""

from __future__ import annotations

import getpass
import logging
import os
import secrets
import socket
import time

import asyncssh

from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.errors import UnreachableError
from hwnas.devices.ssh.agent import SshAgent
from hwnas.devices.ssh.board import Board
from hwnas.devices.ssh.delivery import deliver
from hwnas.devices.ssh.dialling import Dialler, Hop, hang_up
from hwnas.devices.ssh.loop import LoopThread
from hwnas.devices.target import Ssh
from hwnas.errors import UserError
from hwnas.questions import Nobody, Questions

RETURNS_WITHIN_S = 180.0
"""How long a board that was reached before is tried again: as long as it takes to start anew, or to plug it in."""
_RETRY_S = 1.0

_log = logging.getLogger(__name__)


class SshConnection(Connection):
    """Starts agents on a board, in a directory there that is this session's.

    The first agent makes the connection; when that breaks, the next one makes another, and finds the directory as it
    was.  The board is no other session's meanwhile.
    """

    def __init__(
        self, settings: Ssh, questions: Questions | None = None, returns_within_s: float = RETURNS_WITHIN_S
    ) -> None:
        """``questions`` answers what only a person knows.

        Raises:
            UserError: the settings do not say where the board is.
        """
        if settings.host is None:
            raise UserError(
                "the target does not say where the board is; `hwnas targets add NAME --ssh USER@HOST` writes that"
            )
        self._settings = settings
        self._hop = Hop(settings.host, settings.user, settings.port)
        self._where = settings.host
        self._returns_within_s = returns_within_s
        self._loop = LoopThread()
        self._dialler = Dialler(self._loop, settings, questions or Nobody())
        self._session = secrets.token_hex(8)
        self._way: list[asyncssh.SSHClientConnection] = []
        self._board: Board | None = None
        self._reached = self._given_up = False

    def start_agent(self) -> AgentProcess:
        """An agent on the board, over another connection where the one before broke.

        Raises:
            UnreachableError: nobody answers there, or no longer.
            DeviceError: the board cannot be entered, has no Python, or is another session's.
            UserError: the client configuration, a key or ``known_hosts`` is wrong.
        """
        deadline = time.monotonic() + (self._returns_within_s if self._reached else 0.0)
        while True:
            try:
                board = self._board if self._board is not None and self._board.alive else self._taken()
                return SshAgent(board.start_agent(), board)
            except UnreachableError as error:
                self._hang_up()
                if self._given_up or time.monotonic() >= deadline:
                    raise
                _log.info("%s It is tried again.", error)
                time.sleep(_RETRY_S)

    def give_up(self) -> None:
        """Try once, and not again."""
        self._given_up = True

    def close(self) -> None:
        """Remove the directory, let go of the board and hang up."""
        if self._board is not None:
            self._board.close()
        self._hang_up()
        self._loop.close()

    def _taken(self) -> Board:
        self._hang_up()
        jumps = [Hop.parse(jump) for jump in self._settings.jump]
        self._way = self._dialler.dial(self._hop, jumps or None)
        agent = deliver(self._loop, self._way[-1], self._where, self._settings.python)
        self._board = Board(self._loop, self._way[-1], self._where, agent, self._session, _owner())
        self._reached = True
        return self._board

    def _hang_up(self) -> None:
        way, self._way, self._board = self._way, [], None
        hang_up(self._loop, way)


def _owner() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"

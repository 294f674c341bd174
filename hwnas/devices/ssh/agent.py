"""An agent on a board."""

from __future__ import annotations

from hwnas.devices.base import AgentProcess
from hwnas.devices.errors import AgentLostError, AgentTimeoutError
from hwnas.devices.ssh.board import Board
from hwnas.devices.ssh.process import RemoteProcess


class SshAgent(AgentProcess):
    """A program at the other end of an SSH channel."""

    def __init__(self, process: RemoteProcess, board: Board) -> None:
        self._process, self._board = process, board
        self._given_up = False

    @property
    def alive(self) -> bool:
        """Whether the agent runs, the wire is whole and so was its last reply."""
        return not self._given_up and self._process.alive

    def exchange(self, line: bytes, timeout_s: float) -> bytes:
        """Write, then wait for one line."""
        reply = None
        try:
            if self.alive:
                self._process.write(line)
                reply = self._process.read_line(timeout_s)
        except TimeoutError as error:
            raise AgentTimeoutError(f"it did not answer within {timeout_s:g} s and was killed") from error
        finally:
            if reply is None:
                self.kill()
        if reply is None:
            raise AgentLostError(self._process.end())
        return reply

    def last_words(self) -> str:
        """What the agent last wrote to its stderr."""
        return self._process.last_words()

    def kill(self) -> None:
        """Have the board kill it, once; afterwards there may be another."""
        if not self._given_up:
            self._given_up = True
            if self._process.alive:
                self._board.kill_agent()
                self._process.leave()
            self._process.close()

    def stop(self) -> None:
        """Hang up, which ends the agent; kill it if that takes too long."""
        if self.alive and self._process.leave():
            self._given_up = True
        self.kill()

"""A program on a board: lines to it, lines from it, and its end."""

from __future__ import annotations

import queue
import shlex
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import asyncssh

from hwnas.agent.protocol import MAX_LINE_BYTES
from hwnas.devices.ssh.loop import LoopThread

_LINES_KEPT = 40
_LONGEST_LINE = 500
_STARTS_WITHIN_S = 30.0
_LEAVES_WITHIN_S = 5.0
_CLOSED = "the SSH connection was closed"


class RemoteProcess:
    """One program, started by the board's SSH server."""

    def __init__(self, loop: LoopThread, connection: asyncssh.SSHClientConnection, command: Sequence[str]) -> None:
        """Raises ``asyncssh.Error`` or ``OSError`` when the connection does not let it start."""
        self._loop = loop
        self._session = _Session()
        self._channel, _ = loop.run(
            connection.create_session(lambda: self._session, "exec " + shlex.join(command), encoding=None),
            _STARTS_WITHIN_S,
        )

    @property
    def alive(self) -> bool:
        """Whether the program runs and the way to it is there."""
        return not self._session.ended.is_set()

    def write(self, data: bytes) -> None:
        """Send ``data``, as far as the program takes it; what comes too late for it is lost."""
        self._loop.call(self._session.write, data)

    def hang_up(self) -> None:
        """Let the program's input end."""
        self._loop.call(self._session.end_input)

    def read_line(self, timeout_s: float) -> bytes | None:
        """The next line, ``None`` when there will be no more.

        Raises:
            TimeoutError: after ``timeout_s`` seconds.
        """
        try:
            line = self._session.lines.get(timeout=max(0.0, timeout_s))
        except queue.Empty as error:
            raise TimeoutError from error
        if line is None:
            self._session.lines.put(None)  # whoever asks again shall not wait
        return line

    def leave(self, timeout_s: float = _LEAVES_WITHIN_S) -> bool:
        """Let the program's input end and wait for its own end; gives whether that came."""
        self.hang_up()
        return self._session.ended.wait(timeout_s)

    def close(self) -> None:
        """Let go of the program, whatever it does."""
        self._loop.call(self._channel.abort)

    def end(self) -> str:
        """How it ended, as a clause."""
        return self._session.end

    def last_words(self) -> str:
        """The last lines of its stderr."""
        return "\n".join(self._session.words())


class _Session(asyncssh.SSHClientSession[bytes]):
    """Called in the loop's thread; what others read is safe to read from theirs."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.ended = threading.Event()
        self.end = _CLOSED
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._words: deque[str] = deque(maxlen=_LINES_KEPT)
        self._word = b""

    def words(self) -> list[str]:
        """The last lines of stderr."""
        return [*self._words, *([self._word.decode(errors="replace")] if self._word else [])]

    def write(self, data: bytes) -> None:
        """Send, unless the channel is closed."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write(data)

    def end_input(self) -> None:
        """Send the end of input, unless the channel is closed."""
        if self._channel is not None and not self._channel.is_closing():
            self._channel.write_eof()

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            *lines, self._word = (self._word + data).split(b"\n")
            self._words.extend(line[:_LONGEST_LINE].decode(errors="replace") for line in lines)
            self._word = self._word[-_LONGEST_LINE:]
            return
        first, *rest = data.split(b"\n")
        self._pieces.append(first)
        self._size += len(first)
        for piece in rest:
            self.lines.put(b"".join(self._pieces) + b"\n")
            self._pieces, self._size = [piece], len(piece)
        if self._size > MAX_LINE_BYTES and self._channel is not None:
            self._ended("it answered without end")
            self._channel.abort()

    def eof_received(self) -> bool:
        return True  # the exit status comes after it

    def exit_status_received(self, status: int) -> None:
        self._ended(f"it ended with exit code {status}")

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        self._ended(f"it was killed by SIG{signal}")

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._ended(f"the SSH connection broke ({exc})")
        self.ended.set()
        self.lines.put(None)

    def _ended(self, how: str) -> None:
        """Keep the first cause: others follow from it."""
        if self.end == _CLOSED:
            self.end = how

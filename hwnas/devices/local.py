"""This machine as a device: the agent as a child process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from hwnas.agent.environment import undisturbed
from hwnas.agent.protocol import MAX_LINE_BYTES
from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.errors import AgentLostError, AgentTimeoutError
from hwnas.errors import DeviceError

_AGENT = (sys.executable, "-m", "hwnas.agent")
_SECONDS_TO_LEAVE = 2.0
_LINES_KEPT = 40
_LONGEST_LINE = 500


class LocalConnection(Connection):
    """Starts agents as child processes that share one private temporary directory."""

    def __init__(self, command: Sequence[str] = _AGENT) -> None:
        """``command`` starts an agent; ``--home`` and its value are appended."""
        self._command = tuple(command)
        self._home = Path(tempfile.mkdtemp(prefix="hwnas-agent-"))

    def start_agent(self) -> AgentProcess:
        """A new child process."""
        self._home.mkdir(mode=0o700, exist_ok=True)  # an agent that left by itself has removed it
        return LocalAgent([*self._command, "--home", str(self._home), "--ephemeral"], self._home)

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._home, ignore_errors=True)


class LocalAgent(AgentProcess):
    """A child process in a session of its own, killed with everything that it started."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=directory,  # `python -m` puts the working directory first on its path: let it be an empty one
                env=_undisturbed_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f"the agent could not be started with {command[0]} ({error.strerror}).") from error
        self._alive = True
        self._expired = False
        self._killed = False
        self._lock = threading.Lock()
        self._words: deque[str] = deque(maxlen=_LINES_KEPT)
        self._listener = threading.Thread(target=self._listen, name="agent-stderr", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether the child runs and its last reply was whole."""
        return self._alive and self._process.poll() is None

    def exchange(self, line: bytes, timeout_s: float) -> bytes:
        """Write, then read one line; a watchdog kills the child when the time is over, which ends either."""
        assert self._process.stdin is not None and self._process.stdout is not None
        watchdog = threading.Timer(timeout_s, self._expire)
        watchdog.daemon = True
        watchdog.start()
        reply = b""
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            reply = self._process.stdout.readline(MAX_LINE_BYTES)
        except (OSError, ValueError):
            pass  # a broken or closed pipe: there is no reply, which is told below
        finally:
            watchdog.cancel()
            if not reply.endswith(b"\n"):
                self.kill()
        if reply.endswith(b"\n"):
            return reply
        if self._expired:
            raise AgentTimeoutError(f"it did not answer within {timeout_s:g} s and was killed")
        raise AgentLostError("it answered without end" if len(reply) == MAX_LINE_BYTES else self._end())

    def last_words(self) -> str:
        """What the child last wrote to its stderr."""
        if not self.alive:
            self._listener.join(_SECONDS_TO_LEAVE)
        return "\n".join(self._words)

    def kill(self) -> None:
        """Kill the child's process group, once: afterwards its number may be another's."""
        with self._lock:
            self._alive = False
            if not self._killed:
                self._killed = True
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Hang up, which ends the agent; kill it if that takes too long."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._alive = False
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_LEAVE)
        self.kill()
        self._process.stdout.close()
        self._listener.join(_SECONDS_TO_LEAVE)

    def _expire(self) -> None:
        self._expired = True
        self.kill()

    def _end(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"it was killed by {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while line := stream.readline(_LONGEST_LINE):
                self._words.append(line.decode(errors="replace").rstrip())


def _undisturbed_environment() -> dict[str, str]:
    """This process's environment without what disturbs, in which Python finds hwnas."""
    return undisturbed(os.environ) | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

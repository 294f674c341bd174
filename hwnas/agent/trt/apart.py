"""Work with a native library in a process of its own, which may crash, hang or eat memory without harm to the agent."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Optional

from .. import protocol
from ..processes import module_command, module_environment
from ..protocol import AgentError, ErrorKind, Message
from ..sensors import memory_bytes

_CHILD = __name__.rpartition(".")[0] + ".child"  # in a zipapp Python 3.8 knows __package__ only later
_POLL_SECONDS = 0.02


def run_apart(what: str, task: Message, timeout_s: Optional[float] = None, memory_mib: Optional[int] = None) -> Message:
    """What a task of :mod:`.child` gives, performed in a child process.

    Args:
        what: what it is called in an error's sentence.
        task: in JSON's types.
        timeout_s: when to kill it; ``None``: never.
        memory_mib: kill it when more of it is resident; ``None``: leave that to the system.

    Raises:
        AgentError: ``timeout``; ``out-of-memory`` when it took too much, or the system killed it for want of memory;
            ``internal`` when it crashed; or what the task itself raised.
    """
    with tempfile.TemporaryFile() as replies:
        child = subprocess.Popen(
            module_command(_CHILD), stdin=subprocess.PIPE, stdout=replies, env=module_environment()
        )
        assert child.stdin is not None
        with child.stdin as tasks:  # open until the child has ended: its end tells the child that this process is gone
            try:
                tasks.write(protocol.encode(task))
                tasks.flush()
                _watch(child, what, timeout_s, memory_mib)
            except BrokenPipeError:
                pass  # the child ended before it read its task; its exit code tells why
            finally:
                child.kill()
                code = child.wait()
        replies.seek(0)
        return _result(what, code, replies.read())


def _watch(child: "subprocess.Popen[bytes]", what: str, timeout_s: Optional[float], memory_mib: Optional[int]) -> None:
    """Wait for the child's end, or raise when it takes too much time or memory."""
    start = time.monotonic()
    while True:
        try:
            child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        if timeout_s is not None and time.monotonic() - start > timeout_s:
            raise AgentError(ErrorKind.TIMEOUT, "%s took longer than %.3g s and was given up" % (what, timeout_s))
        if memory_mib is not None:
            resident = memory_bytes("VmRSS", Path("/proc/%d/status" % child.pid)) or 0
            if resident > memory_mib << 20:
                message = "%s took %d MiB of memory where %d are allowed" % (what, resident >> 20, memory_mib)
                raise AgentError(ErrorKind.OUT_OF_MEMORY, message)


def _result(what: str, code: int, reply: bytes) -> Message:
    """What the child answered, or what its end means."""
    if code == -signal.SIGKILL:
        raise AgentError(ErrorKind.OUT_OF_MEMORY, "the system killed %s, which it does for want of memory" % what)
    if code < 0:
        raise AgentError(ErrorKind.INTERNAL, "the library crashed in %s (%s)" % (what, signal.Signals(-code).name))
    try:
        answer = json.loads(reply)
        if answer["ok"]:
            result: Message = answer["result"]
            return result
        error = AgentError(str(answer["error"]["kind"]), str(answer["error"]["message"]))
    except (ValueError, LookupError, TypeError):
        error = AgentError(ErrorKind.INTERNAL, "%s ended with exit code %d and no answer" % (what, code))
    raise error

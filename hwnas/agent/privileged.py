"""Commands that take root's rights: run as they are by root, by others through a sudo that asks nobody."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from .protocol import AgentError, ErrorKind

_TIMEOUT_S = 60.0
_SUPERUSERS_PATH = ("/usr/sbin", "/sbin", "/usr/bin")
"""A session over SSH may not have these on its path."""
_REFUSED = re.compile(r"sudo: |not allowed to execute|not in the sudoers")


class Told(NamedTuple):
    """What a command printed, on both of its streams, and its exit status."""

    status: int
    text: str


def find_command(name: str) -> Optional[str]:
    """Where a command is; ``None`` where there is none of the name."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SUPERUSERS_PATH))


def run_privileged(command: Sequence[str], given: Optional[str] = None) -> Told:
    """Run a command; whatever it asks stays unanswered.

    Args:
        command: the program's path and its arguments.
        given: what it reads; ``None``: it reads the end at once.

    Raises:
        AgentError: ``not-permitted`` where this user may not run it so, ``device-fault`` when it hangs or is not there.
    """
    try:
        done = subprocess.run(
            [*_prefix(), *command],
            input=(given or "").encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, LC_ALL="C"),
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise _not_permitted(command) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(ErrorKind.DEVICE_FAULT, "%s failed: %s" % (command[0], error)) from error
    text = done.stdout.decode("utf-8", errors="replace")
    if done.returncode and _REFUSED.search(text):
        raise _not_permitted(command)
    return Told(done.returncode, text)


def write_privileged(path: Path, text: str) -> None:
    """Write one of the kernel's small files.

    Raises:
        AgentError: ``not-permitted`` where this user may not, ``device-fault`` where the kernel refuses the value.
    """
    try:
        path.write_text(text)
    except PermissionError as error:
        if _is_root():
            raise AgentError(ErrorKind.NOT_PERMITTED, "not even root may write %s here" % path) from error
        told = run_privileged([find_command("tee") or "tee", str(path)], given=text)
        if told.status:
            raise AgentError(ErrorKind.DEVICE_FAULT, "%s takes no '%s'" % (path, text)) from error
    except OSError as error:
        raise AgentError(ErrorKind.DEVICE_FAULT, "%s takes no '%s': %s" % (path, text, error.strerror)) from error


def _is_root() -> bool:
    return os.geteuid() == 0


def _prefix() -> List[str]:
    return [] if _is_root() else ["sudo", "-n"]


def _not_permitted(command: Sequence[str]) -> AgentError:
    name = Path(command[0]).name
    return AgentError(
        ErrorKind.NOT_PERMITTED,
        "%s takes root's rights, which sudo does not give here without a password; log in as root, or let sudo run %s "
        "so (NOPASSWD in /etc/sudoers.d)" % (name, command[0]),
    )

"""How settings were before somebody changed them: on disk, and locked by whoever did as long as he lives."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Container, Dict, Optional

from .lease import boot_id
from .private import private_directory
from .protocol import AgentError, ErrorKind
from .reception import cache_root
from .slots import durable
from .slots.disk import Disk
from .sysfs import read_text

ENDS_WITHIN_S = 60.0
"""How long whoever has the lock may take to set back what he changed."""
_DISK = Disk()


class SettingsRecord:
    """What was found, by the names of settings; whoever reads, writes or forgets it has the lock."""

    def __init__(self, directory: Optional[Path] = None) -> None:
        """``directory`` is this user's alone; ``None``: it lies with all else that hwnas keeps for him."""
        self._given = directory
        self._lock: Optional[int] = None

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._given or cache_root() / "settings"

    @property
    def exists(self) -> bool:
        """Whether settings are changed at the moment."""
        return self._before.exists()

    @property
    def locked(self) -> bool:
        """Whether this object has the lock."""
        return self._lock is not None

    def lock(self, patience_s: float = ENDS_WITHIN_S) -> None:
        """Take the lock, which the kernel gives free when this process ends.

        Raises:
            AgentError: ``in-use``, when another process has it for so long.
            OSError: the directory is another user's, or cannot be written.
        """
        if self.locked:
            return
        descriptor = self._opened()
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    os.close(descriptor)
                    raise AgentError(
                        ErrorKind.IN_USE, "another session of this user has set its power mode or clocks"
                    ) from error
                time.sleep(0.1)
            else:
                self._lock = descriptor
                return

    def wait(self) -> None:
        """Until whoever has the lock lets go of it; that disturbs nobody."""
        descriptor = self._opened()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        finally:
            os.close(descriptor)

    def unlock(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, outliving: Container[str]) -> Dict[str, Any]:
        """What is still changed: a restart of the board sets back all but the ``outliving`` settings."""
        try:
            record = json.loads(read_text(self._before) or "{}")
            before, boot = dict(record["before"]), record["boot"]
        except (ValueError, LookupError, TypeError):  # none, or none of ours: ours are whole
            return {}
        return {name: value for name, value in before.items() if boot == boot_id() or name in outliving}

    def write(self, before: Dict[str, Any]) -> None:
        """It is on the medium when this returns."""
        durable.replace(_DISK, self._before, json.dumps({"boot": boot_id(), "before": before}).encode())

    def forget(self) -> None:
        """All is as it was."""
        durable.remove(_DISK, self._before)
        durable.sync(_DISK, self.directory)

    def _opened(self) -> int:
        private_directory(self.directory)
        return os.open(str(self.directory / "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def _before(self) -> Path:
        return self.directory / "before.json"

"""What of the device is set otherwise while it is measured, and set back afterwards, whatever happens.

How it was is on disk before anything is changed.  Whoever changed it holds a lock until it ends; its keeper, a process
of its own, waits for that lock and then sets back what is still changed.  Where both were killed, or the board was
restarted, the next agent does it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

from .clocklock import CardClocks, CpuClocks, JetsonClocks
from .lease import boot_id
from .powermode import PowerModeSetting
from .private import private_directory
from .privileged import find_command
from .processes import module_command, module_environment
from .protocol import AgentError, ErrorKind, Fields
from .reception import cache_root
from .sysfs import read_text

_ROOT = Path("/")
_LOCK, _BEFORE = "lock", "before.json"
ENDS_WITHIN_S = 60.0
"""How long a keeper or another agent may take to set back what it changed."""

Setting = Union[PowerModeSetting, JetsonClocks, CardClocks, CpuClocks]


@dataclass(frozen=True)
class Wish:
    """What is to be set otherwise."""

    power_mode: Optional[str] = None
    known_modes: Dict[str, int] = field(default_factory=dict)
    """Modes that such devices may have, by name."""
    lock_clocks: bool = False
    gpu: bool = False
    """Whether a GPU computes."""

    @classmethod
    def from_message(cls, fields: Fields, gpu: bool) -> "Wish":
        """What a request asks for.

        Raises:
            AgentError: ``bad-request`` when a field is wrong.
        """
        known = fields.record("known_modes", {})
        modes = Fields(known)
        return cls(
            power_mode=fields.text("power_mode") if fields.has("power_mode") else None,
            known_modes={name: modes.integer(name, least=0) for name in known},
            lock_clocks=fields.flag("lock_clocks", False),
            gpu=gpu,
        )


class _Left(NamedTuple):
    """What stands on disk: how things were, by the names of settings, and the start of the board that it was in."""

    before: Dict[str, Any]
    boot: Optional[str]


class Settings:
    """The settings of this device, as this process changed them."""

    def __init__(self, root: Path = _ROOT, directory: Optional[Path] = None) -> None:
        """
        Args:
            root: the directory that has ``etc``, ``sys`` and ``var``.
            directory: where is written how things were; ``None``: with all else that hwnas keeps for this user.
        """
        self._root = root
        self._directory = directory or cache_root() / "settings"
        self._busy = threading.Lock()
        self._lock: Optional[int] = None
        self.told: Dict[str, Any] = {}
        """What was set, as read back."""

    def change(self, wish: Wish) -> Dict[str, Any]:
        """Set what is wished; gives it as read back.

        Raises:
            AgentError: ``bad-request`` where the device has no such thing or it takes a restart, ``not-permitted``
                where the rights are missing, ``in-use`` where another process has changed settings; nothing is changed
                then.
        """
        with self._busy:
            self._acquire()
            try:
                self._change(wish)
            except AgentError:
                self._restore()
                raise
            return self.told

    def restore(self) -> List[str]:
        """Set back what is changed; gives the names of the settings.

        Raises:
            AgentError: something could not be set back.
        """
        with self._busy:
            return [] if self._lock is None else self._restore()

    def restore_left(self, patience_s: float = 0.0) -> List[str]:
        """Set back what a process changed that is no more; where none did, or it lives so long, nothing is done.

        Raises:
            AgentError: something could not be set back.
        """
        if not (self._directory / _BEFORE).exists():
            return []
        with self._busy:
            try:
                self._acquire(patience_s)
            except AgentError:
                return []
            return self._restore()

    def _change(self, wish: Wish) -> None:
        wished, left = self._wished(wish), self._left()
        before = {name: setting.read() for name, setting in wished.items() if name not in left.before}
        self._write(_Left({**before, **left.before}, boot_id()))
        self._start_keeper()
        for name, setting in wished.items():
            if wish.lock_clocks or name == PowerModeSetting.name:
                self.told.update(setting.change())

    def _wished(self, wish: Wish) -> Dict[str, Setting]:
        """What is changed or may change with it, by name; clocks come after the mode, which sets their limits.

        A Jetson's clocks are therefore kept in mind whenever its mode changes.
        """
        settings: List[Setting] = []
        jetson = find_command("nvpmodel") or find_command("jetson_clocks")
        if wish.power_mode is not None:
            settings.append(PowerModeSetting(self._root, wish.power_mode, wish.known_modes))
        if jetson and (wish.lock_clocks or find_command("jetson_clocks")):
            settings.append(JetsonClocks())
        elif wish.lock_clocks:
            settings.append(CardClocks() if wish.gpu else CpuClocks(self._root))
        return {setting.name: setting for setting in settings}

    def _restore(self) -> List[str]:
        """Of what is on disk, and let go of the lock."""
        left, failed, reasons = self._left(), {}, []
        try:
            for name, before in sorted(left.before.items(), key=lambda item: item[0] != PowerModeSetting.name):
                try:
                    self._setting(name).restore(before)
                except (AgentError, OSError) as error:
                    failed[name] = before
                    reasons.append(str(error))
            if failed:
                self._write(_Left(failed, left.boot))
                raise AgentError(
                    ErrorKind.DEVICE_FAULT,
                    "not everything could be set back as it was (%s); the next agent on it tries again"
                    % "; ".join(reasons),
                )
            self._forget()
            return list(left.before)
        finally:
            self.told = {}
            self._release()

    def _setting(self, name: str) -> Setting:
        known: Dict[str, Callable[[], Setting]] = {
            PowerModeSetting.name: lambda: PowerModeSetting(self._root),
            JetsonClocks.name: JetsonClocks,
            CardClocks.name: CardClocks,
            CpuClocks.name: lambda: CpuClocks(self._root),
        }
        return known[name]()

    def _left(self) -> _Left:
        """What is on disk and still so: a restart of the board sets back all but its power mode."""
        try:
            record = json.loads(read_text(self._directory / _BEFORE) or "{}")
        except ValueError:  # written by something else: files of ours are whole
            return _Left({}, None)
        before, boot = record.get("before", {}), record.get("boot")
        if boot != boot_id():
            before = {name: value for name, value in before.items() if name == PowerModeSetting.name}
        return _Left(before, boot)

    def _write(self, left: _Left) -> None:
        path = self._directory / _BEFORE
        partial = path.with_suffix(".part")
        with partial.open("w") as file:
            json.dump({"boot": left.boot, "before": left.before}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        self._sync_directory()

    def _forget(self) -> None:
        (self._directory / _BEFORE).unlink(missing_ok=True)
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(str(self._directory), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _acquire(self, patience_s: float = ENDS_WITHIN_S) -> None:
        """Take the lock, which the kernel gives free when this process ends.

        Raises:
            AgentError: ``in-use``, when another process has it for so long.
        """
        if self._lock is not None:
            return
        private_directory(self._directory)
        descriptor = os.open(str(self._directory / _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _start_keeper(self) -> None:
        """In a session of its own, so that it outlives whoever kills this process with all that it started."""
        subprocess.Popen(
            module_command(__name__, str(self._root), str(self._directory)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=module_environment(),
            start_new_session=True,
        )


def keep(root: Path, directory: Path) -> None:
    """Wait until the process that changed settings has ended or set them back; then set back what is left."""
    descriptor = os.open(str(directory / _LOCK), os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.close(descriptor)
    with contextlib.suppress(AgentError):  # it stays on disk for the next agent
        Settings(root, directory).restore_left()


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))

"""What of the device is set otherwise while it is measured, and set back afterwards, whatever happens.

How it was is on disk before anything is changed.  Whoever changed it holds a lock until it ends; its keeper, a process
of its own, waits for that lock and then sets back what is still changed.  Where both were killed, or the board was
restarted, the next agent does it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Union

from .clocklock import CardClocks, CpuClocks, JetsonClocks
from .powermode import PowerModeSetting
from .privileged import find_command
from .processes import module_command, module_environment
from .protocol import AgentError, ErrorKind, Fields
from .settings_record import ENDS_WITHIN_S, SettingsRecord

_ROOT = Path("/")
_OUTLIVING = (PowerModeSetting.name,)
"""What a restart of the board does not set back."""

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


class Settings:
    """The settings of this device, as this process changed them."""

    def __init__(self, root: Path = _ROOT, directory: Optional[Path] = None) -> None:
        """
        Args:
            root: the directory that has ``etc``, ``sys`` and ``var``.
            directory: of the :class:`SettingsRecord`.
        """
        self._root = root
        self._record = SettingsRecord(directory)
        self._busy = threading.Lock()
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
            self._record.lock()
            try:
                self._change(wish)
            except (AgentError, OSError):
                self._restore()
                raise
            return self.told

    def restore(self) -> List[str]:
        """Set back what is changed; gives the names of the settings.

        Raises:
            AgentError: something could not be set back.
        """
        with self._busy:
            return self._restore() if self._record.locked else []

    def restore_left(self, patience_s: float = 0.0) -> List[str]:
        """Set back what a process changed that is no more; where none did, or it lives so long, nothing is done.

        Raises:
            AgentError: something could not be set back.
        """
        with self._busy:
            if not self._record.exists:
                return []
            try:
                self._record.lock(patience_s)
            except AgentError:
                return []
            return self._restore()

    def _change(self, wish: Wish) -> None:
        wished, left = self._wished(wish), self._record.read(_OUTLIVING)
        before = {name: setting.read() for name, setting in wished.items() if name not in left}
        self._record.write({**before, **left})
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
        """Of what is on disk, the mode first; and let go of the lock."""
        before, failed, reasons = self._record.read(_OUTLIVING), {}, []
        try:
            for name in sorted(before, key=lambda name: name != PowerModeSetting.name):
                try:
                    self._setting(name).restore(before[name])
                except (AgentError, OSError) as error:
                    failed[name] = before[name]
                    reasons.append(str(error))
            if failed:
                self._record.write(failed)
                raise AgentError(
                    ErrorKind.DEVICE_FAULT,
                    "not everything could be set back as it was (%s); the next agent on it tries again"
                    % "; ".join(reasons),
                )
            self._record.forget()
            return list(before)
        finally:
            self.told = {}
            self._record.unlock()

    def _setting(self, name: str) -> Setting:
        known: Dict[str, Callable[[], Setting]] = {
            PowerModeSetting.name: lambda: PowerModeSetting(self._root),
            JetsonClocks.name: JetsonClocks,
            CardClocks.name: CardClocks,
            CpuClocks.name: lambda: CpuClocks(self._root),
        }
        if name not in known:
            raise AgentError(ErrorKind.INTERNAL, "'%s' is a setting of another version of hwnas" % name)
        return known[name]()

    def _start_keeper(self) -> None:
        """In a session of its own, so that it outlives whoever kills this process with all that it started."""
        subprocess.Popen(
            module_command(__name__, str(self._root), str(self._record.directory)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=module_environment(),
            start_new_session=True,
        )


def keep(root: Path, directory: Path) -> None:
    """Wait until the process that changed settings has ended or set them back; then set back what is left."""
    SettingsRecord(directory).wait()
    with contextlib.suppress(AgentError):  # it stays on disk for the next agent
        Settings(root, directory).restore_left(ENDS_WITHIN_S)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))

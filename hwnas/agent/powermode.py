"""Setting a Jetson's power mode, by name, and reading back what was really set."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from . import nvpmodel
from .nvpmodel import PowerMode
from .privileged import find_command, run_privileged
from .protocol import AgentError, ErrorKind
from .sysfs import read_text


class PowerModeSetting:
    """The mode that ``nvpmodel`` sets; it outlives a restart of the board."""

    name = "power-mode"

    def __init__(self, root: Path, wanted: str = "", known: Optional[Mapping[str, int]] = None) -> None:
        """
        Args:
            root: the directory that has ``etc`` and ``var``.
            wanted: the mode's name.
            known: modes that such boards may have, by name, where this one does not tell.

        Raises:
            AgentError: ``bad-request`` where there is no nvpmodel.
        """
        self._tool = find_command("nvpmodel")
        self._wanted, self._known = wanted, dict(known or {})
        configuration = nvpmodel.parse_configuration(read_text(root / nvpmodel.CONFIGURATION) or "")
        self._here = {name: mode.id for name, mode in configuration.items()}
        if self._tool is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "it has no power modes: there is no nvpmodel")

    def read(self) -> Dict[str, Any]:
        """The mode now.

        Raises:
            AgentError: the wanted mode is unknown; this user may not set it.
        """
        self._wanted_mode()
        return self._now()._asdict()

    def change(self) -> Dict[str, Any]:
        """Set the wanted mode; gives its name as read back.

        Raises:
            AgentError: ``bad-request`` where it was not set, as a mode that takes a restart.
        """
        return {"power_mode": self._set(self._wanted_mode()).name}

    def restore(self, before: Mapping[str, Any]) -> None:
        """Set the mode that :meth:`read` gave.

        Raises:
            AgentError: it was not set.
        """
        self._set(PowerMode(before["name"], before["id"]))

    def _set(self, mode: PowerMode) -> PowerMode:
        assert self._tool is not None
        if self._now().id == mode.id:
            return mode
        told = run_privileged([self._tool, "-m", str(mode.id)]).text
        now = self._now()
        if now.id == mode.id:
            return now
        by_hand = "`sudo nvpmodel -m %d`" % mode.id
        if "eboot" in told:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "power mode %s takes a restart of the board, which is still in %s; run %s there, answer yes, and try "
                "again" % (mode.name, now.name, by_hand),
            )
        last = (told.strip().splitlines() or ["it said nothing"])[-1]
        raise AgentError(
            ErrorKind.DEVICE_FAULT,
            "the board is still in power mode %s after %s for %s (%s)" % (now.name, by_hand, mode.name, last[:200]),
        )

    def _now(self) -> PowerMode:
        assert self._tool is not None
        told = run_privileged([self._tool, "-q"]).text
        mode = nvpmodel.parse_query(told)
        if mode is None:
            last = (told.strip().splitlines() or ["nothing"])[-1]
            raise AgentError(ErrorKind.DEVICE_FAULT, "nvpmodel does not tell the power mode: %s" % last[:200])
        return mode

    def _wanted_mode(self) -> PowerMode:
        modes = self._here or self._known
        if self._wanted in modes:
            return PowerMode(self._wanted, modes[self._wanted])
        if self._wanted in self._known:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "power mode %s is one of such boards and not of this one, which has %s (/etc/nvpmodel.conf)"
                % (self._wanted, ", ".join(modes)),
            )
        names = {name.lower(): name for name in (*self._known, *modes)}
        nearest = difflib.get_close_matches(self._wanted.lower(), names, n=1, cutoff=0.0)
        hint = "; the nearest known name is '%s'" % names[nearest[0]] if nearest else ""
        raise AgentError(ErrorKind.BAD_REQUEST, "power mode '%s' is unknown%s" % (self._wanted[:40], hint))

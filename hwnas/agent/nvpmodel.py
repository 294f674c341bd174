"""Power modes of a Jetson, as its tool ``nvpmodel`` and the tool's configuration tell them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from .privileged import find_command
from .sysfs import read_text

_TIMEOUT_S = 20.0
CONFIGURATION, STATUS = "etc/nvpmodel.conf", "var/lib/nvpmodel/status"
"""Where its modes stand and where it keeps the one that is set, below the root directory; everybody may read them."""

# `nvpmodel -q` prints `NV Power Mode: MAXN` and the number on a line of its own, with `--verbose` behind other words
# and among other lines, and up to JetPack 5 below `NV Fan Mode:quiet`.
_CURRENT = re.compile(r"NV Power Mode:[ \t]*(\S+)[ \t]*\r?\n[ \t]*(\d+)[ \t]*\r?(?:\n|$)")
_STATUS = re.compile(r"pmode:(\d+)")
_MODE = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_DEFAULT = re.compile(r"^<\s*PM_CONFIG\s+DEFAULT=(\d+)")
_CORE = re.compile(r"^CPU_ONLINE CORE_\d+ 1\b")
_LIMIT = re.compile(r"^(GPU|EMC) MAX_FREQ (\d+)\b")
_HZ_PER_MHZ = 1e6


class PowerMode(NamedTuple):
    """The mode in which a board is."""

    name: str
    id: int


class ModeLimits(NamedTuple):
    """What the configuration says of a mode; ``None`` where it sets no limit."""

    id: int
    cpu_cores: Optional[int]
    gpu_max_mhz: Optional[float]
    emc_max_mhz: Optional[float]
    default: bool


def query() -> Optional[str]:
    """What ``nvpmodel -q`` prints; ``None`` where there is no such tool or it fails."""
    binary = find_command("nvpmodel")
    if binary is None:
        return None
    try:
        told = subprocess.run(
            [binary, "-q"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return told.stdout.decode("utf-8", errors="replace") if told.returncode == 0 else None


def current_mode(root: Path = Path("/")) -> Optional[PowerMode]:
    """The mode in which the board is, as the tool tells it or, where it tells it to root alone, as it keeps it."""
    told = parse_query(query() or "")
    return told or kept_mode(read_text(root / STATUS) or "", parse_configuration(read_text(root / CONFIGURATION) or ""))


def kept_mode(status: str, configuration: Dict[str, "ModeLimits"]) -> Optional[PowerMode]:
    """The mode whose number the tool keeps, by the name that the configuration gives it."""
    kept = parse_status(status)
    return next((PowerMode(name, mode.id) for name, mode in configuration.items() if mode.id == kept), None)


def parse_query(text: str) -> Optional[PowerMode]:
    """The mode that ``nvpmodel -q`` names, with or without ``--verbose``; ``None`` where it names none."""
    found = _CURRENT.search(text)
    return PowerMode(found.group(1), int(found.group(2))) if found else None


def parse_status(text: str) -> Optional[int]:
    """The number of the mode in ``/var/lib/nvpmodel/status``, which holds it from one start to the next."""
    found = _STATUS.match(text)
    return int(found.group(1)) if found else None


def parse_configuration(text: str) -> Dict[str, ModeLimits]:
    """The modes of an ``nvpmodel.conf`` by their names."""
    modes: Dict[str, ModeLimits] = {}
    name: Optional[str] = None
    default: Optional[int] = None
    for line in text.splitlines():
        if line.startswith("<"):
            head, chosen = _MODE.match(line), _DEFAULT.match(line)
            name = head.group(2) if head else None
            if head:
                modes[head.group(2)] = ModeLimits(int(head.group(1)), None, None, None, default=False)
            if chosen:
                default = int(chosen.group(1))
        elif name is not None:
            modes[name] = _with_line(modes[name], line)
    return {name: mode._replace(default=mode.id == default) for name, mode in modes.items()}


def _with_line(mode: ModeLimits, line: str) -> ModeLimits:
    if _CORE.match(line):
        return mode._replace(cpu_cores=(mode.cpu_cores or 0) + 1)
    limit = _LIMIT.match(line)
    if limit is None:
        return mode
    # Zero and one below zero are no limits.
    mhz = int(limit.group(2)) / _HZ_PER_MHZ or None
    return mode._replace(gpu_max_mhz=mhz) if limit.group(1) == "GPU" else mode._replace(emc_max_mhz=mhz)

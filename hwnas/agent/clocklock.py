"""Locking clocks, so that they do not move with the load: a Jetson's, a graphics card's, a processor's."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Dict, Mapping

from .nvml import open_nvml
from .privileged import Told, find_command, run_privileged, write_privileged
from .protocol import AgentError, ErrorKind
from .sysfs import read_number, read_text

_CLOCKED = re.compile(r"^(cpu\d+|GPU\S*|EMC)\b.*?MinFreq=(\d+) MaxFreq=(\d+)(?: CurrentFreq=(\d+))?", re.MULTILINE)
_OVERRIDDEN = re.compile(r"\bFreqOverride=1\b")
_KHZ_PER_MHZ, _HZ_PER_MHZ = 1e3, 1e6


class JetsonClocks:
    """All clocks of a Jetson at the most that its power mode allows, by ``jetson_clocks``."""

    name = "jetson-clocks"

    def __init__(self) -> None:
        """Raises AgentError ``bad-request`` where there is no jetson_clocks."""
        self._tool = find_command("jetson_clocks")
        if self._tool is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "its clocks cannot be locked: there is no jetson_clocks")

    def read(self) -> str:
        """The tool's own record of the clocks now.

        Raises:
            AgentError: this user may not, or the tool gives none.
        """
        mask = os.umask(0o022)  # root's file is to be read here
        try:
            with tempfile.TemporaryDirectory() as directory:  # the tool asks before it writes over a file
                path = Path(directory) / "clocks"
                told = self._run("--store", str(path))
                stored = read_text(path)
        finally:
            os.umask(mask)
        if not stored:
            raise AgentError(ErrorKind.DEVICE_FAULT, "jetson_clocks --store stored nothing: %s" % _last(told))
        return stored

    def change(self) -> Dict[str, Any]:
        """Lock them; gives them in MHz as read back.

        Raises:
            AgentError: ``device-fault`` where one is not locked.
        """
        self._run()
        told = self._run("--show")
        found: Dict[str, float] = {}
        for name, least, most, now in _CLOCKED.findall(told.text):
            if name == "EMC":
                locked, found["memory_mhz"] = bool(_OVERRIDDEN.search(told.text)), int(now or most) / _HZ_PER_MHZ
            elif name.startswith("cpu"):
                locked, found["cpu_mhz"] = least == most, max(found.get("cpu_mhz", 0.0), int(most) / _KHZ_PER_MHZ)
            else:
                locked, found["gpu_mhz"] = least == most, int(most) / _HZ_PER_MHZ
            if not locked:
                raise AgentError(ErrorKind.DEVICE_FAULT, "jetson_clocks left the clock of %s unlocked" % name)
        if not found:
            raise AgentError(ErrorKind.DEVICE_FAULT, "jetson_clocks --show shows no clock: %s" % _last(told))
        return {"clocks": found}

    def restore(self, before: str) -> None:
        """Give :meth:`read`'s record back to the tool.

        Raises:
            AgentError: a clock was not restored.
        """
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "clocks"
            path.write_text(before + "\n")
            told = self._run("--restore", str(path))
        failed = [line for line in told.text.splitlines() if line.startswith("Error")]
        if told.status or failed:
            raise AgentError(
                ErrorKind.DEVICE_FAULT, "jetson_clocks --restore failed: %s" % (failed or [_last(told)])[0][:200]
            )

    def _run(self, *arguments: str) -> Told:
        assert self._tool is not None
        return run_privileged([self._tool, *arguments])


class CardClocks:
    """The clock of a graphics card's multiprocessors, by its driver.

    At the one that the driver calls the default for applications where it does, else at the highest.  What somebody
    locked before is not told, so restoring unlocks.
    """

    name = "card-clocks"

    def __init__(self) -> None:
        """Raises AgentError ``bad-request`` where no card answers."""
        nvml = open_nvml()
        if nvml is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "its clocks cannot be locked: no GPU answers through nvidia-ml-py")
        self._nvml = nvml

    def read(self) -> None:
        """Nothing: the driver does not tell whether clocks are locked."""
        return

    def change(self) -> Dict[str, Any]:
        """Lock it; gives it in MHz as read back.

        Raises:
            AgentError: this user may not, or the driver refuses.
        """
        mhz = self._nvml.steady_mhz()
        if mhz is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "its clocks cannot be locked: the driver tells no clock to lock at")
        if not self._nvml.lock_clocks(mhz):
            self._by_program("--lock-gpu-clocks=%d,%d" % (mhz, mhz))
        return {"clocks": {"asked_gpu_mhz": mhz, "gpu_mhz": self._nvml.read().mhz}}

    def restore(self, before: None) -> None:  # noqa: ARG002 there is nothing to know
        """Unlock it.

        Raises:
            AgentError: it was not.
        """
        if not self._nvml.unlock_clocks():
            self._by_program("--reset-gpu-clocks")

    def _by_program(self, argument: str) -> None:
        """By sudo: the library may do it for root alone."""
        program = find_command("nvidia-smi") or "nvidia-smi"
        told = run_privileged([program, "--id=" + self._nvml.uuid(), argument])
        if told.status:
            raise AgentError(ErrorKind.DEVICE_FAULT, "nvidia-smi %s failed: %s" % (argument, _last(told)))


class CpuClocks:
    """The cores' clocks at the most that cpufreq allows at present."""

    name = "cpu-clocks"

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: the directory that has ``sys``.

        Raises:
            AgentError: ``bad-request`` where there is no cpufreq.
        """
        cores = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
        self._cores = [core for core in cores if read_number(_most(core)) is not None]
        if not self._cores:
            raise AgentError(ErrorKind.BAD_REQUEST, "its clocks cannot be locked: its kernel has no cpufreq")

    def read(self) -> Dict[str, str]:
        """What stands in the files that are changed, by their paths, in the order in which they are to be restored."""
        files = [core / name for core in self._cores for name in ("scaling_min_freq", "scaling_governor")]
        texts = {str(path): read_text(path) for path in files}
        return {path: text for path, text in texts.items() if text}

    def change(self) -> Dict[str, Any]:
        """Lock them; gives the fastest in MHz as read back.

        Raises:
            AgentError: this user may not, or the kernel keeps another clock.
        """
        for core in self._cores:
            if "performance" in (read_text(core / "scaling_available_governors") or "").split():
                write_privileged(core / "scaling_governor", "performance")
            write_privileged(core / "scaling_min_freq", read_text(_most(core)) or "")
            if read_number(core / "scaling_min_freq") != read_number(_most(core)):
                raise AgentError(ErrorKind.DEVICE_FAULT, "the kernel left the clock of %s unlocked" % core.parent.name)
        clocks = [read_number(core / "scaling_min_freq") or 0 for core in self._cores]
        return {"clocks": {"cpu_mhz": max(clocks) / _KHZ_PER_MHZ}}

    def restore(self, before: Mapping[str, str]) -> None:
        """Write what :meth:`read` gave.

        Raises:
            AgentError: the kernel does not take it.
        """
        for path, text in before.items():
            if Path(path).exists():  # a core may be off
                write_privileged(Path(path), text)


def _most(core: Path) -> Path:
    return core / "scaling_max_freq"


def _last(told: Told) -> str:
    return (told.text.strip().splitlines() or ["it said nothing"])[-1][:200]

"""Clocks of a Jetson as its own monitor ``tegrastats`` prints them: the memory's are told nowhere else without root."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Optional

_INTERVAL_MS = 100
_STALE_S = 2.0
"""A line older than this says nothing of now."""
_FIRST_LINE_S = 1.0
_SECONDS_TO_LEAVE = 1.0

# JetPack 3 prints `cpu [17%,13%]@408 EMC 1%@408 GR3D 3%@76`, 4 and 5 `CPU [2%@102,off] EMC_FREQ 0%@1600 GR3D_FREQ
# 0%@[114]`, with several graphics clusters `@[305,305]`, and 7 may leave out the load: `EMC_FREQ @4266`.
_CPU = re.compile(r"\bCPU \[([^\]]*)\](?:@(\d+))?", re.IGNORECASE)
_GPU = re.compile(r"\bGR3D(?:_FREQ)? (?:\d+%)?@\[?([^\]\s]*)")
_MEMORY = re.compile(r"\bEMC(?:_FREQ)? (?:\d+%)?@(\d+)")
_OF_A_CORE = re.compile(r"@(\d+)")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class TegraClocks:
    """The clocks of one line in MHz; ``None`` where it names none, or one that is off."""

    cpu_mhz: Optional[float] = None
    """Of the fastest core."""
    gpu_mhz: Optional[float] = None
    """Of the fastest graphics cluster."""
    memory_mhz: Optional[float] = None


def parse_line(line: str) -> TegraClocks:
    """The clocks in a line that ``tegrastats`` of any JetPack printed; of any other text there are none."""
    cpu, gpu, memory = _CPU.search(line), _GPU.search(line), _MEMORY.search(line)
    return TegraClocks(
        cpu_mhz=_fastest(_OF_A_CORE, "%s@%s" % cpu.groups()) if cpu else None,
        gpu_mhz=_fastest(_NUMBER, gpu.group(1)) if gpu else None,
        memory_mhz=_fastest(_NUMBER, memory.group(1)) if memory else None,
    )


def _fastest(clock: "re.Pattern[str]", text: str) -> Optional[float]:
    numbers = [float(found) for found in re.findall(clock, text)]
    return max(numbers, default=0.0) or None


class Tegrastats:
    """A running ``tegrastats``.

    A thread keeps its last line; nothing is parsed before it is asked for, so that the thread takes next to nothing
    from the runs that are timed meanwhile.
    """

    def __init__(self, binary: str) -> None:
        """Raises OSError where ``binary`` cannot be started; waits a moment for its first line."""
        self._process = subprocess.Popen(
            [binary, "--interval", str(_INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._line, self._heard = b"", 0.0
        self._first = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="tegrastats", daemon=True)
        self._listener.start()
        self._first.wait(_FIRST_LINE_S)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def read(self) -> TegraClocks:
        """The clocks of the last line; none where there was none lately."""
        if not self._line or time.monotonic() - self._heard > _STALE_S:
            return TegraClocks()
        return parse_line(self._line.decode("ascii", errors="replace"))

    def close(self) -> None:
        """End the process, the hard way if need be; calling it again does nothing."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(_SECONDS_TO_LEAVE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._listener.join(_SECONDS_TO_LEAVE)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._line, self._heard = line, time.monotonic()
                self._first.set()
        self._first.set()


def start_tegrastats(binary: str = "tegrastats") -> Optional[Tegrastats]:
    """A running monitor; ``None`` where the machine has none or does not let us start it."""
    path = shutil.which(binary)
    if path is None:
        return None
    try:
        return Tegrastats(path)
    except OSError:
        return None

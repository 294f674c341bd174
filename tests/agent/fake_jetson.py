"""A Jetson as files and two programs on the path, which print and ask what NVIDIA's do.

Modes are those of an Orin Nano; ``7W`` has fewer cores and so takes a restart.  What a program does not yet do, the
file ``hang`` says: a program whose name and first argument stand in it tells that it was reached by opening the FIFO
``reached``, and then waits for ever.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MODES = {
    "15W": (0, 1_510_400, 624_750_000),
    "7W": (1, 960_000, 408_000_000),
    "MAXN_SUPER": (2, 1_728_000, 1_020_000_000),
}
"""Name to number, the cores' highest clock in kHz, the GPU's in Hz."""
TAKES_RESTART = "7W"
LEAST_KHZ, LEAST_HZ = 729_600, 306_000_000
_CORES = 2
_CPU = "sys/devices/system/cpu/cpu{core}/cpufreq"
_GPU = "sys/class/devfreq/17000000.gpu"

_PRELUDE = """\
#!/bin/sh
BOARD={board}
echo "${{0##*/}} $*" >> $BOARD/log
if [ "$(cat $BOARD/hang 2>/dev/null)" = "${{0##*/}} ${{1:-lock}}" ]; then
    echo reached > $BOARD/reached
    while :; do sleep 60; done
fi
"""

_NVPMODEL = (
    _PRELUDE
    + """\
name_of() {{ sed -n "s/^< POWER_MODEL ID=$1 NAME=\\\\(.*\\\\) >/\\\\1/p" $BOARD/etc/nvpmodel.conf; }}
now=$(sed -n 's/^pmode:0*\\([0-9]\\)/\\1/p' $BOARD/var/lib/nvpmodel/status)
case "$1" in
-q) echo "NV Power Mode: $(name_of $now)"; echo "$now" ;;
-m)
    if [ -e $BOARD/stubborn ]; then echo "NVPM ERROR: Error writing to GPU: 22"; exit 234; fi
    if [ "$(name_of $2)" = "{restarting}" ] || [ "$(name_of $now)" = "{restarting}" -a $2 != $now ]; then
        echo "NVPM WARN: Golden image context is already created"
        echo "NVPM WARN: Reboot required for changing to this power mode: $2"
        echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
        read answer
        if [ -n "$answer" ]; then echo "$answer" > $BOARD/answered; fi
        echo "NVPM ERROR: bad input!"
        echo "NVPM ERROR: optMask is 1, no request for power mode"
        exit 255
    fi
    printf 'pmode:%04d\\n' $2 > $BOARD/var/lib/nvpmodel/status
    set -- $(sed -n "s/^# $2 //p" $BOARD/etc/nvpmodel.conf)
    for core in $BOARD/sys/devices/system/cpu/cpu*/cpufreq; do
        echo $1 > $core/scaling_max_freq
        if [ $(cat $core/scaling_min_freq) -gt $1 ]; then echo $1 > $core/scaling_min_freq; fi
    done
    echo $2 > $BOARD/{gpu}/max_freq
    ;;
esac
"""
)

_JETSON_CLOCKS = (
    _PRELUDE
    + """\
GPU=$BOARD/{gpu}
KEPT="$(ls $BOARD/sys/devices/system/cpu/cpu*/cpufreq/scaling_min_freq) $GPU/min_freq $BOARD/emc_override"
case "$1" in
--store)
    if [ -e "$2" ]; then
        echo "File $2 already exists. Can I overwrite it? Y/N:"; read answer
        echo "Error: file $2 already exists!"; exit 1
    fi
    for file in $KEPT; do echo "$file:$(cat $file)" >> "$2"; done
    ;;
--restore)
    if [ ! -e "$2" ]; then echo "Error: $2 file not found !"; exit 1; fi
    for line in $(cat "$2"); do
        file=${{line%:*}}
        if [ -e $BOARD/stuck ]; then echo "Error: Failed to restore $file"; else echo ${{line##*:}} > $file; fi
    done
    ;;
--show)
    echo "SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit"
    echo "Online CPUs: 0-1"
    for core in $BOARD/sys/devices/system/cpu/cpu?/cpufreq; do
        cpu=${{core%/cpufreq}}
        echo "${{cpu##*/}}:  Online=1 Governor=schedutil MinFreq=$(cat $core/scaling_min_freq)" \\
            "MaxFreq=$(cat $core/scaling_max_freq) CurrentFreq=$(cat $core/scaling_max_freq) IdleStates: WFI=1 c7=1 "
    done
    echo "GPU MinFreq=$(cat $GPU/min_freq) MaxFreq=$(cat $GPU/max_freq) CurrentFreq=$(cat $GPU/min_freq)"
    echo "EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=$(cat $BOARD/emc_override)"
    echo "FAN Dynamic Speed control=active hwmon0_pwm1=61"
    ;;
"")
    for core in $BOARD/sys/devices/system/cpu/cpu?/cpufreq; do
        if [ ! -e $BOARD/lazy ]; then cat $core/scaling_max_freq > $core/scaling_min_freq; fi
    done
    cat $GPU/max_freq > $GPU/min_freq
    echo 1 > $BOARD/emc_override
    ;;
esac
"""
)


class FakeJetson:
    """The board; ``root`` is what its programs and the agent take for the root directory."""

    def __init__(self, root: Path) -> None:
        self.root, self.programs = root, root / "usr/bin"
        places = {"board": root, "gpu": _GPU, "restarting": TAKES_RESTART}
        for name, script in (("nvpmodel", _NVPMODEL), ("jetson_clocks", _JETSON_CLOCKS)):
            self.install(name, script.format(**places))
        self.install("sudo", '#!/bin/sh\n[ "$1" = -n ] || exit 9\nshift\nexec "$@"\n')
        modes = [
            f"# {number} {khz} {hz}\n< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1\nGPU MAX_FREQ {hz}\n"
            for name, (number, khz, hz) in MODES.items()
        ]
        self._write("etc/nvpmodel.conf", "\n".join([*modes, "< PM_CONFIG DEFAULT=0 >\n"]))
        self._write("var/lib/nvpmodel/status", "pmode:0000\n")
        _, khz, hz = MODES["15W"]
        for core in range(_CORES):
            for name, value in (("min", LEAST_KHZ), ("max", khz), ("cur", LEAST_KHZ)):
                self._write(f"{_CPU.format(core=core)}/scaling_{name}_freq", f"{value}\n")
        for name, value in (("min", LEAST_HZ), ("max", hz), ("cur", LEAST_HZ)):
            self._write(f"{_GPU}/{name}_freq", f"{value}\n")
        self._write("emc_override", "0\n")
        self._write("log", "")
        os.mkfifo(root / "reached")

    @property
    def path(self) -> str:
        """For the variable ``PATH``."""
        return f"{self.programs}{os.pathsep}/usr/bin{os.pathsep}/bin"

    def install(self, name: str, script: str) -> None:
        """Put a program on the path."""
        self._write(f"usr/bin/{name}", script)
        (self.programs / name).chmod(0o755)

    def state(self) -> dict[str, str]:
        """All that settings change, by file."""
        files = [self.root / "var/lib/nvpmodel/status", self.root / "emc_override"]
        files += sorted((self.root / "sys").rglob("*_freq"))
        return {str(file.relative_to(self.root)): file.read_text().strip() for file in files}

    def calls(self) -> list[str]:
        """The programs that were run, with their first arguments."""
        return [" ".join(line.split()[:2]) for line in (self.root / "log").read_text().splitlines()]

    def mark(self, name: str, text: str = "") -> None:
        """Let the board behave otherwise: ``hang``, ``stubborn``, ``stuck`` or ``lazy``."""
        self._write(name, text)

    def unmark(self, name: str) -> None:
        """Let it behave again."""
        (self.root / name).unlink()

    def wait_until_hanging(self) -> None:
        """Return once the program that shall hang does."""
        assert stat.S_ISFIFO((self.root / "reached").stat().st_mode)
        (self.root / "reached").read_text()

    def _write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

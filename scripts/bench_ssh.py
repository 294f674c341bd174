"""The same profile on this machine directly and over SSH to itself, unit by unit in turn: is there a difference?

    python scripts/bench_ssh.py --networks 40

Starts an OpenSSH server on the loopback interface.  Two profiles over local connections and one over SSH go on
together: whoever has its turn builds and measures one unit while the others wait, and the order turns round each time.
Every few units each goes on with another agent, since a process is some per cent faster or slower than the next for as
long as it lives.  All builds are judged by one fast state, since each profile's own is a factor in all of its figures.

Prints one JSON object: for blocks and for whole networks the median over pairs of builds of (over SSH / direct), the
95 % interval of that median over units, and the quartiles; and the same of the two direct ones, which is noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hwnas.cli.console import bars
from hwnas.devices import (
    CompileOptions,
    Device,
    Engine,
    Fingerprint,
    Measurement,
    MeasureOptions,
    fast_states_ms,
    load_target,
)
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.latency import ProfileOptions, profile
from hwnas.latency.journal import journal_path, open_journal
from hwnas.latency.plan import is_network
from hwnas.progress import Progress, Silent, unheard
from hwnas.spaces import Space, get_space
from tests.sshd import serving

Builds = dict[str, list[Measurement]]
"""Unit to its builds, in order."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=40, help="whole networks, half of them held out")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[24, 44], help="whose blocks are measured")
    parser.add_argument("--builds", type=int, default=2, help="of each unit")
    parser.add_argument("--seconds", type=float, default=1.0, help="most of measuring a build")
    parser.add_argument("--minutes", type=float, help="most in all; default: as long as it takes")
    parser.add_argument("--units-an-agent", type=int, default=8)
    arguments = parser.parse_args()
    space, protocol = get_space("mobilenet_v3/small"), MeasureOptions(max_seconds=arguments.seconds)
    options = ProfileOptions(
        minutes=arguments.minutes,
        resolutions=tuple(arguments.resolutions),
        calibration_networks=arguments.networks // 2,
        validation_networks=arguments.networks // 2,
        builds=arguments.builds,
        network_builds=arguments.builds,
        block_protocol=protocol,
        network_protocol=protocol,
    )
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server, bars() as progress:
        target = load_target("host-cpu")
        ways: dict[str, Callable[[], Device]] = {
            "direct": lambda: Device(target, LocalConnection()),
            "ssh": lambda: Device(target, SshConnection(server.settings())),
            "again": lambda: Device(target, LocalConnection()),
        }
        profiles = profile_in_turn(ways, space, options, arguments.units_an_agent, Path(home), progress)
    judged = judged_together(profiles)
    report = {
        "machine": f"{platform.machine()}, {platform.platform()}",
        "ssh_over_direct": compared(judged["ssh"], judged["direct"]),
        "direct_over_direct": compared(judged["again"], judged["direct"]),
    }
    print(json.dumps(report, indent=1))


class Turns:
    """Lets threads go on one at a time: in order, then backwards, and so on, that none is always the first."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._queue = deque(names)
        self._changed = threading.Condition()

    def take(self, name: str) -> None:
        """Wait for one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue[0] == name)

    def give(self) -> None:
        """Let the next go on."""
        with self._changed:
            self._queue.popleft()
            self._begin_anew()

    def leave(self, name: str) -> None:
        """Have no turn any more."""
        with self._changed:
            self._names.remove(name)
            self._queue = deque(one for one in self._queue if one != name)
            self._begin_anew()

    def _begin_anew(self) -> None:
        if not self._queue:
            self._names.reverse()
            self._queue.extend(self._names)
        self._changed.notify_all()


class InTurn:
    """A device that measures a unit when it is its turn, and is opened anew every few units."""

    def __init__(self, name: str, way: Callable[[], Device], turns: Turns, units_an_agent: int) -> None:
        self.tell: Callable[[str], None] = unheard
        self._name, self._way, self._turns = name, way, turns
        self._units_an_agent, self._units = units_an_agent, 0
        self._device = way()
        self.target = self._device.target

    def close(self) -> None:
        """Let go of it."""
        self._device.close()

    def default_options(self) -> CompileOptions:
        return self._device.default_options()

    def fingerprint(self, options: CompileOptions | None = None) -> Fingerprint:
        return self._device.fingerprint(options)

    def learn_fast_state(self, seconds: float, options: CompileOptions | None = None, canary: str = "small") -> float:
        self._turns.take(self._name)
        try:
            return self._device.learn_fast_state(seconds, options, canary)
        finally:
            self._turns.give()

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        """Waits for its turn, which :meth:`release` ends."""
        self._turns.take(self._name)
        if self._units == self._units_an_agent:
            self._device.close()
            self._device, self._units = self._way(), 0
        self._units += 1
        return self._device.compile(onnx, options)

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        return self._device.measure(engine, options)

    def release(self, engine: Engine) -> None:
        self._device.release(engine)
        self._turns.give()


def profile_in_turn(
    ways: dict[str, Callable[[], Device]],
    space: Space,
    options: ProfileOptions,
    units_an_agent: int,
    home: Path,
    progress: Progress,
) -> dict[str, Builds]:
    """What each of the profiles measured, after all have ended; one that fails keeps no other from its turn."""
    turns = Turns(list(ways))

    def profiled(name: str) -> Builds:
        try:
            with contextlib.closing(InTurn(name, ways[name], turns, units_an_agent)) as device:
                shown = progress if name == "ssh" else Silent()
                table, path = profile(device, space, home / name, options, shown)
        finally:
            turns.leave(name)
        with open_journal(journal_path(path), table.fingerprint, fresh=False) as journal:
            return {unit: [build.measurement for build in builds] for unit, builds in journal.builds.items()}

    with ThreadPoolExecutor(len(ways)) as pool:
        return dict(zip(ways, pool.map(profiled, ways), strict=True))


def judged_together(profiles: dict[str, Builds]) -> dict[str, Builds]:
    """All builds by one fast state of each canary, that which they show together."""
    states = fast_states_ms(build for found in profiles.values() for builds in found.values() for build in builds)

    def judged(measurement: Measurement) -> Measurement:
        state = states.get(measurement.protocol.canary)
        return measurement if state is None else measurement.judged(state)

    return {
        name: {unit: [judged(build) for build in builds] for unit, builds in found.items()}
        for name, found in profiles.items()
    }


def compared(ours: Builds, theirs: Builds) -> dict[str, Any]:
    """Ratios of the gated medians of builds of the same unit, by the time at which they were made."""
    ratios: dict[str, list[float]] = {"blocks": [], "networks": []}
    pairs, of = 0, 0
    for unit in ours.keys() & theirs.keys():
        both = list(zip(ours[unit], theirs[unit], strict=False))
        found = [a.gated.p50_ms / b.gated.p50_ms for a, b in both if a.gated.p50_ms and b.gated.p50_ms]
        pairs, of = pairs + len(found), of + len(both)
        if found:
            ratios["networks" if is_network(unit) else "blocks"].append(float(np.median(found)))
    everything = [ratio for kind in ratios.values() for ratio in kind]
    return {
        "pairs": pairs,
        "of": of,
        **{kind: summary(found) for kind, found in ratios.items()},
        "all": summary(everything),
    }


def summary(ratios: list[float]) -> dict[str, Any] | None:
    """Median over units with its 95 % interval, and quartiles."""
    if len(ratios) < 2:
        return None
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    interval = bootstrap((ratios,), np.median, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return {
        "units": len(ratios),
        "median": round(float(middle), 4),
        "interval": [round(float(interval.low), 4), round(float(interval.high), 4)],
        "quartiles": [round(float(low), 4), round(float(high), 4)],
    }


if __name__ == "__main__":
    main()

"""The same networks measured on this machine directly and over SSH to itself, in turn: is there a difference?

    python scripts/bench_ssh.py --networks 20 --rounds 2

Starts an OpenSSH server on the loopback interface.  Prints one JSON object: the median over the pairs of
(median over SSH / median directly), with its quartiles, and the same of pairs of direct measurements, which is noise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hwnas.devices import Device, Engine, MeasureOptions, load_target, open_device
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.graphs import network_graph
from hwnas.spaces import get_space
from tests.sshd import Sshd, serving

LEARNING_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="most of a measurement")
    arguments = parser.parse_args()
    space = get_space("mobilenet_v3/small")
    architectures = space.decode(space.sample(np.random.default_rng(0), arguments.networks))
    options = MeasureOptions(min_samples=64, max_seconds=arguments.seconds)
    ratios: dict[str, list[float]] = {"ssh": [], "again": []}
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server:
        with open_device(load_target("host-cpu")) as device:
            state_ms = device.learn_fast_state(LEARNING_S)
        for number, architecture in enumerate(architectures):
            model = network_graph(space.blocks(architecture)).SerializeToString()
            for medians in compare(server, model, options, arguments.rounds, state_ms, backwards=bool(number % 2)):
                if all(medians.values()):
                    for name, found in ratios.items():
                        found.append(medians[name] / medians["direct"])
                print(f"network {number + 1} of {len(architectures)}: {medians}", file=sys.stderr)
    report = {
        "machine": f"{platform.machine()}, {platform.platform()}",
        "pairs": len(ratios["ssh"]),
        "of": arguments.networks * arguments.rounds,
        "ssh_over_direct": quartiles(ratios["ssh"]),
        "direct_over_direct": quartiles(ratios["again"]),
    }
    print(json.dumps(report, indent=1))


def compare(
    server: Sshd, model: bytes, options: MeasureOptions, rounds: int, state_ms: float, *, backwards: bool
) -> Iterator[dict[str, float]]:
    """Medians of a model on agents of their own, which have speeds of their own, round after round in turn."""
    target = load_target("host-cpu")
    with contextlib.ExitStack() as stack:
        connections = {
            "direct": LocalConnection(),
            "ssh": SshConnection(server.settings()),
            "again": LocalConnection(),
        }
        devices = {name: stack.enter_context(Device(target, way)) for name, way in connections.items()}
        for device in devices.values():
            device.recall_fast_state(state_ms)
        engines = {name: device.compile(model) for name, device in devices.items()}
        for turn in range(rounds):
            names = list(devices)[:: -1 if backwards != bool(turn % 2) else 1]
            yield {name: median_ms(devices[name], engines[name], options) for name in names}


def median_ms(device: Device, engine: Engine, options: MeasureOptions) -> float:
    """The gated median, 0 where no sample was accepted."""
    return device.measure(engine, options).gated.p50_ms or 0.0


def quartiles(values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4)
    return {"q1": round(low, 4), "median": round(middle, 4), "q3": round(high, 4)}


if __name__ == "__main__":
    main()

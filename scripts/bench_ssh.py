"""The same networks measured on this machine directly and over SSH to itself, in turn: is there a difference?

    python scripts/bench_ssh.py --networks 12 --rounds 3

Starts an OpenSSH server on the loopback interface.  Prints one JSON object: the median over the pairs of
(median over SSH / median directly), with its quartiles, and the same of pairs of direct measurements, which is noise.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hwnas.devices import Device, Engine, MeasureOptions, load_target, open_device
from hwnas.devices.ssh import SshConnection
from hwnas.graphs import network_graph
from hwnas.spaces import get_space
from tests.sshd import serving

LEARNING_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="most of a measurement")
    arguments = parser.parse_args()
    target = load_target("host-cpu")
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as server:
        far = Device(target, SshConnection(server.settings()))
        with open_device(target) as near, open_device(target) as again, far:
            print(json.dumps(compare({"direct": near, "again": again, "ssh": far}, arguments), indent=1))


def compare(devices: dict[str, Device], arguments: argparse.Namespace) -> dict[str, object]:
    """Measure each network on each device in turn, and give the ratios."""
    space = get_space("mobilenet_v3/small")
    genomes = space.sample(np.random.default_rng(0), arguments.networks)
    models = [network_graph(space.blocks(architecture)).SerializeToString() for architecture in space.decode(genomes)]
    state = min(device.learn_fast_state(LEARNING_S) for device in devices.values())
    for device in devices.values():
        device.recall_fast_state(state)
    ratios: dict[str, list[float]] = {"ssh": [], "again": []}
    options = MeasureOptions(min_samples=64, max_seconds=arguments.seconds)
    for number, model in enumerate(models):
        engines = {name: device.compile(model) for name, device in devices.items()}
        for turn in range(arguments.rounds):
            names = list(devices) if (number + turn) % 2 else list(devices)[::-1]
            medians = {name: median_ms(devices[name], engines[name], options) for name in names}
            if all(medians.values()):
                for name, found in ratios.items():
                    found.append(medians[name] / medians["direct"])
        print(f"network {number + 1} of {len(models)}: {medians}", file=sys.stderr)
    return {
        "machine": f"{platform.machine()}, {platform.platform()}",
        "pairs": len(ratios["ssh"]),
        "of": arguments.networks * arguments.rounds,
        "ssh_over_direct": quartiles(ratios["ssh"]),
        "direct_over_direct": quartiles(ratios["again"]),
    }


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

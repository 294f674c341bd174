"""The networks of a comparison at equal latency: chosen and measured once, then written down."""

from __future__ import annotations

import argparse
from typing import Any

from alone import Bench
from equal_latency import BUILDS, random_subnets, scaled_to, uniform_subnet

from hwnas.cli.console import Bars
from hwnas.devices import Device, load_target, open_device
from hwnas.files import Document, read_model, require_same, write_json
from hwnas.latency import LatencyModel
from hwnas.pipeline.latency import find_and_open_table
from hwnas.pipeline.networks import read_architecture
from hwnas.pipeline.stopwatch import Stopwatch
from hwnas.search import Budget, SearchOptions, SubnetEvaluator, run_search
from hwnas.spaces import Architecture, BlockSpec, Network, Space

SEARCHED = "searched subnet"


class Entry(Document):
    """A network of the comparison: a subnet of the supernet, by its ``choices``, or a yardstick, by its ``blocks``."""

    name: str
    choices: dict[str, Any] | None = None
    blocks: tuple[dict[str, Any], ...] = ()
    width: float | None = None
    latency_ms: float | None = None
    """Gated p50 over all builds; all networks were measured in turn."""

    @property
    def architecture(self) -> Architecture:
        """Of a subnet."""
        assert self.choices is not None
        return Architecture.from_json(self.choices)

    def network(self, space: Space) -> Network:
        """What it computes; ``space`` is the supernet's."""
        if self.choices is None:
            return Network.of([BlockSpec(**block) for block in self.blocks])
        return space.network(self.architecture)

    @property
    def slug(self) -> str:
        return self.name.lower().replace(",", "").replace(" ", "-")


class Lineup(Document):
    """What is compared, and what it was chosen and measured with."""

    weights_sha256: str
    """Of the supernet."""
    target: str
    identity8: str
    """Of the device as found."""
    budget_ms: float | None
    """Of the search; None where the searched subnet was given."""
    entries: tuple[Entry, ...]

    def __getitem__(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)


def line_up(bench: Bench, arguments: argparse.Namespace, progress: Bars) -> Lineup:
    """The networks, measured once.

    Raises:
        UserError: the directory holds those of another supernet, target or budget, or the device was too disturbed.
    """
    path = arguments.out / "lineup.json"
    if path.exists():
        found = read_model(path, Lineup, what="line-up")
        wanted = {
            "weights_sha256": bench.record.weights_sha256,
            "target": arguments.target,
            "budget_ms": arguments.budget,
        }
        require_same(arguments.out, "comparison", found, found.model_copy(update=wanted))
        return found
    with open_device(load_target(arguments.target)) as device:
        entries = measured(bench, device, arguments, progress)
        lineup = Lineup(
            weights_sha256=bench.record.weights_sha256,
            target=arguments.target,
            identity8=device.fingerprint().identity8,
            budget_ms=arguments.budget,
            entries=tuple(entries),
        )
    write_json(path, lineup)
    return lineup


def measured(bench: Bench, device: Device, arguments: argparse.Namespace, progress: Bars) -> list[Entry]:
    """The searched subnet, the controls and the yardsticks, all measured in turn at the end."""
    space = bench.space
    model = find_and_open_table(device, space, arguments.tables, allow_stale=arguments.allow_stale).model
    searched = searched_subnet(bench, model, device, arguments, progress)
    journal = arguments.out / "latencies.jsonl"
    watch = Stopwatch(device, space, device.default_options(), "p50", journal, progress)
    randoms = random_subnets(space, model, searched, arguments.seeds, watch)
    subnets = {
        SEARCHED: searched,
        **{f"random subnet {number}": architecture for number, architecture in enumerate(randoms)},
        "uniform subnet": uniform_subnet(space, model, searched, watch),
    }
    entries = [Entry(name=name, choices=architecture.to_json()) for name, architecture in subnets.items()]
    for name in arguments.yardsticks:
        scaled = scaled_to(name, space.network(searched), watch)
        blocks = tuple(block.to_json() for block in scaled.network.blocks)
        entries.append(Entry(name=name, blocks=blocks, width=scaled.width))
    times = watch.figures_ms([entry.network(space) for entry in entries], BUILDS)
    return [entry.model_copy(update={"latency_ms": time}) for entry, time in zip(entries, times, strict=True)]


def searched_subnet(
    bench: Bench, model: LatencyModel, device: Device, arguments: argparse.Namespace, progress: Bars
) -> Architecture:
    """The one that is given, or the best by the validation images of a search under the budget."""
    if arguments.searched is not None:
        return read_architecture(bench.space, arguments.searched)
    budget = Budget.on(device.target, arguments.budget)
    evaluate = SubnetEvaluator(bench.supernet, bench.dataset, threads=arguments.threads)
    options = SearchOptions(evaluations=arguments.evaluations)
    found = run_search(bench.space, model, budget, evaluate, arguments.out / "search", options, progress)
    return found.finalists(1)[0].architecture

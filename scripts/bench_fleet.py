#!/usr/bin/env python3
"""Rollouts to simulated boards, some of which fail in random ways: one must stop, the other must finish.

The boards' slots are real files that the agent's own code installs; engines, health checks and the wire take no time.
In the first rollout few of a wave may fail, so that it stops in the wave that has more, and gives it back what it had.
In the second more may, and it finishes.  Afterwards every board is started anew and opened: `broken` counts those that
serve neither all of the new bundle nor all of the old one.  With --json the last line is one JSON object; its first
figures are those of the rollout that finishes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hwnas.agent.canary import canary_onnx
from hwnas.agent.protocol import AgentError
from hwnas.agent.slots.slots import Slots
from hwnas.cli.console import bars, print_table
from hwnas.deploy.board import BoardSlots
from hwnas.deploy.bundle import Bundle, write_bundle
from hwnas.deploy.content import BundleContent, BundledModel
from hwnas.deploy.flash import Parcel, flash, parcel
from hwnas.deploy.fleet import FailureLimit, Rollout, Stages
from hwnas.deploy.fleet.boards import GroupFleet
from hwnas.deploy.fleet.group import Group
from hwnas.deploy.fleet.journal import Journal, RolloutInputs
from hwnas.deploy.golden import Answers, Expected
from hwnas.deploy.manifest import Labels, Limits, Preprocessing, Provenance, TensorEntry
from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device, Target, load_target
from hwnas.devices.records import CompileOptions
from hwnas.devices.simulated.installing import InstallingBoard, Kind, Trouble
from hwnas.progress import Silent

STAGES = "1,10%,100%"
STOPPING, FINISHING = "2%", "25%"
LATEST = {"disk-full": 25, "power-loss": 250, "reset": 11, "silence": 11}
"""The last moment, in writes, calls of the disk or requests, at which a trouble begins."""


@dataclass(frozen=True)
class Result:
    """How one rollout ended."""

    max_failures: str
    boards: int
    updated: int
    rolled_back: int
    """They were given back what they had, or never left it."""
    otherwise: int
    """Refused, unreachable or unconfirmed."""
    untouched: int
    broken: int
    stopped_in: int | None
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--failing", type=float, default=5.0, help="per cent of the boards")
    parser.add_argument("--seed", type=int, default=0, help="of which boards fail, how and when")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hwnas-fleet-") as directory:
        fleet = SimulatedFleet(Path(directory), arguments.boards, arguments.failing / 100, arguments.seed)
        stopped = fleet.roll_out(STOPPING, arguments.parallel)
        finished = fleet.roll_out(FINISHING, arguments.parallel)
    show(fleet.troubles, stopped, finished)
    if arguments.json:
        told = {**asdict(finished), "stopping": asdict(stopped), "failing": len(fleet.troubles)}
        print(json.dumps(told, allow_nan=False))
    if stopped.broken or finished.broken:
        sys.exit(1)


class SimulatedFleet:
    """Boards that serve one bundle and shall have the next."""

    def __init__(self, directory: Path, boards: int, failing: float, seed: int) -> None:
        self._directory = directory
        self._key = Ed25519PrivateKey.generate()
        self._old, self._new = (self._bundle(version) for version in (1, 2))
        self._names = [f"board{number:03}" for number in range(boards)]
        self.troubles = troubles(self._names, failing, np.random.default_rng(seed))
        self._template = directory / "template"
        with self._parcel(self._old) as sent:
            slots = BoardSlots(Device(load_target("host-cpu"), InstallingBoard()), str(self._template))
            slots.trust(PublicKey.of(self._key), "the bench")
            outcome = flash("template", sent, slots, Silent())
            assert outcome.fate == "updated", outcome

    def roll_out(self, max_failures: str, parallel: int) -> Result:
        """Bring the new bundle to all boards, which serve the old one."""
        place = self._directory / max_failures
        for name in self._names:
            shutil.copytree(self._template, place / name, symlinks=True)
        entries = [{"name": name, "target": "host-cpu", "root": str(place / name)} for name in self._names]
        group = Group.model_validate({"schema": 1, "group": "simulated", "boards": entries})
        stages, limit = Stages.parse(STAGES), FailureLimit.parse(max_failures)
        waves = stages.waves(self._names)
        inputs = RolloutInputs(
            bundle=self._new.digest,
            group=group.group,
            boards=tuple(self._names),
            stages=stages.marks,
            max_failures=limit.text,
        )
        start = time.monotonic()
        with self._parcel(self._new) as sent, bars() as progress:
            fleet = GroupFleet(group, place, sent, opener=self._opened)
            result = Rollout(fleet, waves, limit, Journal(place / "log.jsonl", inputs), parallel).run(progress)
        seconds = time.monotonic() - start
        fates = [outcome.fate for outcome in result.outcomes.values()]
        succeeded = sum(outcome.succeeded for outcome in result.outcomes.values())
        return Result(
            max_failures=max_failures,
            boards=len(self._names),
            updated=succeeded,
            rolled_back=fates.count("rolled-back"),
            otherwise=len(fates) - succeeded - fates.count("rolled-back") - fates.count("broken"),
            untouched=len(result.untouched),
            broken=sum(not self._is_whole(place / name) for name in self._names),
            stopped_in=result.stopped_in,
            seconds=round(seconds, 2),
        )

    def _is_whole(self, root: Path) -> bool:
        """Whether a board that starts anew serves one of both bundles, every byte of it."""
        slots = Slots(root)
        try:
            slots.boot_check()
            digest = slots.current()
            slots.roll_back("to see whether it can be loaded", digest)
        except AgentError:
            return False
        return digest in (self._old.digest, self._new.digest)

    def _opened(self, board: str, target: Target) -> Device:
        return Device(target, InstallingBoard(self.troubles.get(board)))

    def _parcel(self, bundle: Bundle) -> AbstractContextManager[Parcel]:
        return parcel(bundle.path, [PublicKey.of(self._key)])

    def _bundle(self, version: int) -> Bundle:
        """A small network; what it would compute is of no account here."""
        shape = (1, 3, 32, 32)
        answers = Answers(np.zeros(shape, np.float32), (Expected(np.ones((1, 10), np.float32), absolute=1e-3),))
        model = BundledModel(
            id=f"net{version}",
            onnx=canary_onnx("small"),
            input=TensorEntry(name="input", dtype="float32", shape=shape),
            outputs=(TensorEntry(name="output", dtype="float32", shape=(1, 10)),),
            golden=answers,
            limits=Limits(latency_ms=5.0),
        )
        provenance = Provenance(
            space=None, architectures={}, supernet_sha256=None, git_revision=None, hwnas="0", accuracy_of=None
        )
        content = BundleContent(
            name="fleet",
            runtime=CompileOptions().as_request(),
            models=(model,),
            labels=Labels(labels=()),
            preprocessing=Preprocessing(mean=None, std=None, resize=None),
            provenance=provenance,
        )
        return write_bundle(content, version, self._directory / "bundles", [self._key])


def troubles(names: list[str], share: float, generator: np.random.Generator) -> dict[str, Trouble]:
    """A random trouble at a random moment for a share of the boards."""
    failing = generator.choice(names, round(share * len(names)), replace=False)
    kinds = get_args(Kind)
    drawn = [kinds[number] for number in generator.integers(len(kinds), size=len(failing))]
    return {
        str(name): Trouble(kind, int(generator.integers(1, LATEST.get(kind, 4) + 1)))
        for name, kind in zip(failing, drawn, strict=True)
    }


def show(found: dict[str, Trouble], *results: Result) -> None:
    print("Troubles: " + ", ".join(f"{name} {one.kind} at {one.at}" for name, one in sorted(found.items())))
    header = ["limit", "updated", "rolled back", "other", "left", "broken", "stop", "s"]
    rows = [
        [
            one.max_failures,
            str(one.updated),
            str(one.rolled_back),
            str(one.otherwise),
            str(one.untouched),
            str(one.broken),
            "–" if one.stopped_in is None else str(one.stopped_in + 1),
            f"{one.seconds:.1f}",
        ]
        for one in results
    ]
    print_table(f"{results[0].boards} boards, stages {STAGES}", header, rows)


if __name__ == "__main__":
    main()

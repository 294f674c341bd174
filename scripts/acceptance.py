"""Shared by the acceptance scripts: stages that are done once, within a time, whatever kills the script in between."""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hwnas import __version__
from hwnas.devices import Device
from hwnas.errors import HwnasError, UserError
from hwnas.files import read_json, write_json
from hwnas.latency import load_table
from hwnas.latency.crosscheck import CrossCheck
from hwnas.latency.results import AcceptanceResults

Found = dict[str, Any]
UNFINISHED = 75
"""Exit status while stages remain (sysexits' EX_TEMPFAIL): run the same command again."""


@dataclass
class Stage:
    """One step: ``run`` takes the seconds left, and gives what it found, or None when it needs another call."""

    name: str
    run: Callable[[float], Found | None]
    least_s: float = 20.0
    """It is not begun with less."""


def add_stages(parser: argparse.ArgumentParser) -> None:
    """The option for :func:`chosen`."""
    parser.add_argument(
        "--stages",
        nargs="+",
        metavar="NAME",
        help="only these, in this order; none is put off to another call for want of time: a table gets what is left",
    )


def chosen(stages: Sequence[Stage], names: Sequence[str] | None) -> list[Stage]:
    """The stages of these names, in their order, begun however little time is left; all as they are for ``None``.

    Raises:
        UserError: there is no such stage.
    """
    if names is None:
        return list(stages)
    known = {stage.name: stage for stage in stages}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"There is no stage '{unknown[0]}'; --stages takes {', '.join(known)}.")
    return [replace(known[name], least_s=0.0) for name in dict.fromkeys(names)]


@dataclass
class Acceptance:
    """Runs stages in order, each result a file in ``state``, and puts them together in ``results.json``."""

    script: str
    target: str
    state: Path
    identity8: str
    minutes: float
    dry_run: str | None = None
    _begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        owner = self.state / "device.id"
        if owner.exists() and owner.read_text().strip() != self.identity8:
            raise UserError(f"{self.state} is of another device than this one is now; give another --state.")
        self.state.mkdir(parents=True, exist_ok=True)
        owner.write_text(self.identity8 + "\n")

    def seconds_left(self) -> float:
        return 60 * self.minutes - (time.monotonic() - self._begun)

    def run(self, stages: list[Stage]) -> bool:
        """Whether all are done; a stage that fails is written down with its reason and tried again by the next call."""
        for stage in stages:
            file = self._file(stage.name)
            if file.exists() and "failed" not in read_json(file):
                continue
            if self.seconds_left() <= stage.least_s:
                print(f"{stage.name}: needs {stage.least_s:.0f} s, {max(0, self.seconds_left()):.0f} s are left")
                break
            begun = time.monotonic()
            try:
                found = stage.run(self.seconds_left())
            except HwnasError as error:
                write_json(file, {"failed": str(error)})
                print(f"{stage.name}: {error}")
                continue
            if found is None:
                print(f"{stage.name}: goes on in the next call")
                break
            write_json(file, {**found, "seconds": round(time.monotonic() - begun, 1)})
            print(f"{stage.name}: done in {time.monotonic() - begun:.0f} s")
        done = self.found(stages)
        return len(done) == len(stages) and not any("failed" in found for found in done.values())

    def found(self, stages: list[Stage]) -> dict[str, Found]:
        """What each finished stage found."""
        files = {stage.name: self._file(stage.name) for stage in stages}
        return {name: read_json(file) for name, file in files.items() if file.exists()}

    def write_results(self, stages: list[Stage]) -> Path:
        """All of it as one file; stages name their tables under ``table`` and cross-checks under ``cross_checks``."""
        found = self.found(stages)
        checks = [check for stage in found.values() for check in stage.pop("cross_checks", [])]
        tables = [load_table(Path(stage["table"])) for stage in found.values() if "table" in stage]
        results = AcceptanceResults(
            hwnas=__version__,
            script=self.script,
            dry_run=self.dry_run,
            target=self.target,
            created=datetime.date.today(),
            tables=tuple(tables),
            cross_checks=tuple(CrossCheck.model_validate(check) for check in checks),
            stages=json.loads(json.dumps(found)),
        )
        write_json(self.state / "results.json", results)
        return self.state / "results.json"

    def _file(self, stage: str) -> Path:
        return self.state / f"{stage}.json"


def asked_of(device: Device, ask: Callable[[], Any]) -> Any:
    """An answer, or in its place the reason why ``device`` gives none."""
    try:
        return ask()
    except HwnasError as error:
        return {"refused": str(error), "target": device.target.name}

"""Validation anew: measure networks that no fit has seen on the live device, and put them into the table."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hwnas.devices import Arrival, CompileOptions, Fingerprint, MeasureOptions, fast_states_ms
from hwnas.errors import DeviceError, UserError
from hwnas.files import write_json
from hwnas.latency.agenda import Knobs
from hwnas.latency.base import LatencyModel, TimingDevice
from hwnas.latency.crew import Board, Clock
from hwnas.latency.figures import FEWEST
from hwnas.latency.journal import Journal, open_journal
from hwnas.latency.judging import Judge
from hwnas.latency.plan import Unit, fresh_networks, network_builds, network_protocol, validation_networks
from hwnas.latency.registry import fit_latency_model
from hwnas.latency.sitting import Sitting
from hwnas.latency.store import check_fingerprint, load_table, mode_of
from hwnas.latency.table import LatencyTable, NetworkEntry, Revalidation, Role
from hwnas.latency.validation import validated
from hwnas.progress import Progress, Silent
from hwnas.spaces import Architecture, Space, get_space

Proposer = Callable[[LatencyModel, Collection[str]], Sequence[Architecture]]
"""Gives architectures by a latency model, none of certain ids."""
_BUILDS = 3


@dataclass(frozen=True)
class RevalidationOptions:
    """How many networks are measured, and which."""

    networks: int | None = None
    """Held-out ones, spread evenly over latency; ``None``: as many as a profile holds out; 0: those there stay."""
    seed: int = 1
    """Of the networks drawn; none that stands in the table is drawn again."""
    fresh: bool = False
    """Forget what an interrupted validation measured."""
    allow_stale: bool = False
    """Measure on another device than the table's, too."""

    def __post_init__(self) -> None:
        if self.networks is not None and (self.networks < 0 or 0 < self.networks < FEWEST):
            raise UserError(f"A validation takes {FEWEST} networks or more, or none (0), not {self.networks}.")


@dataclass(frozen=True, slots=True)
class Revalidated:
    """A table with networks that were measured just now."""

    table: LatencyTable
    written: bool
    """Whether the table's file now holds it; what was measured on another device does not enter the file."""


def revalidate(
    device: TimingDevice,
    path: Path,
    propose: Proposer | None = None,
    options: RevalidationOptions | None = None,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Revalidated:
    """Put fresh held-out networks, and those that a search proposes, into a table in place of the former ones.

    They are measured as the table's own networks were, and judged by the table's fast states: in its time scale.
    Everything measured is in a journal beside the table at once (``….validation.jsonl``), so that the same call after
    an interruption goes on where it ended; when the table is written it becomes ``….validated.jsonl``.

    Args:
        path: the table's file.
        propose: gives architectures by the table's model, none that it was fitted on.  ``None``, or none given: those
            there stay.
        clock: seconds; a device that reports time instead of spending it brings its own.

    Raises:
        BadFileError: the file is not a table, or the journal is damaged.
        StaleTableError: the table was measured on another device, and that is not allowed.
        UserError: nothing is to be measured; the table was not measured on a device, or is of another target, or of
            what the target does not run; too few networks ran in the fast state in which the table was measured.
        DeviceError: the device refuses one network after the other, or became another while it was measured.
    """
    options = options or RevalidationOptions()
    table = load_table(path)
    space = get_space(table.space, table.num_classes)
    compiling = _compile_options(device, table, path)
    fingerprint = device.fingerprint(compiling)
    same = check_fingerprint(table, fingerprint, options.allow_stale, path)
    n = validation_networks(space) if options.networks is None else options.networks
    # Held-out networks that are replaced may be proposed.
    roles: tuple[Role, ...] = ("calibration",) if n else ("calibration", "validation")
    staying = {entry.architecture.id for role in roles for entry in table.with_role(role)}
    proposed = propose(fit_latency_model(table, space), staying) if propose else ()
    units = _units(table, space, n, options.seed, [each for each in proposed if each.id not in staying])
    if not units:
        raise UserError("There is nothing to validate with: ask for some networks, held out or proposed.")
    knobs = Knobs(
        minutes=None,
        block_builds=_BUILDS,
        network_builds=network_builds(space, _BUILDS),
        batch=table.batch,
        compile=compiling,
        blocks=MeasureOptions(),
        networks=_network_options(table, space, path),
    )
    suffix = "" if same else f"-{fingerprint.identity8}"
    with open_journal(path.with_suffix(f".validation{suffix}.jsonl"), fingerprint, fresh=options.fresh) as journal:
        judge = Judge(journal, table.fast_states_ms if same else None)
        expected = knobs.network_builds * len(units)
        with Sitting([Board("", device, clock)], judge, knobs, expected, progress or Silent(), "validate") as sitting:
            sitting.measure(units)
        _require_same(fingerprint, device.fingerprint(compiling), table.target, journal)
        if not same:  # nothing of the other device is to be taken for this one's
            table = table.model_copy(update={"networks": table.with_role("calibration")})
        table = validated(_renewed(table, units, judge, options.seed), space)
        if same:
            write_json(path, table)
        journal.path.replace(path.with_suffix(f".validated{suffix}.jsonl"))
    return Revalidated(table, written=same)


def carry_over(table: LatencyTable, former: LatencyTable) -> LatencyTable:
    """The table with the networks by which a former one of the same device was validated anew, in its time scale."""
    if former.revalidation is None and not former.with_role("proposed"):
        return table
    there = {entry.architecture.id for entry in table.networks}
    states = table.fast_state_ms("networks"), former.fast_state_ms("networks")
    factor = 1.0 if states[0] is None or states[1] is None else states[0] / states[1]
    carried = [
        entry.scaled(factor).model_copy(update={"boards": ()})  # which may be others now
        for entry in former.networks
        if entry.role != "calibration" and entry.architecture.id not in there
    ]
    found = {"networks": (*table.networks, *carried), "revalidation": former.revalidation}
    return table.model_copy(update=found)


def _compile_options(device: TimingDevice, table: LatencyTable, path: Path) -> CompileOptions:
    """How the table's networks were compiled.

    Raises:
        UserError: the table was not measured on a device, is of another target, or the target does not run models so.
    """
    if table.kind not in ("measured", "emulated"):
        raise UserError(f"Latency table {path} is {table.kind}, so no device is known on which to validate it.")
    if table.target != device.target.name:
        raise UserError(f"Latency table {path} is of target {table.target}, not {device.target.name}; give that one.")
    options = device.default_options()
    runtime = device.target.runtimes.get(table.runtime)
    usual = [options.provider] if table.runtime == options.runtime else []
    providers = [*usual, *(runtime.providers if runtime else ())]
    fitting = [provider for provider in providers if mode_of(provider) == table.mode]
    if runtime is None or not fitting:
        raise UserError(
            f"Latency table {path} is of {table.runtime}-{table.mode}, which target '{device.target.name}' does not "
            "have; profile the target."
        )
    return replace(
        options, runtime=table.runtime, provider=fitting[0], precision=table.precision, threads=table.threads
    )


def _network_options(table: LatencyTable, space: Space, path: Path) -> MeasureOptions:
    """How the table's networks were measured; of knobs that it does not state, what suits the space."""
    stated: Mapping[str, Any] = table.protocol.get("networks", {})
    known = {knob.name for knob in fields(MeasureOptions)}
    options = replace(network_protocol(space), **{name: value for name, value in stated.items() if name in known})
    if str(Arrival(options.fps)) != table.arrival:
        raise UserError(
            f"Latency table {path} is of runs that arrive {table.arrival}, but its protocol says otherwise."
        )
    return options


def _units(table: LatencyTable, space: Space, n: int, seed: int, proposed: Sequence[Architecture]) -> tuple[Unit, ...]:
    """What is measured; roles take turns, so that what disturbs the device meets both."""
    known = {entry.architecture.id for entry in table.networks} | {architecture.id for architecture in proposed}
    held_out = fresh_networks(space, seed, n, known)
    searched = [Unit.of_network(space, architecture, "proposed") for architecture in dict.fromkeys(proposed)]
    placed = [(i / len(units), unit) for units in (held_out, searched) for i, unit in enumerate(units)]
    return tuple(unit for _, unit in sorted(placed, key=lambda entry: entry[0]))


def _renewed(table: LatencyTable, units: Sequence[Unit], judge: Judge, seed: int) -> LatencyTable:
    """The table with the networks measured in place of all former ones of their roles."""
    measured: dict[Role, list[NetworkEntry]] = {}
    missing: dict[str, Any] = {}
    reasons: list[str] = []
    for unit in units:
        assert unit.architecture is not None and unit.role is not None, "only whole networks are validated with"
        timing = judge.timing(unit.key)
        measured.setdefault(unit.role, [])
        missing.setdefault(unit.role, 0)
        if timing is None:
            missing[unit.role] += 1
            reasons += judge.journal.failures(unit.key)[-1:]
        else:
            measured[unit.role].append(NetworkEntry(**dict(timing), architecture=unit.architecture, role=unit.role))
    journal = judge.journal
    for role, entries in measured.items():
        if len(entries) < FEWEST:
            raise UserError(_too_few(table, role, len(entries), judge, reasons))
    failures = tuple(dict.fromkeys([*table.missing.failures, *reasons]))
    kept = [entry for entry in table.networks if entry.role not in measured]
    return table.model_copy(
        update={
            "networks": (*kept, *(entry for entries in measured.values() for entry in entries)),
            "missing": table.missing.model_copy(update={**missing, "failures": failures}),
            "revalidation": Revalidation(
                date=datetime.datetime.now(datetime.UTC).date(),
                seconds=round(journal.spent_s, 3),
                seed=seed,
                fast_states_ms=fast_states_ms(journal.measurements()),
            ),
        }
    )


def _too_few(table: LatencyTable, role: Role, n: int, judge: Judge, reasons: Sequence[str]) -> str:
    now, then = fast_states_ms(judge.journal.measurements()), table.fast_states_ms
    states = [f"{name} canary {now[name]:.4g} ms, in the table {then[name]:.4g} ms" for name in now if name in then]
    seen = f" (fast state: {'; '.join(states)})" if states else ""
    why = f"; the last was refused: {reasons[-1].rstrip('.')}" if reasons else ""
    return (
        f"Only {n} {role} networks have samples in the fast state in which the table of {table.target} was "
        f"measured{seen}{why}; validate again when the device is idle, or profile it afresh."
    )


def _require_same(before: Fingerprint, after: Fingerprint, target: str, journal: Journal) -> None:
    differences = before.differences(after)
    if differences:
        raise DeviceError(
            f"Target '{target}' changed while it was measured ({'; '.join(differences[:3])}), so {journal.path} is "
            "worth nothing; settle the device and validate afresh (--fresh)."
        )

"""Profiling: measure the blocks and some whole networks of a space on a device, and write the latency table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hwnas.devices import informed
from hwnas.errors import BadFileError, DeviceError, UserError
from hwnas.latency.agenda import TIES, Knobs
from hwnas.latency.assembling import assembled
from hwnas.latency.base import TimingDevice
from hwnas.latency.blocks import block_times
from hwnas.latency.conditions import conditions_of
from hwnas.latency.crew import Board, Clock
from hwnas.latency.extension import Extension
from hwnas.latency.journal import Journal, journal_path, open_journal
from hwnas.latency.judging import Judge
from hwnas.latency.muster import changed_boards, fingerprints, muster
from hwnas.latency.options import ProfileOptions, profile_knobs, profile_plan
from hwnas.latency.plan import Plan, Unit, checked_resolutions, default_resolutions
from hwnas.latency.revalidation import carry_over
from hwnas.latency.sitting import Sitting
from hwnas.latency.store import TableKey, load_table, save_table, table_path
from hwnas.latency.table import LatencyTable
from hwnas.latency.unit_model import check_precision
from hwnas.latency.validation import validated
from hwnas.progress import Progress, Silent
from hwnas.spaces import Space

FIRST_BUILDS = 2
"""So many of each unit are measured before what else to measure is chosen, the others once all is chosen: a shared
machine has minutes in which networks run 1 to 2 % slower than their canary tells, and a unit's builds are to meet
several of them."""


def profile(
    device: TimingDevice,
    space: Space,
    root: Path,
    options: ProfileOptions | None = None,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> tuple[LatencyTable, Path]:
    """:func:`profile_together` with one board.

    Args:
        clock: seconds; a device that reports time instead of spending it brings its own.
    """
    return profile_together([Board(device.target.address, device, clock)], space, root, options, progress)


def profile_together(
    boards: Sequence[Board],
    space: Space,
    root: Path,
    options: ProfileOptions | None = None,
    progress: Progress | None = None,
) -> tuple[LatencyTable, Path]:
    """Measure what is not measured yet, and write the table.

    Everything measured is in the journal beside the table at once: the same call after an interruption goes on where
    it ended, also with other boards of the kind, and with more ``minutes`` or networks it adds to what is there.

    Boards of one kind measure side by side.  A board that cannot be reached, or on which nothing succeeds any more,
    leaves; the table says so, as it says how fast each board is and which measured what.

    Args:
        boards: at least one, each with a name of its own.
        root: the directory of all tables.

    Returns:
        The table, with validation figures if enough networks were measured, and its path.

    Raises:
        UserError: boards of different kinds; a precision that no graph is emitted in; a resolution that the space does
            not have; whole networks alone where there is a table with blocks; another process at the same profile; a
            damaged journal, or one measured by another protocol; too few blocks to predict from, because the time was
            too short or the device never in its fast state.
        DeviceError: no board is left, or the only one refuses one unit after the other; two boards differ too much in
            speed; the device became another while it was measured.
    """
    options = options or ProfileOptions()
    compiling = options.compile or boards[0].device.default_options()
    check_precision(compiling)
    resolutions = checked_resolutions(space, options.resolutions or default_resolutions(space))
    plan = profile_plan(space, resolutions, options)
    present, absent, fingerprint = muster(boards, compiling)
    compiling = informed(compiling, fingerprint)
    target = present[0].device.target
    key = TableKey.of(target.name, space, compiling, fingerprint, options.batch, options.fps)
    if options.networks_only is not None and not options.fresh:
        _require_no_blocks(table_path(root, key))
    with open_journal(journal_path(table_path(root, key)), fingerprint, fresh=options.fresh) as journal:
        for departure in absent:
            journal.append(departure)
        limit_c = target.limits.temperature_c
        knobs = profile_knobs(space, options, compiling, limit_c)
        judge = Judge(journal)
        header = {
            **{field: value for field, value in asdict(key).items() if field != "identity8"},
            "fingerprint": fingerprint,
            "kind": "emulated" if target.emulated or fingerprint.emulator else "measured",
            "board_spread": target.board_spread,
            "protocol": {"blocks": knobs.blocks.as_protocol(), "networks": knobs.networks.as_protocol()},
            "created": journal.header.created,
            "resolutions": resolutions,
            "seed": options.seed,
        }
        units = list(plan.base)
        expected = _expected_builds(plan, knobs)
        with Sitting(present, judge, knobs, expected, progress or Silent(), ties=_ties(plan)) as sitting:
            if sitting.measure(plan.base, FIRST_BUILDS) and options.networks_only is None:
                for piece in _extension(space, plan, judge, options, assembled(header, plan, units, judge)):
                    units += piece
                    if not sitting.measure(piece, FIRST_BUILDS):
                        break
            sitting.measure(units)
            while changed := changed_boards(fingerprint, now := fingerprints(sitting.boards, compiling)):
                for board, differences in changed.items():
                    if len(boards) == 1:
                        raise _worthless(key.target, differences, journal)
                    sitting.leave_out(board, f"it changed while it was measured ({differences})")
                sitting.measure(units)
        table = _with_former(assembled(header, plan, units, judge), table_path(root, key), options)
        state = conditions_of(journal, limit_c, {board.name: found for board, found in now.items()})
        table = validated(table.model_copy(update={"conditions": state}), space)
        return table, save_table(table, root)


def _expected_builds(plan: Plan, knobs: Knobs) -> int:
    """Of the whole plan."""
    return sum(map(knobs.builds, plan.base)) + knobs.network_builds * (len(plan.held_out) + plan.further)


def _ties(plan: Plan) -> tuple[Unit, ...]:
    """The networks by which boards are compared; they are measured first, and enter the fit."""
    return tuple(unit for unit in plan.base if unit.role == "calibration")[:TIES]


def _extension(
    space: Space, plan: Plan, judge: Judge, options: ProfileOptions, base: LatencyTable
) -> Iterator[tuple[Unit, ...]]:
    """What is measured once the base is."""
    times = block_times(base, space)
    extension = Extension(space, plan, judge, times.ms, options.good_enough_percent)
    return extension.pieces()


def _with_former(table: LatencyTable, path: Path, options: ProfileOptions) -> LatencyTable:
    """The table with what ``hwnas tables validate`` measured for the one that it replaces, unless that is forgotten."""
    if options.fresh or not path.exists():
        return table
    try:
        return carry_over(table, load_table(path))
    except BadFileError:  # such as one of an earlier version of hwnas, which is replaced
        return table


def _require_no_blocks(path: Path) -> None:
    """Whole networks alone must not replace a table that holds blocks as well."""
    if path.exists() and load_table(path).blocks:
        raise UserError(
            f"{path} holds blocks, which a profile of whole networks alone would lose; give other --tables."
        )


def _worthless(target: str, differences: str, journal: Journal) -> DeviceError:
    return DeviceError(
        f"Target '{target}' changed while it was measured ({differences}), so {journal.path} is "
        "worth nothing; settle the device and profile it afresh (--fresh)."
    )

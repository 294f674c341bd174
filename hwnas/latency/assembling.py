"""From a journal to a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hwnas.latency.judging import Judge
from hwnas.latency.plan import Plan, Unit, is_network
from hwnas.latency.speeds import between_boards
from hwnas.latency.table import BlockEntry, BoardEntry, LatencyTable, Missing, NetworkEntry


def assembled(header: Mapping[str, Any], plan: Plan, units: Sequence[Unit], judge: Judge) -> LatencyTable:
    """The table of what the journal has of some units, and what is missing of the plan's base."""
    blocks: list[BlockEntry] = []
    networks: list[NetworkEntry] = []
    reasons: list[str] = []
    missing = {"blocks": 0, "calibration": 0, "validation": 0}
    base = {unit.key for unit in plan.base}
    for unit in units:
        timing = judge.timing(unit.key)
        if timing is None:
            reasons += judge.journal.failures(unit.key)[-1:]
            missing[unit.role or "blocks"] += unit.key in base
        elif unit.architecture is not None and unit.role is not None:
            networks.append(NetworkEntry(**dict(timing), architecture=unit.architecture, role=unit.role))
        else:
            blocks.append(BlockEntry(**dict(timing), block=unit.network.blocks[0]))
    board_spread = max(header["board_spread"], between_boards(judge.speeds))
    return LatencyTable(
        **{**header, "board_spread": board_spread},
        boards=_board_entries(judge),
        fast_states_ms=judge.fast_states_ms,
        profile_seconds=round(judge.journal.spent_s, 3),
        missing=Missing(**missing, failures=tuple(reasons)),
        blocks=tuple(blocks),
        networks=tuple(networks),
    )


def _board_entries(judge: Judge) -> tuple[BoardEntry, ...]:
    """Of several boards, those first whose measurements count, as :attr:`Judge.boards` has them."""
    journal, speeds = judge.journal, judge.speeds
    departures = {name: departure.reason for name, departure in journal.departures.items()}
    counting = judge.boards or (journal.boards if departures else ())
    made: Counter[tuple[str, bool]] = Counter()
    for unit, builds in journal.builds.items():
        made.update((build.board, is_network(unit)) for build in builds)
    return tuple(
        BoardEntry(
            name=name,
            factor=speeds[name].factor if name in counting else None,
            spread=speeds[name].spread if name in counting else None,
            blocks=made[name, False],
            networks=made[name, True],
            left=departures.get(name),
        )
        for name in (*counting, *sorted(departures.keys() - set(counting)))
    )

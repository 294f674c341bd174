"""Profiles of a board that gets too hot, and of one in another power mode, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.devices import DeviceSettings, MeasureOptions
from hwnas.devices.errors import TooHotError
from hwnas.devices.simulated import Conditions, SimulatedBoard
from hwnas.errors import UserError
from hwnas.latency import LatencyTable, ProfileOptions, journal_path, load_table, profile, profile_together
from hwnas.latency.crew import Board
from hwnas.progress import Silent
from hwnas.spaces import get_space
from tests.heard import Heard

SPACE = get_space("mobilenet_v3/small")
LIMIT_C = 80.0
SUNNY = Conditions(ambient_c=40.0, loaded_c=150.0, warming_s=0.5)
BURNING = replace(SUNNY, ambient_c=95.0)
QUICK = MeasureOptions(max_seconds=1.0, min_samples=300)


def options(**changes: object) -> ProfileOptions:
    few = {"networks_only": 6, "validation_networks": 2, "network_builds": 1, "network_protocol": QUICK}
    return ProfileOptions(**{**few, **changes})  # type: ignore[arg-type]


def profiled(board: SimulatedBoard, root: Path, progress: Silent | None = None, **changes: object) -> LatencyTable:
    table, path = profile(board, SPACE, root, options(**changes), progress, board.clock)
    assert load_table(path) == table
    return table


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatencyTable, Heard, Path]:
    root, heard = tmp_path_factory.mktemp("tables"), Heard()
    table = profiled(SimulatedBoard(3, 0, SUNNY, LIMIT_C), root, heard)
    return table, heard, next(root.rglob("*-b1-*.json"))


def test_pauses_clocks_and_temperatures_are_in_the_table(hot: tuple[LatencyTable, Heard, Path]) -> None:
    table, _, _ = hot
    state = table.conditions
    assert state is not None and state.temperature_c is not None
    assert len(state.pauses) > 3
    for one in state.pauses:
        assert one.pause.from_c is not None and one.pause.to_c is not None
        assert one.pause.from_c >= LIMIT_C and one.pause.to_c <= LIMIT_C - 5 and one.pause.cooled
    assert state.paused_s == pytest.approx(sum(one.pause.seconds for one in state.pauses))
    assert state.paused_s < table.profile_seconds
    assert state.temperature_limit_c == table.protocol["networks"]["temperature_limit_c"] == LIMIT_C
    assert LIMIT_C <= state.temperature_c.most < LIMIT_C + 20, "a measurement ends at the limit"
    assert state.clocks_mhz["fastest_mhz"].least == state.clocks_mhz["fastest_mhz"].most == 2000.0
    assert state.after[""]["clocks"]["temperature_c"] > SUNNY.ambient_c  # type: ignore[operator]
    assert table.fingerprint.context["clocks"]["temperature_c"] == SUNNY.ambient_c, "before the first measurement"


def test_heat_costs_time_and_no_accuracy(hot: tuple[LatencyTable, Heard, Path], tmp_path: Path) -> None:
    cool = profiled(SimulatedBoard(3, 0), tmp_path)
    assert cool.conditions is not None and not cool.conditions.pauses
    assert cool.conditions.temperature_c is None
    assert hot[0].profile_seconds > cool.profile_seconds + 0.9 * hot[0].conditions.paused_s  # type: ignore[union-attr]
    hot_ms, cool_ms = ([entry.median_ms for entry in table.networks] for table in (hot[0], cool))
    assert hot_ms == pytest.approx(cool_ms, rel=1e-6)


def test_who_waits_is_told(hot: tuple[LatencyTable, Heard, Path]) -> None:
    notes = hot[1].notes
    assert any(note.startswith("paused to cool down: 8") for note in notes)
    assert "times to cool down" in notes[-1]


def test_the_table_is_shown_with_its_pauses(hot: tuple[LatencyTable, Heard, Path], wide_terminal: None) -> None:
    shown = CliRunner().invoke(app, ["tables", "show", str(hot[2])])
    assert shown.exit_code == 0, shown.output
    state = hot[0].conditions
    assert state is not None
    assert f"{len(state.pauses)} pauses to cool down" in shown.output
    assert "limit of 80 °C reached" in shown.output
    assert "fastest core, MHz" in shown.output and "temperature, °C" in shown.output


def test_a_board_that_does_not_cool_down_ends_the_profile_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    with pytest.raises(TooHotError, match=r"after a pause of 600 s it is still too hot \(95"):
        profiled(SimulatedBoard(3, 0, BURNING, LIMIT_C), tmp_path)
    journal = next(tmp_path.rglob("*.journal.jsonl"))
    assert len(journal.read_text().splitlines()) == 1, "nothing was measured too hot"
    table = profiled(SimulatedBoard(3, 0, SUNNY, LIMIT_C), tmp_path)
    assert not table.missing.calibration and journal == journal_path(next(tmp_path.rglob("*-b1-*.json")))


def test_of_several_boards_the_one_that_stays_too_hot_leaves(tmp_path: Path) -> None:
    devices = {"shade": SimulatedBoard(3, 0, SUNNY, LIMIT_C), "sun": SimulatedBoard(3, 1, BURNING, LIMIT_C)}
    boards = [Board(name, device, device.clock) for name, device in devices.items()]
    heard = Heard()
    table, _ = profile_together(boards, SPACE, tmp_path, options(), heard)
    left = {board.name: board.left for board in table.boards}
    assert left["shade"] is None and "still too hot" in str(left["sun"])
    assert not table.missing.calibration
    assert table.conditions is not None
    assert {one.board for one in table.conditions.pauses} == {"shade"} == set(table.conditions.after)
    assert any(note.startswith("sun: paused to cool down") for note in heard.notes)


def test_a_profile_that_has_no_time_for_a_pause_ends_in_time(tmp_path: Path) -> None:
    board = SimulatedBoard(3, 0, SUNNY, LIMIT_C)
    table = profiled(board, tmp_path, minutes=0.2, networks_only=40)
    assert table.profile_seconds < 12.0 + 2.0, "the last measurement may take longer than there is time"
    assert table.missing.calibration


def test_a_board_that_slows_down_for_heat_is_waited_for_without_a_limit(tmp_path: Path) -> None:
    throttling = replace(SUNNY, slows_down_c=85.0, throttled_clock=0.5)
    state = profiled(SimulatedBoard(3, 0, throttling), tmp_path).conditions
    assert state is not None and state.pauses
    assert state.temperature_limit_c is None
    assert state.throttled_by == ("cooling device cpufreq-cpu0 at 1 of 4",)
    assert all("cooling device" in one.pause.why for one in state.pauses)


def test_a_power_mode_has_a_table_of_its_own(tmp_path: Path) -> None:
    board = SimulatedBoard(3, 0)
    fast = profiled(board, tmp_path)
    with board.changed(DeviceSettings(power_mode="15W", lock_clocks=True)) as changed:
        assert str(changed) == "power mode 15W, clocks locked (cpu 1200 MHz)"
        slow = profiled(board, tmp_path)
    assert slow.fingerprint.context["settings"] == {"power_mode": "15W", "clocks": {"cpu_mhz": 1200.0}}
    assert slow.fingerprint.identity8 != fast.fingerprint.identity8
    assert sum(entry.median_ms for entry in slow.networks) > 1.1 * sum(entry.median_ms for entry in fast.networks)
    assert board.fingerprint().identity == fast.fingerprint.identity, "the mode is as before"
    with pytest.raises(UserError, match="no power mode '7W'"), board.changed(DeviceSettings(power_mode="7W")):
        pass

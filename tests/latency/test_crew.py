"""Several boards of one kind profile one table: as one would, whatever becomes of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.devices import AgentLostError, Engine, Measurement, MeasureOptions
from hwnas.devices.errors import UnreachableError
from hwnas.errors import DeviceError, UserError
from hwnas.files import read_json_lines
from hwnas.latency import LatencyTable, ProfileOptions, fit_latency_model, journal_path, load_table
from hwnas.latency.agenda import TIE_BUILDS
from hwnas.latency.crew import Board, Crew
from hwnas.latency.difference import table_difference
from hwnas.latency.revalidation import RevalidationOptions, revalidate
from tests.heard import Heard

sys.path.insert(0, str(Path(__file__).parent))
import crews
from crews import QUICK, SMALL, SPACE, Mate, together

NETWORKS, TIES = 10, 6
UNITS = NETWORKS * 2
SPEEDS = (0.97, 1.0, 1.03)
FIVE = settings(
    max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def mates(*names: str) -> dict[str, Mate]:
    return {name: Mate() for name in names}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    """What one board gives."""
    return together({"": Mate()}, tmp_path_factory.mktemp("alone"))[0]


def farthest(first: LatencyTable, second: LatencyTable) -> float:
    """The largest relative difference of an entry that both have; they have the same ones."""
    found = table_difference(first, second)
    assert not any(kind.only_first or kind.only_second for kind in (found.blocks, found.networks))
    return max(abs(entry.relative) for entry in (*found.blocks.common, *found.networks.common))


def measured(table: Path) -> list[tuple[str, str]]:
    """Unit and board of each measurement in the journal."""
    lines = read_json_lines(journal_path(table))
    return [(line["unit"], line["board"]) for line in lines if line.get("measurement")]


@given(count=st.integers(2, 5), data=st.data())
@FIVE
def test_the_table_depends_neither_on_how_many_boards_nor_on_their_order(
    count: int, data: st.DataObject, alone: LatencyTable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = data.draw(st.permutations([f"board{i}" for i in range(count)]))
    table, path = together(mates(*names), tmp_path_factory.mktemp("tables"))
    assert farthest(alone, table) < 1e-12
    assert [board.name for board in table.boards] == sorted(names)
    assert all(board.factor == pytest.approx(1.0, abs=1e-12) and board.left is None for board in table.boards)
    done = Counter(measured(path))
    ties = Counter(unit for unit, _ in done)
    assert sum(times == count for times in ties.values()) >= TIES, "each board measures the ties"
    assert sum(done.values()) == count * TIES * TIE_BUILDS + (NETWORKS - TIES) * 2, (
        "and of all else each unit is shared"
    )


def test_whoever_measured_what_is_in_the_table(tmp_path: Path) -> None:
    table, path = together(mates("a", "b"), tmp_path)
    assert load_table(path) == table
    done = measured(path)
    for number, board in enumerate(table.boards):
        assert board.networks == sum(name == board.name for _, name in done)
        assert board.networks == sum(entry.boards.count(number) for entry in table.networks)
    for entry in table.with_role("validation"):
        assert len(set(entry.boards)) == 1, "a held-out network is of one board"
    assert {board for entry in table.with_role("validation") for board in entry.boards} == {0, 1}


def test_boards_work_side_by_side(tmp_path: Path) -> None:
    options = ProfileOptions(
        resolutions=(24,),
        calibration_networks=6,
        validation_networks=8,
        builds=2,
        block_protocol=QUICK,
        network_protocol=QUICK,
    )
    seconds = []
    for count in (1, 4):
        boards = {f"board{i}": Mate() for i in range(count)}
        table, _ = together(boards, tmp_path / str(count), options)
        seconds.append(max(board.now_s for board in boards.values()) - 2.0)  # without learning the fast state
        assert table.profile_seconds == pytest.approx(2.0 + seconds[-1], rel=0.1)
    assert seconds[0] / seconds[1] > 2.5


@pytest.mark.parametrize("order", [SPEEDS, SPEEDS[::-1]])
def test_boards_of_other_speeds_give_the_table_of_their_mean(
    order: tuple[float, ...], alone: LatencyTable, tmp_path: Path
) -> None:
    table, _ = together({f"x{slowness}": Mate(slowness) for slowness in order}, tmp_path)
    mean = float(np.exp(np.mean(np.log(SPEEDS))))
    for board, slowness in zip(table.boards, SPEEDS, strict=True):
        assert board.factor == pytest.approx(slowness / mean, abs=1e-4)
    assert table.fast_states_ms["small"] == pytest.approx(mean * alone.fast_states_ms["small"], rel=1e-4)
    theirs = {entry.architecture: entry.median_ms for entry in table.networks}
    for entry in alone.networks:
        assert theirs[entry.architecture] == pytest.approx(mean * entry.median_ms, rel=1e-4)


def test_how_far_boards_differ_is_in_the_error_and_in_the_spread(tmp_path: Path) -> None:
    options = replace(SMALL, networks_only=40, validation_networks=40)
    spread = 0.01
    boards = {f"x{slowness}": Mate(slowness, spread, seed) for seed, slowness in enumerate(SPEEDS)}
    table, _ = together(boards, tmp_path / "three", options)
    for board, slowness in zip(table.boards, SPEEDS, strict=True):
        assert board.factor is not None and board.spread is not None
        assert abs(board.factor - slowness) < 4 * board.spread < 4 * spread
    one, _ = together({"": Mate(1.0, spread, 7)}, tmp_path / "one", options)
    assert table_difference(one, table).networks.median < 1.5 * spread
    genomes = SPACE.sample(np.random.default_rng(0), 200)
    (mean, std), (alone, _) = (fit_latency_model(each, SPACE).predict(genomes) for each in (table, one))
    assert np.median(np.abs(mean / alone - 1)) < 0.01
    assert table.board_spread == pytest.approx(np.std(np.log(SPEEDS), ddof=1), rel=0.3)
    assert (std > table.board_spread * mean).all()
    assert table.validation is not None and one.validation is not None
    assert table.validation.mape > one.validation.mape
    assert table.validation.coverage_95 is not None and table.validation.coverage_95 >= 0.85


@pytest.mark.parametrize("moment", range(1, 26, 6))
def test_a_board_that_dies_at_any_request_loses_nothing(moment: int, alone: LatencyTable, tmp_path: Path) -> None:
    table, path = together(mates("a", "b") | {"dying": Mate(dies_at=moment)}, tmp_path)
    assert farthest(alone, table) < 1e-12
    assert table.missing == alone.missing
    done = measured(path)
    requests_of_a_unit = 2
    assert sum(board == "dying" for _, board in done) == (moment - 1) // requests_of_a_unit
    assert all(Counter(unit for unit, _ in done)[unit] >= 2 for unit, _ in done)
    (dying,) = [board for board in table.boards if board.name == "dying"]
    assert dying.networks == (moment - 1) // requests_of_a_unit
    assert dying.left == "it cannot be reached"


def test_when_all_die_others_go_on(alone: LatencyTable, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"No board is left \(a: it cannot be reached; b: it cannot be reached\)"):
        together({"a": Mate(dies_at=8), "b": Mate(dies_at=11)}, tmp_path)
    (journal,) = tmp_path.rglob("*.journal.jsonl")
    before = [line["unit"] for line in read_json_lines(journal)[1:] if "unit" in line]
    other = Mate(1.02)
    table, path = together({"c": other}, tmp_path)
    assert [unit for unit, _ in measured(path)][: len(before)] == before
    assert [board.name for board in table.boards] == ["a", "b", "c"]
    assert [board.left is None for board in table.boards] == [False, False, True]
    assert table.boards[2].factor == pytest.approx(1.02 / 1.02 ** (1 / 3), abs=1e-3), "tied by what those measured"
    assert np.ptp([entry.median_ms / other_ms for entry, other_ms in paired(table, alone)]) < 1e-3
    again, _ = together({"c": Mate(1.02)}, tmp_path)
    assert again == table


def paired(table: LatencyTable, other: LatencyTable) -> list[tuple[object, float]]:
    theirs = {entry.architecture: entry.median_ms for entry in other.networks}
    return [(entry, theirs[entry.architecture]) for entry in table.networks]


def test_who_is_away_in_the_beginning_is_told_and_may_come_later(tmp_path: Path) -> None:
    table, _ = together(mates("a", "b") | {"off": Mate(dies_at=0)}, tmp_path)
    (off,) = [board for board in table.boards if board.name == "off"]
    assert (off.networks, off.factor, off.left) == (0, None, "it cannot be reached")
    grown, _ = together(mates("off"), tmp_path, replace(SMALL, validation_networks=6))
    (off,) = [board for board in grown.boards if board.name == "off"]
    assert off.networks > 0 and off.left is None
    with pytest.raises(DeviceError, match="cannot be reached"):
        together({"off": Mate(dies_at=0), "too": Mate(dies_at=0)}, tmp_path)


def test_a_board_that_throttles_for_good_leaves_and_a_lonely_one_waits(alone: LatencyTable, tmp_path: Path) -> None:
    table, _ = together(mates("a", "b") | {"hot": Mate(throttles_at=9)}, tmp_path / "three")
    assert farthest(alone, table) < 1e-12
    assert all(entry.builds >= 2 for entry in table.networks)
    (hot,) = [board for board in table.boards if board.name == "hot"]
    assert hot.left == "nothing that it measures counts: its clocks do not keep still"
    for crew in ({"": Mate(throttles_at=0)}, {"a": Mate(throttles_at=0), "b": Mate(throttles_at=0)}):
        with pytest.raises(UserError, match="too few"):
            together(crew, tmp_path / str(len(crew)))
        for journal in (tmp_path / str(len(crew))).rglob("*.jsonl"):
            assert not [line for line in read_json_lines(journal) if "void" in line], "none is better than the other"


def test_a_board_on_which_everything_fails_leaves_and_its_units_are_not_given_up(
    alone: LatencyTable, tmp_path: Path
) -> None:
    broken = Mate()
    broken.refuse = Everything()
    table, _ = together(mates("a", "b") | {"broken": broken}, tmp_path)
    assert farthest(alone, table) < 1e-12
    (entry,) = [board for board in table.boards if board.name == "broken"]
    assert entry.left == "the fake device refuses this model"


class Everything(set[str]):
    def __contains__(self, _: object) -> bool:
        return True


def test_boards_of_different_kinds_are_refused(tmp_path: Path) -> None:
    sentence = r"^a and c are not of one kind \(cpu: fake → another\); profile them apart\.$"
    with pytest.raises(UserError, match=sentence):
        together(mates("a", "b") | {"c": Mate(cpu="another")}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    twice = [Board("a", device, device.clock) for device in (Mate(), Mate())]
    with pytest.raises(UserError, match="Board a is named 2 times"):
        crews.profile_together(twice, SPACE, tmp_path)


def test_a_board_that_becomes_another_is_left_out_and_its_units_are_measured_anew(
    alone: LatencyTable, tmp_path: Path
) -> None:
    changing = Mate(1.05)
    release = changing.release

    def upgraded(engine: object) -> None:
        changing.cpu = "another"
        release(engine)  # type: ignore[arg-type]

    changing.release = upgraded  # type: ignore[assignment, method-assign]
    table, _ = together(mates("a", "b") | {"changing": changing}, tmp_path)
    assert farthest(alone, table) < 1e-12
    assert [board.name for board in table.boards] == ["a", "b", "changing"]
    assert (table.boards[2].factor, table.boards[2].networks) == (None, 0)
    assert table.boards[2].left == "it changed while it was measured (cpu: fake → another)"


def test_a_board_that_is_too_far_off_is_left_out(alone: LatencyTable, tmp_path: Path) -> None:
    table, _ = together(mates("a", "b", "c") | {"slow": Mate(1.25)}, tmp_path)
    assert farthest(alone, table) < 1e-12
    assert table.boards[3].left == "its times are +25% off those of the other boards, more than 10%"
    assert (table.boards[3].factor, table.boards[3].networks, table.board_spread) == (None, 0, 0.0)


def test_of_two_boards_nothing_tells_which_is_off_until_one_is_chosen(alone: LatencyTable, tmp_path: Path) -> None:
    boards = {"a": 1.0, "slow": 1.25}
    with pytest.raises(DeviceError, match=r"^a and slow differ by 2\d% in speed, more than 10%, and of two boards"):
        together({name: Mate(slowness) for name, slowness in boards.items()}, tmp_path)
    table, _ = together(mates("a"), tmp_path)
    assert farthest(alone, table) < 1e-12
    assert [(board.name, board.left is None) for board in table.boards] == [("a", True), ("slow", False)]


def test_a_crew_that_is_killed_is_gone_on_with_by_another_board(alone: LatencyTable, tmp_path: Path) -> None:
    program = [sys.executable, str(crews.__file__), str(tmp_path), "a", "b"]
    child = subprocess.Popen(program, env=os.environ | {"OMP_NUM_THREADS": "1"})
    moment = random.Random(0).randrange(2, 2 * TIES * TIE_BUILDS)
    journals: list[Path] = []
    while not journals or journals[0].read_bytes().count(b"\n") <= moment:
        assert child.poll() is None
        time.sleep(0.002)
        journals = list(tmp_path.rglob("*.journal.jsonl"))
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    before = journals[0].read_bytes()
    before = before[: before.rindex(b"\n") + 1]
    table, path = together({"c": Mate(0.99)}, tmp_path)
    assert journal_path(path).read_bytes().startswith(before), "what was measured stays"
    assert {board.name for board in table.boards} == {"a", "b", "c"}
    assert table.missing == alone.missing
    assert np.ptp([entry.median_ms / other_ms for entry, other_ms in paired(table, alone)]) < 1e-3
    per_board = Counter(unit for unit, board in measured(path) if board == "c")
    assert max(per_board.values()) == 2


def test_time_is_of_the_wall_and_not_of_each_board(tmp_path: Path) -> None:
    boards = {f"board{i}": Mate() for i in range(3)}
    options = ProfileOptions(
        minutes=0.005, resolutions=(24,), calibration_networks=6, validation_networks=8, network_protocol=QUICK
    )
    table, _ = together(boards, tmp_path, options)
    assert table.missing.blocks > 0
    assert all(0.25 < board.now_s < 0.6 for board in boards.values())
    assert 0.25 < table.profile_seconds < 0.6


def test_progress_shows_boards(tmp_path: Path) -> None:
    heard = Heard()
    together(mates("a", "b") | {"dying": Mate(dies_at=7)}, tmp_path, progress=heard)
    assert heard.notes[0] == "1 of 10 networks, 3 of 3 boards"
    assert "dying left: it cannot be reached" in heard.notes
    assert heard.notes[-1] == "10 of 10 networks, 2 of 3 boards"


def test_what_a_job_raises_ends_what_the_others_are_at() -> None:
    interrupted = threading.Event()
    boards = [Board("raises", Mate()), Board("waits", Mate(), interrupt=interrupted.set)]
    begun = threading.Event()

    def job_for(board: Board) -> object:
        def waits() -> None:
            begun.set()
            interrupted.wait()

        def raises() -> None:
            begun.wait()
            raise KeyboardInterrupt

        return raises if board.name == "raises" else waits

    with pytest.raises(KeyboardInterrupt), Crew[None](boards) as crew:
        list(crew.results(job_for))  # type: ignore[arg-type]
    assert interrupted.is_set()


def test_jobs_come_back_in_the_order_of_the_boards_clocks() -> None:
    class Watch:
        now_s = 0.0

        def read(self) -> float:
            return self.now_s

    seconds = {"slow": [5.0, 5.0], "quick": [1.0, 2.0, 3.0, 1.0]}
    watches = {name: Watch() for name in seconds}
    boards = [Board(name, Mate(), watches[name].read) for name in seconds]
    quick_may_end = threading.Event()

    def job_for(board: Board) -> object:
        left = seconds[board.name]
        if not left:
            return None
        step = left.pop(0)

        def job() -> str:
            if board.name == "quick":
                quick_may_end.wait()  # the slow one is done first, but not by its clock
            watches[board.name].now_s += step
            quick_may_end.set()
            return f"{board.name} {watches[board.name].now_s:g}"

        return job

    with Crew[str](boards) as crew:
        found = [result for _, result in crew.results(job_for)]  # type: ignore[arg-type]
        assert crew.now_s() == 10.0
    assert found == ["quick 1", "quick 3", "slow 5", "quick 6", "quick 7", "slow 10"]


def test_a_board_lost_while_it_measures_costs_no_try_of_the_unit(alone: LatencyTable, tmp_path: Path) -> None:
    class Lost(Mate):
        def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
            self.requests += 1
            if self.requests >= self.dies_at:
                raise AgentLostError("the wire broke.")
            return super().measure(engine, options)

        def release(self, engine: Engine) -> None:
            if self.requests >= self.dies_at:
                raise UnreachableError("it cannot be reached.")

    table, path = together(mates("a", "b") | {"lost": Lost(dies_at=8)}, tmp_path)
    assert farthest(alone, table) < 1e-12
    assert not [line for line in read_json_lines(journal_path(path)) if line.get("error")]
    assert all(entry.builds >= 2 for entry in table.networks)


def test_what_one_board_validated_anew_outlives_a_profile_with_others(tmp_path: Path) -> None:
    _, path = together(mates("a", "b"), tmp_path)
    lone = Mate()
    with crews.fast_models():
        anew = revalidate(lone, path, options=RevalidationOptions(networks=4), clock=lone.clock)
    assert anew.written and all(entry.boards == () for entry in anew.table.with_role("validation"))
    table, path = together(mates("b", "c"), tmp_path)
    assert load_table(path) == table
    assert {entry.architecture for entry in anew.table.networks} <= {entry.architecture for entry in table.networks}
    assert [board.name for board in table.boards] == ["a", "b", "c"]


def test_boards_are_shown(tmp_path: Path, wide_terminal: None) -> None:
    boards = {"me@a": Mate(1.03), "me@b": Mate(), "me@c": Mate(), "me@dead": Mate(dies_at=0)}
    _, path = together(boards, tmp_path)
    shown = CliRunner().invoke(app, ["tables", "show", str(path)])
    assert shown.exit_code == 0
    lines = {line.split()[1]: line for line in shown.output.splitlines() if " me@" in line}
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["tables", "show", str(path), "--html", str(page)]).exit_code == 0
    assert "me@a +2.0 %; me@b -1.0 %; me@c -1.0 %; me@dead (left: it cannot be reached)" in page.read_text()
    assert "+1.99 %" in lines["me@a"] and "-0.98 %" in lines["me@b"] and "cannot be reached" in lines["me@dead"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ssh", "a", "--ssh", "a"], "Board a is named 2 times"),
        (["--ssh", "a b"], "A host is named"),
        (["--ssh", "a", "--plan", "plan.json"], "no --ssh belongs to it"),
    ],
)
def test_wrong_boards_are_refused_in_a_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["profile", "--tables", str(tmp_path), *arguments])
    assert found.exit_code == 2
    assert sentence in found.output
    assert not list(tmp_path.iterdir())

"""Rollouts in waves: they stop where they should, and go on after the operator's machine died."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress

from hwnas.cli.console import Bars
from hwnas.deploy.fleet import FailureLimit, Rollout, RolloutResult, Stages
from hwnas.deploy.fleet.group import read_group, target_of
from hwnas.deploy.fleet.journal import Journal, RolloutInputs
from hwnas.deploy.outcome import Fate, Outcome
from hwnas.errors import BadFileError, UserError
from hwnas.progress import Silent
from hwnas.questions import Nobody, answered_by, answering


class DiedError(BaseException):
    """The operator's machine went off."""


class FakeFleet:
    """Boards that fail as they are told to; a bundle stays where it arrived, whoever asks."""

    def __init__(self, fates: dict[str, Fate]) -> None:
        self.fates, self.installed, self.seen = fates, set[str](), list[str]()
        self._lock = threading.Lock()

    def flash(self, board: str) -> Outcome:
        with self._lock:
            self.seen.append(board)
            fate = self.fates.get(board, "updated")
            if fate == "updated":
                fate = "unchanged" if board in self.installed else "updated"
                self.installed.add(board)
            return Outcome(board=board, fate=fate)

    def roll_back(self, board: str, why: str) -> Outcome:
        with self._lock:
            self.installed.discard(board)
            return Outcome(board=board, fate="rolled-back", why=why)


class DyingJournal(Journal):
    """Its machine goes off before or after the n-th event is on the disk."""

    def __init__(self, path: Path, inputs: RolloutInputs, events: int, after: bool) -> None:
        super().__init__(path, inputs)
        self._left, self._after = events, after

    def _add(self, event: object) -> None:
        self._left -= 1
        if self._left < 0 and not self._after:
            raise DiedError
        super()._add(event)  # type: ignore[arg-type]
        if self._left < 0:
            raise DiedError


def names(count: int) -> list[str]:
    return [f"b{number:03}" for number in range(count)]


def inputs(boards: list[str], bundle: str = "ab") -> RolloutInputs:
    return RolloutInputs(bundle=bundle, group="cameras", boards=tuple(boards), stages=("1",), max_failures="0")


def roll_out(
    fleet: FakeFleet, waves: list[list[str]], limit: str, journal: Journal, parallel: int = 3
) -> RolloutResult:
    return Rollout(fleet, waves, FailureLimit.parse(limit), journal, parallel).run(Silent())


@pytest.mark.parametrize(
    ("text", "boards", "sizes"),
    [
        ("1,10%,100%", 200, [1, 19, 180]),
        ("1,10%,100%", 3, [1, 2]),
        ("5,100%", 2, [2]),
        ("10%", 15, [2]),
        ("100%", 1, [1]),
    ],
)
def test_waves_are_the_boards_between_two_stages(text: str, boards: int, sizes: list[int]) -> None:
    waves = Stages.parse(text).waves(names(boards))
    assert [len(wave) for wave in waves] == sizes
    assert [board for wave in waves for board in wave] == names(boards)[: sum(sizes)]


@pytest.mark.parametrize("text", ["", "1,,2", "0", "0%", "101%", "-1", "ten", "1.5"])
def test_a_stage_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--stages takes"):
        Stages.parse(text)


def test_stages_rise() -> None:
    with pytest.raises(UserError, match="fewer than the stage before"):
        Stages.parse("50%,10").waves(names(100))


@pytest.mark.parametrize(("text", "boards", "allowed"), [("2%", 1, 0), ("2%", 180, 3), ("100%", 7, 7), ("3", 1000, 3)])
def test_a_share_of_failures_is_of_the_wave_and_rounded_down(text: str, boards: int, allowed: int) -> None:
    assert FailureLimit.parse(text).allowed(boards) == allowed


@pytest.mark.parametrize("text", ["", "-1", "101%", "few", "2.5"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--max-failures takes"):
        FailureLimit.parse(text)


def test_a_failed_wave_gets_back_what_it_had_and_the_waves_before_keep_theirs(tmp_path: Path) -> None:
    boards = names(10)
    fleet = FakeFleet({"b003": "rolled-back"})
    result = roll_out(fleet, [boards[:2], boards[2:6], boards[6:]], "0", Journal(tmp_path / "log", inputs(boards)), 1)
    assert result.stopped_in == 1
    assert fleet.seen == ["b000", "b001", "b002", "b003"]
    assert fleet.installed == {"b000", "b001"}
    assert result.untouched == ["b004", "b005", *boards[6:]]
    assert result.outcomes["b002"].why == "wave 2 of the rollout failed"


def test_the_bar_of_a_rollout_that_stops_shows_how_far_it_came(tmp_path: Path) -> None:
    drawn, boards = Progress(disable=True), names(4)
    fleet, waves = FakeFleet({"b001": "refused"}), [names(2), boards[2:]]
    Rollout(fleet, waves, FailureLimit.parse("0"), Journal(tmp_path / "log", inputs(boards)), 1).run(Bars(drawn))
    assert {task.description: (task.completed, task.total) for task in drawn.tasks} == {
        "flashing": (2, 4),
        "rolling back": (1, 1),
    }


def test_a_board_that_could_not_be_given_back_what_it_had_is_given_it_the_next_time(tmp_path: Path) -> None:
    class Silenced(FakeFleet):
        def roll_back(self, board: str, why: str) -> Outcome:
            return Outcome(board=board, fate="unreachable", why="nobody answers")

    silent = Silenced({"b001": "refused"})
    assert roll_out(silent, [names(2)], "0", Journal(tmp_path / "log", inputs(names(2))), 1).stopped_in == 0
    assert silent.installed == {"b000"}
    back = FakeFleet({})
    back.installed = {"b000"}
    result = roll_out(back, [names(2)], "0", Journal(tmp_path / "log", inputs(names(2))), 1)
    assert (back.installed, back.seen, result.outcomes["b000"].fate) == (set(), [], "rolled-back")


def test_whoever_answers_questions_answers_them_for_every_board(tmp_path: Path) -> None:
    class Asking(FakeFleet):
        def flash(self, board: str) -> Outcome:
            assert answering().trusts(board, "its key")
            return super().flash(board)

    class Trusting(Nobody):
        def trusts(self, host: str, fingerprint: str) -> bool:
            return True

    with answered_by(Trusting()):
        result = roll_out(Asking({}), [names(3)], "0", Journal(tmp_path / "log", inputs(names(3))), 2)
    assert result.stopped_in is None


def test_boards_that_had_the_bundle_before_keep_it_when_their_wave_fails(tmp_path: Path) -> None:
    fleet = FakeFleet({"b001": "refused"})
    fleet.installed = {"b000"}
    result = roll_out(fleet, [names(2)], "0", Journal(tmp_path / "log", inputs(names(2))), 1)
    assert (result.stopped_in, fleet.installed) == (0, {"b000"})


def test_the_log_of_another_rollout_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "log", inputs(names(2)))
    with pytest.raises(UserError, match="holds a rollout with bundle = ab, not cd"):
        Journal(tmp_path / "log", inputs(names(2), bundle="cd"))
    (tmp_path / "log").write_text('{"schema": 1}\n')
    with pytest.raises(BadFileError, match="field 'bundle'"):
        Journal(tmp_path / "log", inputs(names(2)))


FATES: st.SearchStrategy[Fate] = st.sampled_from(["updated", "updated", "updated", "rolled-back", "unreachable"])


@settings(max_examples=60, deadline=None)
@given(
    fates=st.lists(FATES, min_size=1, max_size=12),
    deaths=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=4),
    limit=st.sampled_from(["0", "1", "25%"]),
)
def test_however_often_the_operators_machine_dies_the_rollout_ends_as_if_it_had_not(
    fates: list[Fate], deaths: list[tuple[int, bool]], limit: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    boards = names(len(fates))
    failing = {board: fate for board, fate in zip(boards, fates, strict=True) if fate != "updated"}
    waves = Stages.parse("1,50%,100%").waves(boards)
    directory = tmp_path_factory.mktemp("rollout")
    unbroken, broken = FakeFleet(failing), FakeFleet(failing)
    expected = roll_out(unbroken, waves, limit, Journal(directory / "unbroken", inputs(boards)), 1)

    def attempts() -> Iterator[Journal]:
        for events, after in deaths:
            yield DyingJournal(directory / "broken", inputs(boards), events, after)
        yield Journal(directory / "broken", inputs(boards))

    for journal in attempts():
        try:
            result = roll_out(broken, waves, limit, journal, 1)
        except DiedError:
            continue
        break
    assert result.stopped_in == expected.stopped_in
    assert broken.installed == unbroken.installed
    assert {name: one.succeeded for name, one in result.outcomes.items()} == {
        name: one.succeeded for name, one in expected.outcomes.items()
    }


GROUP = """
schema: 1
group: cameras
boards:
  - {name: door, target: host-cpu}
  - {name: yard, target: host-cpu, ssh: {kind: ssh, host: 10.0.0.7, user: ops}, root: /srv/hwnas}
"""


def test_a_group_names_boards_their_targets_and_the_way_to_them(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(GROUP)
    door, yard = read_group(tmp_path / "cameras.yaml").boards
    assert target_of(door, tmp_path).connection.kind == "local"
    assert target_of(yard, tmp_path).connection == yard.ssh
    assert yard.root == "/srv/hwnas"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: yard", "name: door", "board 'door' stands there twice"),
        ("name: door", "nmae: door", "name"),
        ("boards:", "boards: [", "is not YAML"),
        ("schema: 1", "schema: 2", "field 'schema'"),
    ],
)
def test_a_group_that_is_none_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "cameras.yaml").write_text(GROUP.replace(old, new, 1))
    with pytest.raises(BadFileError, match=message):
        read_group(tmp_path / "cameras.yaml")

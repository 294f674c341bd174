"""Boards that fail in every way, each at many moments: none is ever left with half a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import pytest
from rich.progress import Progress

from hwnas.agent.slots.slots import Slots
from hwnas.cli.console import Bars
from hwnas.deploy.board import BoardSlots
from hwnas.deploy.flash import Parcel, flash, parcel
from hwnas.deploy.fleet.boards import GroupFleet
from hwnas.deploy.fleet.group import Group
from hwnas.deploy.fleet.journal import Journal, RolloutInputs
from hwnas.deploy.fleet.rollout import Rollout
from hwnas.deploy.fleet.stages import FailureLimit, Stages
from hwnas.deploy.outcome import Outcome
from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device, Target, load_target
from hwnas.devices.simulated.installing import InstallingBoard, Kind, Trouble
from hwnas.progress import Silent
from tests.deploy.bundles import make_key, public_hex, tiny_bundle

TRUSTED = [PublicKey(public_hex(make_key()))]
OLD, NEW = tiny_bundle(version=1, real=False), tiny_bundle(version=2, real=False)
MOMENTS = {"disk-full": range(1, 30), "power-loss": range(1, 260, 7), "reset": range(1, 12), "silence": range(1, 12)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a board that serves the old bundle."""
    root = tmp_path_factory.mktemp("served") / "board"
    with parcel(OLD.write(root.parent), TRUSTED) as sent:
        board(root, InstallingBoard()).trust(TRUSTED[0], "")
        assert flashed(root, sent, None).fate == "updated"
    return root


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    """The new bundle."""
    with parcel(NEW.write(tmp_path_factory.mktemp("new")), TRUSTED) as one:
        return one


def board(root: Path, connection: InstallingBoard) -> BoardSlots:
    return BoardSlots(Device(load_target("host-cpu"), connection), str(root))


def flashed(root: Path, sent: Parcel, trouble: Trouble | None) -> Outcome:
    slots = board(root, InstallingBoard(trouble))
    with slots.device:
        return flash("here", sent, slots, Silent())


def current(root: Path) -> str | None:
    """The slot that a board serves, after all that its next start does; its engines are whole."""
    slots = Slots(root)
    slots.boot_check()
    digest = slots.current()
    assert digest is not None
    slots.roll_back("to load it", digest)  # a slot that cannot be loaded is refused
    return digest


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_board_serves_all_of_the_old_or_all_of_the_new_whatever_happens(
    kind: Kind, served: Path, sent: Parcel, tmp_path: Path
) -> None:
    fates = set()
    for moment in MOMENTS.get(kind, range(1, 5)):
        root = tmp_path / f"{kind}-{moment}"
        shutil.copytree(served, root, symlinks=True)
        outcome = flashed(root, sent, Trouble(kind, moment))
        fates.add(outcome.fate)
        found = current(root)
        assert found in (OLD.digest, NEW.digest)
        assert outcome.fate != "broken"
        if outcome.fate not in ("unreachable", "unconfirmed"):
            assert (found == NEW.digest) is outcome.succeeded, (moment, outcome)
        assert flashed(root, sent, None).succeeded
        assert current(root) == NEW.digest
    assert fates <= {"updated", "rolled-back", "refused", "unconfirmed", "unreachable"}


def test_the_bar_of_a_board_that_keeps_what_it_had_is_not_full(served: Path, sent: Parcel, tmp_path: Path) -> None:
    shutil.copytree(served, tmp_path / "board", symlinks=True)
    drawn, slots = Progress(disable=True), board(tmp_path / "board", InstallingBoard(Trouble("unhealthy")))
    with slots.device:
        assert flash("here", sent, slots, Bars(drawn)).fate == "rolled-back"
    flashing, sending = drawn.tasks
    assert (flashing.completed, flashing.total) == (4, 6)
    assert sending.completed == sending.total


def test_power_that_is_lost_once_never_fails_a_board(served: Path, sent: Parcel, tmp_path: Path) -> None:
    shutil.copytree(served, tmp_path / "board", symlinks=True)
    assert flashed(tmp_path / "board", sent, Trouble("power-loss", 40)).fate == "updated"


def test_a_rollout_to_real_slots_stops_and_gives_the_wave_back(served: Path, sent: Parcel, tmp_path: Path) -> None:
    """Twelve boards; the seventh finds the bundle unfit, which is one too many in its wave."""
    names = [f"b{number:02}" for number in range(12)]
    for name in names:
        shutil.copytree(served, tmp_path / name, symlinks=True)
    entries = [{"name": name, "target": "host-cpu", "root": str(tmp_path / name)} for name in names]
    group = Group.model_validate({"schema": 1, "group": "g", "boards": entries})

    def opened(board: str, target: Target) -> Device:
        return Device(target, InstallingBoard(Trouble("unhealthy") if board == "b06" else None))

    fleet = GroupFleet(group, tmp_path, sent, opener=opened)
    inputs = RolloutInputs(
        bundle=sent.bundle.digest, group="g", boards=tuple(names), stages=("1", "50%", "100%"), max_failures="0"
    )
    waves = Stages(inputs.stages).waves(names)
    result = Rollout(fleet, waves, FailureLimit("0"), Journal(tmp_path / "log", inputs), 1).run(Silent())
    assert result.stopped_in == 2
    serving = [current(tmp_path / name) for name in names]
    assert serving == [NEW.digest] * 6 + [OLD.digest] * 6
    assert result.outcomes["b06"].fate == "rolled-back"

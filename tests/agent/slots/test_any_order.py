"""Whatever is done to a board in whatever order: what serves is whole, signed, and never older but by a rollback."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots import dsse
from hwnas.agent.slots.slot_files import open_slot
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import tiny_bundle
from tests.deploy.fakes import FakeBuilder, FakeHealth, QuickDisk, board, deliver, send

BUNDLES = [tiny_bundle(version=version, real=False) for version in (1, 2, 3)]
BUNDLES.append(tiny_bundle(version=2, real=False, extra={"another": b""}))
REFUSALS = (ErrorKind.TOO_OLD, ErrorKind.BAD_REQUEST)


class AnyOrder(RuleBasedStateMachine):
    """A board and the highest version that it ever served."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.slots = board(self.directory / "root")
        self.highest = 0

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    @rule(bundle=st.sampled_from(BUNDLES), complaint=st.booleans(), refusal=st.booleans())
    def install(self, bundle: object, complaint: bool, refusal: bool) -> None:
        before = self.slots.current()
        health = FakeHealth("it is wrong" if complaint else None, "it does not load" if refusal else None)
        try:
            outcome = deliver(self.slots, bundle, FakeBuilder(), health).outcome  # type: ignore[arg-type]
        except AgentError as error:
            assert error.kind == ErrorKind.TOO_OLD
            assert self.slots.current() == before
            return
        version = bundle.manifest["version"]  # type: ignore[attr-defined]
        if self.slots.current() == before:
            return
        assert (outcome, complaint, refusal) == ("confirmed", False, False) or outcome == "rolled-back"
        assert outcome == "rolled-back" or version >= self.highest

    @rule(bundle=st.sampled_from(BUNDLES))
    def activate_and_die(self, bundle: object) -> None:
        try:
            send(self.slots, bundle.archive, bundle.sha256)  # type: ignore[attr-defined]
            digest = self.slots.verify(bundle.sha256)  # type: ignore[attr-defined]
            self.slots.build(digest, FakeBuilder())
            self.slots.check(digest, FakeHealth())
            self.slots.activate(digest)
        except AgentError as error:
            assert error.kind in REFUSALS

    @rule(place=st.none() | st.integers(0, 3))
    def roll_back(self, place: int | None) -> None:
        try:
            self.slots.roll_back("because", None if place is None else BUNDLES[place].digest)
        except AgentError as error:
            assert error.kind == ErrorKind.BAD_REQUEST

    @rule()
    def boot(self) -> None:
        self.slots.boot_check()
        status = self.slots.status()
        assert status["current"] is None or status["slots"][status["current"]]["state"] == "confirmed"

    @rule(keep=st.integers(2, 3))
    def collect(self, keep: int) -> None:
        before = self.slots.status()
        self.slots.collect(keep)
        after = self.slots.status()
        assert (after["current"], after["previous"]) == (before["current"], before["previous"])
        assert len(after["slots"]) <= max(keep, 1)

    @rule()
    def open_anew(self) -> None:
        self.slots = Slots(self.slots.root, QuickDisk())

    @invariant()
    def what_serves_is_whole(self) -> None:
        status = self.slots.status()
        current = status["current"]
        if current is not None:
            files = open_slot(self.slots.root)
            assert files.is_whole()
            for model in files.manifest.models:
                files.engine(model)
            assert status["slots"][current]["state"] in ("active", "confirmed")

    @invariant()
    def the_books_agree(self) -> None:
        status = self.slots.status()
        current, previous = status["current"], status["previous"]
        assert previous is None or (previous != current and status["slots"][previous]["state"] == "confirmed")
        for digest, slot in status["slots"].items():
            assert (self.slots.root / "slots" / digest).is_dir()
            assert slot["state"] != "active" or digest == current
        highest = status["highest"].get("cameras", {"version": 0})["version"]
        assert highest >= self.highest
        self.highest = highest


AnyOrder.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)


@pytest.mark.usefixtures("signatures_once")
class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[name-defined,misc]
    """The machine as a test."""


@pytest.fixture
def signatures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each signature once in all."""
    monkeypatch.setattr(dsse, "verify", functools.lru_cache(dsse.verify))

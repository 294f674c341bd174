"""Every call that an installation makes of the file system fails, is the last one before a kill, or loses the power.

Afterwards ``current`` is wholly the old slot or wholly the new one, the store opens, and doing the same again ends
well.  The suite tries a share of the calls; ``-m slow`` tries each.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots import dsse
from hwnas.agent.slots.slot_files import open_slot
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import TinyBundle, make_key, public_hex, tiny_bundle
from tests.deploy.fakes import FakeBuilder, FakeHealth, QuickDisk, board, deliver, send
from tests.deploy.faults.disks import CountingDisk, DeadlyDisk, FailingDisk, PowerCut, UnpoweredDisk

FIRST, SECOND, THIRD = (tiny_bundle(version=version, real=False) for version in (1, 2, 3))
Act = Callable[[Slots], object]


def nothing(slots: Slots) -> None:
    """Before the first installation."""


def one(slots: Slots) -> None:
    deliver(slots, FIRST)


def two(slots: Slots) -> None:
    one(slots)
    deliver(slots, SECOND)


def unconfirmed(slots: Slots) -> None:
    one(slots)
    send(slots, SECOND.archive, SECOND.sha256)
    digest = slots.verify(SECOND.sha256)
    slots.build(digest, FakeBuilder())
    slots.check(digest, FakeHealth())
    slots.activate(digest)


def three(slots: Slots) -> None:
    two(slots)
    deliver(slots, THIRD)


def back(slots: Slots) -> None:
    slots.roll_back("by hand", to=FIRST.digest)


def install_unhealthy(slots: Slots) -> None:
    assert deliver(slots, SECOND, health=FakeHealth(complaint="it is wrong")).outcome == "unhealthy"


def install_refused(slots: Slots) -> None:
    assert deliver(slots, SECOND, health=FakeHealth(refusal="the service cannot load it")).outcome == "rolled-back"


@dataclass(frozen=True)
class Story:
    """What is done to a board, and which slots may be current afterwards."""

    before: Act
    act: Act
    old: TinyBundle | None
    new: TinyBundle | None
    between: TinyBundle | None = None
    """What may be current on the way from old to new."""


STORIES = {
    "first": Story(nothing, lambda slots: deliver(slots, FIRST), None, FIRST),
    "update": Story(one, lambda slots: deliver(slots, SECOND), FIRST, SECOND),
    "rollback": Story(two, back, SECOND, FIRST),
    "boot-check": Story(unconfirmed, lambda slots: slots.boot_check(), SECOND, FIRST),
    "unhealthy": Story(one, install_unhealthy, FIRST, FIRST),
    "refused by the service": Story(one, install_refused, FIRST, FIRST, SECOND),
    "collect": Story(three, lambda slots: slots.collect(), THIRD, THIRD),
    "trust": Story(one, lambda slots: slots.trust(public_hex(make_key(7)), "another", confirmed=True), FIRST, FIRST),
}


@pytest.fixture(autouse=True)
def signatures_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each signature once in all: it is the disk that is tried here."""
    monkeypatch.setattr(dsse, "verify", functools.lru_cache(dsse.verify))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, where there is one."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    directory = Path(tempfile.mkdtemp(dir=memory))
    yield directory
    shutil.rmtree(directory)


@dataclass
class Stage:
    """A board as a story begins with it, copied for each fault."""

    story: Story
    scratch: Path

    def __post_init__(self) -> None:
        self._template = self.scratch / "template"
        self.story.before(board(self._template))
        self.faults = 0

    def board(self) -> Path:
        self.faults += 1
        root = self.scratch / "board"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._template, root, symlinks=True)
        return root

    def calls(self) -> CountingDisk:
        disk = CountingDisk()
        self.story.act(Slots(self.board(), disk))
        self.faults = 0
        return disk

    def require_whole(self, root: Path) -> None:
        """Check what a fault has left, then do the same again."""
        story = self.story
        allowed = {bundle and bundle.digest for bundle in (story.old, story.new, story.between)}
        slots = Slots(root, QuickDisk())
        status = slots.status()
        assert status["current"] in allowed
        self._require_loadable(root, status["current"])
        slots.audit()
        story.act(slots)
        assert slots.current() == (story.new and story.new.digest)
        self._require_loadable(root, slots.current())
        self._require_tidy(slots)
        before = snapshot(root)
        story.act(slots)
        if story.act not in (install_unhealthy, install_refused):
            assert snapshot(root) == before, "the second time changes nothing"

    @staticmethod
    def _require_loadable(root: Path, current: str | None) -> None:
        if current is None:
            return
        files = open_slot(root)
        assert files.digest == current
        assert files.is_whole()
        for model in files.manifest.models:
            files.engine(model)

    @staticmethod
    def _require_tidy(slots: Slots) -> None:
        root, status = slots.root, slots.status()
        assert {path.name for path in (root / "slots").iterdir()} == set(status["slots"])
        previous = root / "previous"
        assert (str(previous.readlink()).split("/")[1] if previous.is_symlink() else None) == status["previous"]
        assert [event["number"] for event in slots.audit()] == list(range(1, len(slots.audit()) + 1))
        assert not list(root.rglob("*.unpacked"))


def snapshot(root: Path) -> dict[str, bytes | str | None]:
    """All names and contents, but the order in which nothing happened."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


def fail(stage: Stage, every: int) -> None:
    for n in range(0, len(stage.calls().calls), every):
        root = stage.board()
        try:
            stage.story.act(Slots(root, FailingDisk(n)))
        except AgentError as error:
            assert error.kind == ErrorKind.DISK, f"call {n}: {error.message}"
        stage.require_whole(root)


def kill(stage: Stage, every: int) -> None:
    changing = [call for call in stage.calls().calls if call.changes]
    for n in range(0, len(changing), every):
        for in_half in {False, changing[n].name == "write"}:
            root = stage.board()
            assert in_a_process(stage.story.act, Slots(root, DeadlyDisk(n, in_half))) == 9
            stage.require_whole(root)


def cut(stage: Stage, every: int) -> None:
    changing = [call for call in stage.calls().calls if call.changes or call.name == "fsync"]
    for n in range(0, len(changing), every):
        root = stage.board()
        disk = UnpoweredDisk(root, n)
        with pytest.raises(PowerCut):
            stage.story.act(Slots(root, disk))
        found = stage.scratch / "found"
        shutil.rmtree(found, ignore_errors=True)
        disk.restore(found)
        stage.require_whole(found)


def in_a_process(act: Act, slots: Slots) -> int:
    """The exit status of a child that does it."""
    child = os.fork()
    if not child:
        try:
            act(slots)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(("fault", "every"), [(fail, 17), (kill, 4), (cut, 6)], ids=["fail", "kill", "cut"])
def test_a_fault_leaves_the_old_slot_or_the_new_one(
    story: str, fault: Callable[[Stage, int], None], every: int, scratch: Path
) -> None:
    fault(Stage(STORIES[story], scratch), every)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("fault", [fail, kill, cut])
def test_every_single_fault(
    story: str, fault: Callable[[Stage, int], None], scratch: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = Stage(STORIES[story], scratch)
    fault(stage, 1)
    record_property("faults", stage.faults)
    print(f"{fault.__name__} {story}: {stage.faults} faults")

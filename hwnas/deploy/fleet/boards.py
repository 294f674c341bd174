"""The boards of a group, each over a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hwnas.deploy.board import BoardSlots
from hwnas.deploy.flash import Parcel, flash, roll_back, without_change
from hwnas.deploy.fleet.group import BoardEntry, Group, target_of
from hwnas.deploy.outcome import Outcome
from hwnas.devices import Device, Target, open_device
from hwnas.errors import HwnasError
from hwnas.progress import Silent

Opener = Callable[[str, Target], AbstractContextManager[Device]]
"""From a board's name and the target as which it is reached."""


def _opened(_: str, target: Target) -> AbstractContextManager[Device]:
    return open_device(target)


class GroupFleet:
    """A bundle's way to the boards of a group; see :class:`~hwnas.deploy.fleet.rollout.Fleet`."""

    def __init__(
        self,
        group: Group,
        directory: Path,
        sent: Parcel,
        *,
        root: str | None = None,
        allow_stale: bool = False,
        opener: Opener = _opened,
    ) -> None:
        """
        Args:
            group: the boards.
            directory: of the group's file.
            sent: the bundle.
            root: directory of the slots on every board; ``None``: as the group says.
            allow_stale: boards with another identity than the budget was checked on will do.
            opener: reaches a board.

        Raises:
            UserError: a board's target does not exist or cannot be flashed.
        """
        self._entries = {entry.name: entry for entry in group.boards}
        self._targets = {entry.name: target_of(entry, directory) for entry in group.boards}
        self._sent, self._root, self._allow_stale, self._opener = sent, root, allow_stale, opener

    def flash(self, board: str) -> Outcome:
        """Give a board the bundle."""
        try:
            with self._slots(board) as slots:
                return flash(board, self._sent, slots, Silent(), allow_stale=self._allow_stale)
        except HwnasError as error:
            return _unchanged(board, error)

    def roll_back(self, board: str, why: str) -> Outcome:
        """Give a board back what it had before the bundle."""
        try:
            with self._slots(board) as slots:
                status = slots.status()
                if status.current != self._sent.bundle.digest:  # an attempt that was killed did so
                    return Outcome(board=board, fate="rolled-back", why=why, digest=status.current)
                if status.previous is None:
                    kept = f"{why}, and this board keeps the bundle: it had none before"
                    return Outcome(board=board, fate="updated", why=kept, digest=status.current)
                return roll_back(board, slots, why)
        except HwnasError as error:
            return _unchanged(board, error)

    @contextmanager
    def _slots(self, board: str) -> Iterator[BoardSlots]:
        entry: BoardEntry = self._entries[board]
        with self._opener(board, self._targets[board]) as device:
            yield BoardSlots(device, self._root or entry.root)


def _unchanged(board: str, error: HwnasError) -> Outcome:
    return Outcome(board=board, fate=without_change(error), why=str(error))

"""What a rollout has done so far, durable from board to board."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from hwnas.deploy.outcome import Fate, Outcome
from hwnas.errors import BadFileError
from hwnas.files import Document, append_json_line, describe, read_json_lines, require_same


class RolloutInputs(Document):
    """What makes two rollouts one and the same."""

    kind: Literal["rollout"] = "rollout"
    bundle: str
    """Digest of its manifest."""
    group: str
    boards: tuple[str, ...]
    stages: tuple[str, ...]
    max_failures: str


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Begun(_Event):
    """A board is about to be seen to."""

    event: Literal["begun"] = "begun"
    board: str


class Flashed(_Event):
    """A board was seen to."""

    event: Literal["flashed"] = "flashed"
    outcome: Outcome


class WaveFailed(_Event):
    """Too many boards of a wave failed; those that had the bundle get back what they had."""

    event: Literal["wave-failed"] = "wave-failed"
    wave: int


class RolledBack(_Event):
    """A board of a failed wave was given back what it had."""

    event: Literal["rolled-back"] = "rolled-back"
    outcome: Outcome


_HAVE_IT: tuple[Fate, ...] = ("updated", "unconfirmed")
_GIVEN_BACK: tuple[Fate, ...] = ("rolled-back", "updated")
"""``updated``: it had nothing before, and keeps the bundle."""

Event = Begun | Flashed | WaveFailed | RolledBack
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Journal:
    """A rollout's log; whoever opens it again goes on where it ends."""

    def __init__(self, path: Path, inputs: RolloutInputs) -> None:
        """
        Raises:
            BadFileError: the file holds something other than a rollout's log.
            UserError: it is the log of another rollout.
        """
        self._path = path
        self.outcomes: dict[str, Outcome] = {}
        self.failed_wave: int | None = None
        self.have_it: set[str] = set()
        """Boards that got the bundle in this rollout and were not given back what they had."""
        self._under_way: set[str] = set()
        records = read_json_lines(path)
        if not records:
            append_json_line(path, inputs)
        try:
            if records:
                require_same(path, "rollout", RolloutInputs.model_validate(records[0]), inputs)
            for record in records[1:]:
                self._take(_EVENT.validate_python(record))
        except ValidationError as error:
            raise BadFileError(f"rollout {path}: {describe(error)}.") from error
        self._interrupted = frozenset(self._under_way)

    def begin(self, board: str) -> None:
        """Note that a board is about to be seen to; it is on the disk when this returns."""
        self._add(Begun(board=board))

    def flashed(self, outcome: Outcome) -> Outcome:
        """Note what became of a board.

        One that was under way when an earlier process died may have got the bundle then, from this very rollout:
        that it has it already says so.
        """
        if outcome.board in self._interrupted and outcome.fate == "unchanged":
            outcome = outcome.model_copy(update={"fate": "updated"})
        self._add(Flashed(outcome=outcome))
        return outcome

    def wave_failed(self, wave: int) -> None:
        """Note that too many boards of a wave failed."""
        self._add(WaveFailed(wave=wave))

    def rolled_back(self, outcome: Outcome) -> None:
        """Note that a board was given back what it had."""
        self._add(RolledBack(outcome=outcome))

    def _add(self, event: Event) -> None:
        append_json_line(self._path, event)
        self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Begun():
                self._under_way.add(event.board)
            case WaveFailed():
                self.failed_wave = event.wave
            case Flashed(outcome=outcome) | RolledBack(outcome=outcome):
                self.outcomes[outcome.board] = outcome
                self._under_way.discard(outcome.board)
                if event.event == "flashed" and outcome.fate in _HAVE_IT:
                    self.have_it.add(outcome.board)
                elif event.event == "rolled-back" and outcome.fate in _GIVEN_BACK:
                    self.have_it.discard(outcome.board)

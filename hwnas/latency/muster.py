"""Whether boards are of one kind, before they measure together and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from hwnas.devices import CompileOptions, Fingerprint
from hwnas.devices.errors import UnreachableError
from hwnas.errors import UserError
from hwnas.latency.crew import Board
from hwnas.latency.journal import Departure

_SHOWN = 3


def muster(
    boards: Sequence[Board], compiling: CompileOptions
) -> tuple[tuple[Board, ...], tuple[Departure, ...], Fingerprint]:
    """The boards that answer, those that do not, and what the former are.

    They are asked one after the other, in the caller's thread: whatever a person has to answer is asked in order.

    Raises:
        UserError: two are not of one kind, or of one name.
        UnreachableError: none answers.
    """
    name, times = Counter(board.name for board in boards).most_common(1)[0]
    if times > 1:
        raise UserError(f"Board {name} is named {times} times; name each board once.")
    found: dict[Board, Fingerprint] = {}
    absent: list[Departure] = []
    for board in boards:
        try:
            found[board] = board.device.fingerprint(compiling)
        except UnreachableError as error:
            absent.append(Departure(board=board.name, reason=str(error).rstrip("."), void=False))
            if len(absent) == len(boards):
                raise
    first, fingerprint = next(iter(found.items()))
    for board, other in found.items():
        differences = fingerprint.differences(other)
        if differences:
            raise UserError(
                f"{first.name} and {board.name} are not of one kind ({_shown(differences)}); profile them apart."
            )
    return tuple(found), tuple(absent), fingerprint


def fingerprints(boards: Sequence[Board], compiling: CompileOptions) -> dict[Board, Fingerprint]:
    """What the boards are now; of several one that answers no more is not among them.

    Raises:
        UnreachableError: the only board does not answer.
    """
    found = {}
    for board in boards:
        try:
            found[board] = board.device.fingerprint(compiling)
        except UnreachableError:
            if len(boards) == 1:
                raise
    return found


def changed_boards(before: Fingerprint, now: Mapping[Board, Fingerprint]) -> dict[Board, str]:
    """Those that are no longer what they were, and in what."""
    differences = {board: before.differences(after) for board, after in now.items()}
    return {board: _shown(found) for board, found in differences.items() if found}


def _shown(differences: Sequence[str]) -> str:
    return "; ".join(differences[:_SHOWN])

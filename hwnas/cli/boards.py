"""Boards as commands are told of them: a target, or a group's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.text import Text

from hwnas.cli.console import bars, err

if TYPE_CHECKING:
    from hwnas.deploy.board import BoardSlots
    from hwnas.devices import Target

Answer = TypeVar("Answer")
Board = tuple[str, "Target", str | None]
"""Name, target and root."""

_AT_ONCE = 8

TargetOption = Annotated[str | None, typer.Option("--target", help="The board: a target's name or its YAML file.")]
GroupOption = Annotated[Path | None, typer.Option("--group", help="YAML file of a group of boards.")]
RootOption = Annotated[str | None, typer.Option(help="Where the board's slots are; default: their usual place.")]


def require_one(target: str | None, group: Path | None) -> None:
    """Raise :class:`~hwnas.errors.UserError` unless boards are named in exactly one way."""
    from hwnas.errors import UserError

    if (target is None) == (group is None):
        raise UserError("Say which boards: --target NAME for one, --group FILE for many.")


def named(target: str | None, group: Path | None, root: str | None) -> list[Board]:
    """Name, target and root of each board.

    Raises:
        UserError: they are named in two ways or in none, or one cannot be flashed.
    """
    from hwnas.devices import load_target

    require_one(target, group)
    if group is None:
        assert target is not None
        described = load_target(target)
        return [(described.name, described, root)]
    from hwnas.deploy.fleet.group import read_group, target_of

    return [(board.name, target_of(board, group.parent), root or board.root) for board in read_group(group).boards]


@contextmanager
def opened(target: Target, root: str | None) -> Iterator[BoardSlots]:
    """A board's slots."""
    from hwnas.deploy.board import BoardSlots
    from hwnas.devices import open_device

    with open_device(target) as device:
        yield BoardSlots(device, root)


def asked(boards: list[Board], ask: Callable[[str, BoardSlots], Answer]) -> tuple[dict[str, Answer], dict[str, str]]:
    """What boards answer, and why those of a group that do not answer do not, by their names.

    Raises:
        HwnasError: the only board does not answer.
    """
    from hwnas.errors import HwnasError

    def answer(board: Board) -> Answer:
        name, target, root = board
        with opened(target, root) as slots:
            return ask(name, slots)

    if not boards:
        return {}, {}
    if len(boards) == 1:
        return {boards[0][0]: answer(boards[0])}, {}
    answers: dict[str, Answer] = {}
    silent: dict[str, str] = {}
    with bars() as progress, ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="board") as pool:
        progress.start("asking", len(boards), unit="boards")
        # Who answers questions is told by context; each board's thread gets a copy.
        under_way = {board[0]: pool.submit(copy_context().run, answer, board) for board in boards}
        for name, future in under_way.items():
            try:
                answers[name] = future.result()
            except HwnasError as error:
                silent[name] = str(error)
            progress.advance(note=name)
        progress.finish()
    return answers, silent


def tell_silent(silent: dict[str, str]) -> None:
    """Say why boards did not answer, and end with status 1 if there are any."""
    for name, why in silent.items():
        err.print(Text.assemble((name, "bold"), f": {why}"), soft_wrap=True)
    if silent:
        raise typer.Exit(1)

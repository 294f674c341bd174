"""Boards as commands are told of them: a target, or a group's file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hwnas.deploy.board import BoardSlots
    from hwnas.devices import Target

TargetOption = Annotated[str | None, typer.Option("--target", help="The board: a target's name or its YAML file.")]
GroupOption = Annotated[Path | None, typer.Option("--group", help="YAML file of a group of boards.")]
RootOption = Annotated[str | None, typer.Option(help="Where the board's slots are; default: their usual place.")]


def require_one(target: str | None, group: Path | None) -> None:
    """Raise :class:`~hwnas.errors.UserError` unless boards are named in exactly one way."""
    from hwnas.errors import UserError

    if (target is None) == (group is None):
        raise UserError("Say which boards: --target NAME for one, --group FILE for many.")


def named(target: str | None, group: Path | None, root: str | None) -> list[tuple[str, Target, str | None]]:
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

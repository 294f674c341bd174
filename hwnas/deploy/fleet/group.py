"""Which boards belong together: a group's file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from hwnas.devices import Target, load_target
from hwnas.devices.facts import Described
from hwnas.devices.target import Name, Ssh
from hwnas.errors import BadFileError
from hwnas.files import describe, read_bytes


class BoardEntry(Described):
    """One board of a group."""

    name: Name
    target: str
    """Name of its target, or the target's file, seen from the group's."""
    ssh: Ssh | None = None
    """How it is reached; ``None``: as its target says."""
    root: Annotated[str, Field(min_length=1)] | None = None
    """Directory of its slots; ``None``: the usual one."""


class Group(Described):
    """What stands in a group's file, such as ``cameras.yaml``."""

    schema_version: Literal[1] = Field(alias="schema")
    group: Name
    boards: list[BoardEntry] = Field(min_length=1)
    """In the order in which they get a bundle: the first ones are those that may fail with the least harm."""

    @model_validator(mode="after")
    def _names_differ(self) -> Group:
        names = [board.name for board in self.boards]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"board '{twice}' stands there twice")
        return self


def read_group(path: Path) -> Group:
    """A group from its file.

    Raises:
        BadFileError: the file is missing, no YAML, or says something other than a group.
    """
    try:
        content = yaml.safe_load(read_bytes(path, what="group"))
    except yaml.YAMLError as error:
        raise BadFileError(f"group {path} is not YAML ({' '.join(str(error).split())}); mend it.") from error
    try:
        return Group.model_validate(content)
    except ValidationError as error:
        raise BadFileError(f"group {path}: {describe(error)}.") from error


def target_of(board: BoardEntry, directory: Path) -> Target:
    """The target as which a board is reached.

    Args:
        board: of a group.
        directory: of the group's file.

    Raises:
        UserError: there is no such target, or it is described by facts alone.
    """
    beside = directory / board.target
    target = load_target(str(beside) if beside.is_file() else board.target)
    return target if board.ssh is None else target.model_copy(update={"connection": board.ssh})

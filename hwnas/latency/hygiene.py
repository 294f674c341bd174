"""What was refused of an imported table and why; it stays in the table."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowNote(_Record):
    """Published rows of one type, and what is said of them."""

    row_type: str
    """The rows' operation, with channels and options but without sizes of feature maps."""
    rows: int = Field(ge=1)
    reason: str


class Hygiene(_Record):
    """What an importer did with the rows that were published."""

    rows: int = Field(ge=0)
    """As many were published."""
    compared_with: tuple[str, ...] = ()
    """Other devices' tables in which copies were looked for."""
    refused: tuple[RowNote, ...] = ()
    """Rows that did not enter the table."""
    marked: tuple[RowNote, ...] = ()
    """Rows that entered it all the same."""
    absent: tuple[str, ...] = ()
    """Slots, such as ``stem``, of which no block is known, and in which no architecture has a choice."""
    relative: bool = False
    """Latencies lack the absent blocks: they order the architectures of one resolution and are no latencies."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.relative != bool(self.absent):
            raise ValueError("relative must be true exactly where blocks are absent")
        return self

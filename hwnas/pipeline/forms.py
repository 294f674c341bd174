"""The winner of a run in another precision, as benchmarks and exports name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

_BETWEEN = "-"


@dataclass(frozen=True, slots=True)
class Form:
    """A network by its id, and a precision; none is the run's own."""

    network: str
    precision: str | None = None

    def __str__(self) -> str:
        """Such as ``8fc2b7abe0962839-fp32``; an id has no hyphen."""
        return self.network if self.precision is None else f"{self.network}{_BETWEEN}{self.precision}"

    @classmethod
    def of(cls, name: str) -> Self:
        """What :meth:`__str__` gave."""
        network, _, precision = name.partition(_BETWEEN)
        return cls(network, precision or None)

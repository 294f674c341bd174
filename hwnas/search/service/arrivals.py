"""What workers have answered, on disk as it arrives; the record of a search takes it later, in order of proposal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from hwnas.errors import BadFileError
from hwnas.files import Document, append_json_line, describe, read_json_lines

ARRIVALS_FILE = "arrivals.jsonl"


class Arrival(Document):
    """A worker's answer.

    Attributes:
        id: of the architecture.
        top1: on the validation split, in 0..1.
        seconds: what the evaluation took the worker.
    """

    id: str
    top1: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    seconds: Annotated[float, Field(ge=0)]


class Arrivals:
    """All answers of a search, by architecture.

    Raises:
        BadFileError: a line of the file is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / ARRIVALS_FILE
        self._known: dict[str, Arrival] = {}
        for number, line in enumerate(read_json_lines(self._path), start=1):
            try:
                arrival = Arrival.model_validate(line)
            except ValidationError as error:
                raise BadFileError(f"{self._path}, line {number}: {describe(error)}; delete the file.") from error
            self._known[arrival.id] = arrival

    def get(self, architecture_id: str) -> Arrival | None:
        """The answer for an architecture, if there is one."""
        return self._known.get(architecture_id)

    def add(self, arrival: Arrival) -> None:
        """Keep an answer; it is on the disk when this returns."""
        append_json_line(self._path, arrival)
        self._known[arrival.id] = arrival

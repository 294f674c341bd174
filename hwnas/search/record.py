"""What a search has evaluated, on disk as it happens: ``search.json`` and ``evaluations.jsonl``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, append_json_line, describe, read_json_lines, read_model, require_same, write_json
from hwnas.search.budget import Budget
from hwnas.search.options import SearchOptions
from hwnas.spaces import Architecture, Space, with_precisions

HEADER_FILE = "search.json"
EVALUATIONS_FILE = "evaluations.jsonl"


def _read_architecture(value: Any) -> Any:
    if isinstance(value, Architecture):
        return value
    try:
        return Architecture.from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError("not an architecture") from error


JsonArchitecture = Annotated[Architecture, BeforeValidator(_read_architecture), PlainSerializer(Architecture.to_json)]


class Estimate(Document):
    """What is predicted of one quantity, in the unit of its budget; ``std`` is 0 for what is known exactly."""

    mean: float
    std: float


class Evaluation(Document):
    """One evaluated candidate.

    Attributes:
        index: 0 for the first of the search.
        origin: how the strategy came to it, such as ``initial``, ``generation 3``, ``random``.
        top1: on the validation split, in 0..1.
        predicted_ms, std_ms: what the latency model said of it.
        others: what is predicted of the further budgets of the search, in their order.
        seconds: what the evaluation took.
    """

    index: Annotated[int, Field(ge=0)]
    strategy: str
    origin: str
    architecture: JsonArchitecture
    top1: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    predicted_ms: float
    std_ms: float
    others: tuple[Estimate, ...] = ()
    seconds: float


class OtherBudget(Document):
    """A further budget of a search."""

    budget: Budget
    predictor: str
    """Digest of what predicts its quantity."""


class SearchHeader(Document):
    """What the candidates of a search depend on; another search may not go on with its record."""

    space: str
    num_classes: int
    budget: Budget
    options: SearchOptions
    latency_model: str
    """Digest of the latency model's predictions on a fixed sample."""
    evaluator: str
    """:attr:`hwnas.search.Evaluator.identity`."""
    others: tuple[OtherBudget, ...] = ()
    """Further budgets, which candidates keep as well."""
    precisions: tuple[str, ...] = ()
    """That architectures choose from, the cheapest first; none where they do not choose."""
    known: str = ""
    """Digest of the evaluations of another search that this one learned from first; empty: none."""


class SearchRecord:
    """The evaluations of one search, oldest first."""

    def __init__(self, path: Path, evaluations: list[Evaluation]) -> None:
        self._path = path
        self._evaluations = evaluations

    @classmethod
    def open(cls, directory: Path, header: SearchHeader, space: Space) -> SearchRecord:
        """Begin a record in ``directory``, or go on with the one that lies there.

        Raises:
            UserError: what lies there was begun with other inputs.
            BadFileError: what lies there is damaged.
        """
        path = directory / HEADER_FILE
        if path.exists():
            require_same(directory, "search", read_model(path, SearchHeader, what="search header"), header)
        else:
            if (directory / EVALUATIONS_FILE).exists():
                raise BadFileError(f"{directory} holds {EVALUATIONS_FILE} without {HEADER_FILE}; delete the directory.")
            write_json(path, header)
        return cls(directory / EVALUATIONS_FILE, read_evaluations(directory, space))

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All of them, by :attr:`Evaluation.index`."""
        return tuple(self._evaluations)

    def __len__(self) -> int:
        return len(self._evaluations)

    def __getitem__(self, index: int) -> Evaluation:
        return self._evaluations[index]

    def append(self, evaluation: Evaluation) -> None:
        """Add one; it is on the disk when this returns."""
        append_json_line(self._path, evaluation)
        self._evaluations.append(evaluation)


def searched_space(directory: Path, space: Space) -> Space:
    """The space of a recorded search in ``space``: with the choice of precision, if it had one.

    Raises:
        BadFileError: there is no search, or its header is damaged.
    """
    header = read_model(directory / HEADER_FILE, SearchHeader, what="search header")
    return with_precisions(space, header.precisions) if header.precisions else space


def read_evaluations(directory: Path, space: Space) -> list[Evaluation]:
    """The evaluations recorded in a search's directory.

    Raises:
        BadFileError: with the line and what is wrong with it.
    """
    path = directory / EVALUATIONS_FILE
    evaluations: list[Evaluation] = []
    seen: set[str] = set()
    for number, line in enumerate(read_json_lines(path), start=1):
        try:
            evaluation = Evaluation.model_validate(line)
            space.encode([evaluation.architecture])
        except ValidationError as error:
            raise BadFileError(f"{path}, line {number}: {describe(error)}; delete the directory.") from error
        except UserError as error:
            raise BadFileError(f"{path}, line {number}: {error}") from error
        if evaluation.index != len(evaluations) or evaluation.architecture.id in seen:
            raise BadFileError(f"{path}, line {number}: out of order or a repetition; delete the directory.")
        seen.add(evaluation.architecture.id)
        evaluations.append(evaluation)
    return evaluations

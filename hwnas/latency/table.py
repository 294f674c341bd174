"""Latency tables: the file in which a profile ends, and how it is found again."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from hwnas.devices import Fingerprint
from hwnas.errors import UserError
from hwnas.files import Document
from hwnas.latency.base import Floats
from hwnas.latency.conditions import Conditions
from hwnas.latency.figures import ValidationFigures
from hwnas.latency.hygiene import Hygiene
from hwnas.spaces import Architecture, BlockSpec, Genomes, Space

Role = Literal["calibration", "validation", "proposed"]
Kind = Literal["blocks", "networks"]


def _positive_finite(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError("input should be a positive, finite number")
    return value


def _architecture(value: Any) -> Architecture:
    if isinstance(value, Architecture):
        return value
    try:
        return Architecture.from_json(value)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("input should be an architecture: space and choices") from error


Milliseconds = Annotated[float, AfterValidator(_positive_finite)]
Count = Annotated[int, Field(ge=0)]
ArchitectureField = Annotated[Architecture, BeforeValidator(_architecture), PlainSerializer(Architecture.to_json)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _refuse_twice(field: str, names: Iterable[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"{field}: {twice[0]} stands there twice")


@dataclass(frozen=True, slots=True)
class Statistic:
    """Which figure of a measurement is meant."""

    percentile: Literal["p50", "p99"] = "p50"
    gated: bool = True
    """Of the samples in the device's fast state, its capability; else of all samples, as it ran."""

    def __str__(self) -> str:
        """Such as ``p50 (gated)``."""
        return f"{self.percentile} ({'gated' if self.gated else 'ungated'})"


P50 = Statistic()
"""The capability's median."""


class Timing(_Record):
    """What a block or network took.  Percentiles are of the gated samples, the device's capability, in ms."""

    n: int = Field(ge=1)
    """Gated samples, of all builds together."""
    median_ms: Milliseconds
    """Mean of the builds' medians without the least and the greatest, of three builds thus the middle one."""
    p90_ms: Milliseconds | None
    """``None`` below 64 samples, or where builds differ so much that it lies below the median."""
    p99_ms: Milliseconds | None
    """``None`` below 662 samples, or as before."""
    mad_ms: float = Field(ge=0)
    """Median absolute deviation of the samples, unscaled."""
    outliers: Count = 0
    """Of the gated samples, those far from their build's median; they are kept."""
    builds: int = Field(ge=1)
    """Separate builds that the samples come from."""
    build_medians_ms: tuple[Milliseconds, ...]
    """Of each build, in the order of measuring."""
    boards: tuple[Count, ...] = ()
    """Of each build, the place of its board in the table's ``boards``; empty where there was one board."""
    ungated_n: Count
    """All samples, those outside of the fast state too."""
    ungated_median_ms: Milliseconds
    """What the machine gave that day."""
    ungated_p99_ms: Milliseconds | None = None
    """Likewise; ``None`` below 662 samples."""

    def value_ms(self, statistic: Statistic) -> float | None:
        """One of the figures."""
        if statistic.gated:
            return self.median_ms if statistic.percentile == "p50" else self.p99_ms
        return self.ungated_median_ms if statistic.percentile == "p50" else self.ungated_p99_ms

    def scaled(self, factor: float) -> Self:
        """The same in another time scale: gated figures, which are proportional to the fast state, multiplied."""

        def times(ms: float | None) -> float | None:
            return None if ms is None else factor * ms

        return self.model_copy(
            update={
                **{name: times(getattr(self, name)) for name in ("median_ms", "p90_ms", "p99_ms", "mad_ms")},
                "build_medians_ms": tuple(factor * ms for ms in self.build_medians_ms),
            }
        )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        stated = [ms for ms in (self.median_ms, self.p90_ms, self.p99_ms) if ms is not None]
        if stated != sorted(stated):
            raise ValueError("percentiles must not decrease from median_ms to p99_ms")
        if len(self.build_medians_ms) != self.builds:
            raise ValueError("build_medians_ms must hold one median for each of the builds")
        if self.boards and len(self.boards) != self.builds:
            raise ValueError("boards must hold one board for each of the builds, or none")
        if self.n > self.ungated_n:
            raise ValueError("n gated samples exceed ungated_n, which counts all of them")
        return self


class BlockEntry(Timing):
    """A block measured alone."""

    block: BlockSpec


class NetworkEntry(Timing):
    """A whole network; a ``calibration`` network enters the fit, and no other.

    ``validation`` networks are spread over the space; ``proposed`` ones come of a search that looked for what the
    model says to be fast, and so for its errors.
    """

    architecture: ArchitectureField
    role: Role


class BoardEntry(_Record):
    """One of several boards of one kind that measured the table together."""

    name: str
    """How it was reached."""
    factor: float | None = Field(gt=0, allow_inf_nan=False)
    """Its times over those of the table, which are the geometric mean of all boards; ``None``: it was left out."""
    spread: float | None = Field(ge=0, allow_inf_nan=False)
    """Relative standard deviation of the factor."""
    blocks: Count
    """Builds of blocks that it measured."""
    networks: Count
    """Builds of whole networks."""
    left: str | None = None
    """Why it left before the end, or was left out."""


class Missing(_Record):
    """What of the plan's base (all blocks, and the networks among them) has no entry.

    The time was over, the device refused, or too few samples ran in its fast state.
    """

    blocks: Count = 0
    calibration: Count = 0
    validation: Count = 0
    proposed: Count = 0
    failures: tuple[str, ...] = ()
    """What the device said of each unit that it refused."""


class Revalidation(_Record):
    """When and how held-out networks were measured anew."""

    date: datetime.date
    seconds: float = Field(ge=0)
    """Time spent measuring; it is not part of the profile's."""
    seed: int
    """Of the networks drawn."""
    fast_states_ms: dict[str, Milliseconds]
    """Of each canary, as it was then; the networks' figures are in the time scale of the table's own."""


class LatencyTable(Document):
    """Measured blocks and measured whole networks of one (target, space, runtime, precision, batch, threads)."""

    kind: Literal["measured", "imported", "estimated", "emulated"] = "measured"
    target: str
    space: str
    num_classes: int = Field(ge=1)
    runtime: str
    mode: str = Field(pattern=r"^[a-z0-9]+$")
    """What executes within the runtime, such as ``cpu``."""
    precision: str
    batch: int = Field(ge=1)
    threads: int = Field(ge=1)
    fingerprint: Fingerprint
    arrival: str = "back-to-back"
    """How the whole networks' runs followed each other: so, or ``30 fps``; blocks always run back to back."""
    board_spread: float = Field(default=0.0, ge=0)
    """Relative standard deviation between boards of the kind, as the target states it or these boards show it."""
    boards: tuple[BoardEntry, ...] = ()
    """Those that measured the table, if they were several: all times are in the time scale of their mean."""
    protocol: dict[str, dict[str, Any]]
    """Every knob of measuring, for ``blocks`` and ``networks``."""
    fast_states_ms: dict[str, Milliseconds]
    """Each canary's fast state by which all of its batches were judged; empty: measured without gate."""
    created: datetime.date
    profile_seconds: float = Field(ge=0)
    """Time spent measuring, over all sittings."""
    resolutions: tuple[int, ...] = Field(min_length=1)
    """Those whose blocks were to be measured; blocks of the space's other resolutions are interpolated."""
    seed: int
    missing: Missing = Missing()
    blocks: tuple[BlockEntry, ...]
    networks: tuple[NetworkEntry, ...]
    validation: ValidationFigures | None = None
    """Of the networks spread over the space."""
    proposed: ValidationFigures | None = None
    """Of those that a search proposed."""
    revalidation: Revalidation | None = None
    """Of the held-out networks, if that was after the profile."""
    conditions: Conditions | None = None
    """In what state the device was meanwhile; ``None``: nobody has read it."""
    hygiene: Hygiene | None = None
    """Of an imported table: what was refused of it and why."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _refuse_twice("blocks", (entry.block.key for entry in self.blocks))
        _refuse_twice("networks", (entry.architecture.id for entry in self.networks))
        _refuse_twice("boards", (board.name for board in self.boards))
        return self

    @model_validator(mode="after")
    def _boards_are_known(self) -> Self:
        most = max((board for entry in (*self.blocks, *self.networks) for board in entry.boards), default=-1)
        if most >= len(self.boards):
            raise ValueError(f"an entry names board {most}, and there are {len(self.boards)}")
        return self

    @property
    def relative(self) -> bool:
        """Blocks that every architecture has are missing: its latencies order architectures and are none."""
        return self.hygiene is not None and self.hygiene.relative

    def require_space(self, space: Space) -> None:
        """Refuse a space that the table is not of.

        Raises:
            UserError: another family, preset or number of classes.
        """
        if (self.space, self.num_classes) != (space.name, space.num_classes):
            raise UserError(
                f"The latency table is of {self.space} with {self.num_classes} classes, not of {space.name} with "
                f"{space.num_classes}; profile the target with that space."
            )

    def fast_state_ms(self, kind: Kind) -> float | None:
        """The fast state to which the gated times of blocks or networks are proportional; ``None``: to none."""
        knobs = self.protocol.get(kind, {})
        if not (knobs.get("gate", True) and knobs.get("correct_drift", True)):
            return None
        return self.fast_states_ms.get(self.canary(kind))

    def canary(self, kind: Kind) -> str:
        """Which canary gated blocks or networks."""
        return str(self.protocol.get(kind, {}).get("canary", "small"))

    def with_role(self, role: Role) -> tuple[NetworkEntry, ...]:
        """The networks of a role."""
        return tuple(entry for entry in self.networks if entry.role == role)


def values_ms(entries: Sequence[Timing], statistic: Statistic = P50) -> Floats:
    """A figure of each entry in ms, [n].

    Raises:
        UserError: an entry has too few samples to state it.
    """
    values = [entry.value_ms(statistic) for entry in entries]
    unstated = values.count(None)
    if unstated:
        raise UserError(
            f"{unstated} of {len(values)} networks of the latency table do not state a {statistic}, which needs 662 "
            f"samples of each; profile with --statistic {statistic.percentile}."
        )
    return np.array(values, np.float64)


def medians(entries: Sequence[Timing]) -> Floats:
    """Gated medians in ms, [n]."""
    return np.array([entry.median_ms for entry in entries])


def genomes_of(space: Space, entries: Sequence[NetworkEntry]) -> Genomes:
    """The networks as a genome array [n, choices]."""
    return space.encode([entry.architecture for entry in entries])

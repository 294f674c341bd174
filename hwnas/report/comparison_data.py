"""What the page of a comparison of engines shows, as plain data."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from hwnas.report.part import Count, Facts, Milliseconds, Part, Seconds, Share

Positive = Annotated[float, Field(gt=0)]


class Latencies(Part):
    """Order statistics of samples; None where there are too few."""

    samples: Count
    p50_ms: Milliseconds | None
    p90_ms: Milliseconds | None
    p99_ms: Milliseconds | None


class UnderRoof(Part):
    """An engine's achieved operations a second, and what its intensity allows."""

    operations: Count
    bytes: Count
    intensity: Annotated[float, Field(ge=0)]
    operations_per_s: Annotated[float, Field(ge=0)]
    attainable: Positive | None
    share: Annotated[float, Field(ge=0)] | None
    bound_by: str | None


class Roof(Part):
    """A device's roofs in one precision."""

    precision: str
    operations_per_s: Positive | None
    product: str | None
    bytes_per_s: Positive | None
    copy_mib: Positive
    reason: str | None


class Scenario(Part):
    """One of MLPerf's scenarios as it was run."""

    name: str
    generator: str
    queries: Count
    samples: Count
    seconds: Seconds
    percentile: Share
    percentile_ms: Milliseconds | None
    bound_ms: Milliseconds | None
    samples_per_s: Positive
    joules_per_sample: Positive | None
    energy_of: tuple[str, ...]
    energy_missing: str | None
    invalid: tuple[str, ...]
    differs: str | None
    """From MLPerf's own rules, in words."""


class EngineFigures(Part):
    """One engine."""

    name: str
    runtime: str
    precision: str
    batch: Count
    threads: Count
    gated: Latencies
    ungated: Latencies
    images_per_s: Positive | None
    ratio: Positive
    ratio_interval: tuple[Positive, Positive] | None
    ratio_gated: bool
    ratios: tuple[Positive, ...]
    """Of each round."""
    transfers_ms: Annotated[float, Field(ge=0)]
    onnx_bytes: Count
    engine_bytes: Count
    build_s: Seconds
    peak_memory_mib: Positive
    engine_memory_mib: float
    roofline: UnderRoof | None
    roofline_missing: str | None
    scenario: Scenario | None


class ComparisonData(Part):
    """Everything that the page shows; the first engine is what the others are compared with."""

    target: str
    created: datetime
    rounds: Count
    engines: Annotated[tuple[EngineFigures, ...], Field(min_length=1)]
    roofs: tuple[Roof, ...]
    identity: Facts

"""What the report shows, as plain data: a document that can be stored, read back and drawn again."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, ConfigDict, Field, model_validator

from hwnas.classification import Classification
from hwnas.detection.scores import DetectionScores
from hwnas.files import Document
from hwnas.report.explained import Explained, FarFromBest
from hwnas.report.part import (
    LARGEST_SIZE,
    Correlation,
    Count,
    Facts,
    Interval,
    Milliseconds,
    Part,
    Seconds,
    Share,
    SignedMilliseconds,
    Spread,
)
from hwnas.spaces import BlockSpec
from hwnas.spaces.space import Metric

Statistic = Literal["p50", "p99"]
Sampling = Literal["gated", "ungated"]


class OtherBudgetKept(Part):
    """A further budget that candidates kept, and what is predicted of the winner, in words with units.

    ``place`` is empty for what belongs to the architecture, else ``on TARGET``.
    """

    place: str
    limit: str
    predicted: str


class Asked(Part):
    """What the search was asked for. ``budget_ms`` limits the ``statistic`` of the latency on ``target``."""

    target: str
    space: str
    dataset: str
    runtime: str
    mode: str
    precision: str
    batch: int = Field(ge=1)
    threads: int = Field(ge=1)
    budget_ms: Milliseconds
    statistic: Statistic = "p50"
    arrival: str = "back-to-back"
    """How runs follow each other: so, or such as ``30 fps``."""
    basis: Sampling = "gated"
    """The samples that the promise is kept on: gated on a shared machine, else all of them."""
    confidence: Share
    """With which the prediction had to keep the budget before a candidate was evaluated."""
    strategy: str
    seed: int
    evaluations: Count
    """How many candidates were to be evaluated."""
    others: tuple[OtherBudgetKept, ...] = ()
    """Further budgets."""
    metric: Metric = "top-1"
    """How good networks are: what every ``top1`` of this document is, mean average precision for detectors."""


class Latency(Part):
    """Order statistics of ``samples`` timed runs; None where there are too few to state one."""

    p50_ms: Milliseconds
    p90_ms: Milliseconds | None = None
    p99_ms: Milliseconds | None = None
    samples: int = Field(ge=1)
    interval_ms: tuple[Milliseconds, Milliseconds] | None = None
    """Holds the statistic that was asked for with probability 95 %, by block bootstrap over runs and builds."""

    def of(self, statistic: Statistic) -> float | None:
        """The statistic in ms, None where there were too few samples for it."""
        return self.p50_ms if statistic == "p50" else self.p99_ms


class Measurement(Part):
    """One network timed on the device.

    ``gated`` samples were taken in the device's fast state (its capability), ``ungated`` are all that it gave
    that day.
    """

    gated: Latency | None = None
    ungated: Latency | None = None
    builds: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _has_samples(self) -> Self:
        if self.gated is None and self.ungated is None:
            raise ValueError("a measurement needs gated or ungated samples; where there are none, there is none")
        return self

    def latency(self, sampling: Sampling) -> Latency | None:
        """The figures of these samples."""
        return self.gated if sampling == "gated" else self.ungated

    def figure(self, statistic: Statistic, basis: Sampling = "gated") -> tuple[float, Sampling] | None:
        """The statistic in ms and the samples it is of: those of the basis where they state it, else the others."""
        order: tuple[Sampling, ...] = ("gated", "ungated") if basis == "gated" else ("ungated", "gated")
        for sampling in order:
            latency = self.latency(sampling)
            value = None if latency is None else latency.of(statistic)
            if value is not None:
                return value, sampling
        return None


class Network(Part):
    """A network that was exported, compiled and benchmarked: the winner or a yardstick.

    Top-1 figures are fractions; ``top1_test`` is that of the compiled engine, and ``note`` says why a figure
    is absent. ``classification`` or ``detection`` is what else the engine's answers to the test split tell.
    """

    name: str
    resolution: int = Field(ge=1)
    measured: Measurement | None = None
    predicted_ms: Milliseconds | None = None
    predicted_std_ms: Spread | None = None
    top1_validation: Share | None = None
    top1_test: Share | None = None
    classification: Classification | None = None
    detection: DetectionScores | None = None
    throughput: Annotated[float, Field(gt=0)] | None = None
    """Images a second."""
    macs: Count | None = None
    params: Count | None = None
    onnx_bytes: Count | None = None
    engine_bytes: Count | None = None
    peak_memory_mib: Annotated[float, Field(ge=0)] | None = None
    build_seconds: Seconds | None = None
    parity: Annotated[float, Field(ge=0)] | None = None
    """Largest absolute difference between the outputs of torch and of the exported model."""
    note: str = ""


class BlockTime(Part):
    """A block of the winner: its slot in the space and the milliseconds that the latency model gives it."""

    label: str
    spec: BlockSpec
    ms: SignedMilliseconds | None = None

    @model_validator(mode="after")
    def _has_a_shape(self) -> Self:
        spec = self.spec
        sizes = (spec.in_channels, spec.in_height, spec.in_width, spec.out_channels, spec.kernel, spec.stride)
        if not all(1 <= size <= LARGEST_SIZE for size in sizes) or not 0 <= spec.mid_channels <= LARGEST_SIZE:
            raise ValueError(f"{spec.key} is no block: sizes must lie between 1 and {LARGEST_SIZE}")
        return self


class Winner(Part):
    """The architecture that was chosen. ``choices`` are the active ones, in the order of the space."""

    id: str
    choices: dict[str, int]
    network: Network
    blocks: tuple[BlockTime, ...] = ()
    overhead_ms: SignedMilliseconds | None = None
    """What the latency model gives to the network as a whole and to no block."""


class Candidate(Part):
    """One evaluation of the search, ``index`` counting from 0 in the order they were made."""

    index: Count
    id: str
    top1: Share
    """On the validation split."""
    predicted_ms: Milliseconds
    std_ms: Spread
    origin: str = ""
    """What proposed it."""


class Finalist(Part):
    """A candidate that was measured on the device before the winner was chosen among them."""

    id: str
    top1: Share
    """On the validation split."""
    predicted_ms: Milliseconds
    std_ms: Spread
    measured: Measurement
    keeps_budget: bool


class Search(Part):
    """Every evaluation in order, the ids on the Pareto front, the finalists, and how well accuracy was foreseen."""

    candidates: tuple[Candidate, ...] = ()
    refined: Count = 0
    """How many of the candidates, the last ones, were found once the finalists had been measured."""
    front: tuple[str, ...] = ()
    finalists: tuple[Finalist, ...] = ()
    predictor_kendall_tau: Correlation | None = None
    """Between accuracies as evaluated and as predicted by cross-validation, each from four fifths of the others."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        indices = [candidate.index for candidate in self.candidates]
        if any(later <= earlier for earlier, later in pairwise(indices)):
            raise ValueError("candidates must be in the order of their indices, each once")
        return self

    @model_validator(mode="after")
    def _front_was_evaluated(self) -> Self:
        unknown = set(self.front) - {candidate.id for candidate in self.candidates}
        if unknown:
            raise ValueError(f"the front names {sorted(unknown)[0]!r}, which is no evaluated candidate")
        return self


class HeldOutNetwork(Part):
    """A network that was measured to judge the latency model and never used to fit it."""

    id: str
    measured_ms: Milliseconds
    predicted_ms: Milliseconds
    std_ms: Spread | None = None


class LatencyFigures(Part):
    """How well ``predictor`` foretells the held-out networks; shares are fractions of ``n``, intervals of 95 %."""

    predictor: str
    n: int = Field(ge=1)
    mape_percent: Annotated[float, Field(ge=0)]
    within_5_percent: Share
    within_5_interval: Interval | None = None
    within_10_percent: Share
    within_10_interval: Interval | None = None
    kendall_tau: Correlation | None = None
    spearman: Correlation | None = None
    rmse_ms: Spread | None = None
    coverage_95: Share | None = None
    """Share of the held-out networks inside the stated 95 % interval."""
    coverage_95_interval: Interval | None = None


class LatencyModelQuality(Part):
    """The held-out networks, the model's figures on them, and those of simpler predictors beside it."""

    held_out: tuple[HeldOutNetwork, ...] = ()
    figures: LatencyFigures | None = None
    baselines: tuple[LatencyFigures, ...] = ()


class Table(Part):
    """The latency table that the search rested on; ``stale`` if its device is not quite the one found."""

    name: str
    kind: Literal["measured", "imported", "estimated", "emulated"]
    created: AwareDatetime
    protocol: Facts
    """Every knob of the measuring protocol."""
    blocks: Count
    blocks_measured: Count
    stale: bool = False
    absent: tuple[str, ...] = ()
    """Blocks that every architecture has and the table lacks: its latencies are then relative."""


class DeviceFound(Part):
    """The fingerprint of the device as probed during the run."""

    description: str = ""
    identity8: str
    identity: Facts
    context: Facts


class Step(Part):
    """A step of the pipeline; ``note`` says, for instance, that it was skipped."""

    name: str
    seconds: Seconds
    note: str = ""


class FineTuned(Part):
    """A network on the way from the winner to a fine-tuned and pruned one, or the unpruned one beside it.

    ``figure_ms`` is the statistic of the budget, of the samples that a promise is kept on.
    """

    made: str
    id: str
    figure_ms: Milliseconds
    interval_ms: tuple[Milliseconds, Milliseconds] | None = None
    ungated_p50_ms: Milliseconds | None = None
    top1_validation: Share
    top1_test: Share
    macs: int = Field(ge=0)
    params: int = Field(ge=0)


class ReportData(Document):
    """Everything that the page shows.

    ``warnings`` come first on the page, beside those that follow from the data themselves.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    run: str
    created: AwareDatetime
    command: str = ""
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()
    asked: Asked
    winner: Winner
    yardsticks: tuple[Network, ...] = ()
    finetuned: tuple[FineTuned, ...] = ()
    finetuning_remarks: tuple[str, ...] = ()
    """What the figures of ``finetuned`` do not say of themselves."""
    search: Search
    explained: Explained | None = None
    far_from_best: FarFromBest | None = None
    latency_model: LatencyModelQuality
    table: Table
    device: DeviceFound
    steps: tuple[Step, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those that were benchmarked: the winner's and the yardsticks."""
        return (self.winner.network, *self.yardsticks)

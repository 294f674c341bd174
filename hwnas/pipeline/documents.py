"""The small files that the steps of a run leave for each other and for people."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hwnas.files import Document
from hwnas.pipeline.finetuned import FineTuningResult
from hwnas.report import Finalist, Measurement, OtherBudgetKept
from hwnas.search import Percentile
from hwnas.spaces.space import Metric


class BudgetChoice(Document):
    """The latency budget of a run, and where it is from."""

    limit_ms: float
    source: str


class YardstickSummary(BaseModel):
    """A network that everybody can compare with, measured in the same run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    measured_p50_ms: float | None
    measured_p99_ms: float | None
    ungated_p50_ms: float | None
    ungated_p99_ms: float | None
    top1: float | None


class Summary(Document):
    """``summary.json``: the figures of a run. Latencies in ms, accuracies in 0..1.

    ``measured_*`` are gated figures (the device's capability) of the exported, compiled winner; the ``ungated_*``
    are what the machine gave meanwhile. The budget limits ``statistic`` under ``arrival``; ``promised_ms`` is that
    figure of the samples that the promise is kept on (``basis``: the gated ones of a shared machine, else all, after
    heat soak), measured on ``promise_builds`` builds that had no part in the choice, and ``promised_interval_ms`` holds
    it with probability 95 %. ``top1`` is that of the compiled engine on the test split; here and in all files of a run
    figures of that name are what ``metric`` says: of detectors, mean average precision.
    """

    run: str
    target: str
    space: str
    dataset: str
    budget_ms: float
    budget_source: str
    statistic: Percentile
    arrival: str
    basis: Literal["gated", "ungated"]
    architecture: str
    predicted_ms: float
    predicted_std_ms: float
    promised_ms: float
    promised_interval_ms: tuple[float, float] | None
    promise_builds: int
    measured_p50_ms: float | None
    measured_p99_ms: float | None
    ungated_p50_ms: float | None
    ungated_p99_ms: float | None
    top1: float
    top1_validation: float
    others: tuple[OtherBudgetKept, ...] = ()
    """Further budgets."""
    finetuned: FineTuningResult | None = None
    """What fine-tuning and pruning have made of the winner, where that was asked for."""
    yardsticks: tuple[YardstickSummary, ...]
    metric: Metric = "top-1"
    evaluations: int
    seconds_per_step: dict[str, float]
    report: str
    emulated: bool = False
    """The times are an emulator's: whatever budget was kept by them, nothing is promised for a device."""


class FinalistsDocument(Document):
    """``finalists.json``: what was measured on the device before a winner was chosen, the most accurate first."""

    finalists: tuple[Finalist, ...]
    architectures: dict[str, dict[str, Any]]
    """Architectures as JSON, by id."""


class WinnerDocument(Document):
    """``winner.json``: the finalist that kept the budget again when it was measured on builds of its own."""

    id: str
    architecture: dict[str, Any]
    promise: Measurement
    """What it took on those builds."""
    promised_ms: float
    """The budget's statistic of it, of the samples that the promise is kept on."""
    broke_budget: tuple[str, ...]
    """Finalists of higher accuracy that did not keep it that second time, or not with all of their interval."""


class ExportRecord(Document):
    """What was exported, beside the ONNX file."""

    sha256: str
    opset: int
    ir_version: int
    parity: float
    """Largest absolute difference of an output between torch and ONNX Runtime on real images."""

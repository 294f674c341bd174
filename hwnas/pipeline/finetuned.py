"""The files of a fine-tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from hwnas.errors import HwnasError
from hwnas.files import Document
from hwnas.search import Finalist, Percentile

Made = Literal["extracted", "fine-tuned", "pruned", "unpruned"]
"""How a network came about: with the supernet's weights; trained further alone; the same with fewer channels; another
subnet with the supernet's weights, predicted to take as long as the pruned one."""


class Timed(BaseModel):
    """A latency in ms over the samples of all builds of a network; see :class:`hwnas.search.Finalist`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    figure_ms: float
    """The statistic that a limit is of, of the samples that a promise is kept on."""
    interval_ms: tuple[float, float] | None
    """Holds it with probability 95 %; None where the samples are too few to say."""
    gated_p50_ms: float | None
    ungated_p50_ms: float | None
    build_p50_ms: tuple[float | None, ...]

    @classmethod
    def of(cls, finalist: Finalist, gated: bool) -> Timed:
        """What was measured of a network whose figure can be stated."""
        assert finalist.figure_ms is not None
        return cls(
            figure_ms=finalist.figure_ms,
            interval_ms=(finalist.gated if gated else finalist.ungated).interval_ms,
            gated_p50_ms=finalist.gated.statistics.p50_ms,
            ungated_p50_ms=finalist.ungated.statistics.p50_ms,
            build_p50_ms=finalist.build_p50_ms,
        )


class TriedRate(Document):
    """What a short training came to at a learning rate; a step's file, and a part of the result."""

    learning_rate: float
    epochs: float
    score_validation: float | None
    """In 0..1; None where the training diverged."""
    diverged: str | None = None
    """In words."""


class NetworkFigures(BaseModel):
    """A network as it was measured; scores are by the result's metric, in 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    made: Made
    id: str
    macs: int
    params: int
    score_validation: float = Field(validation_alias=AliasChoices("score_validation", "top1_validation"))
    score_test: float = Field(validation_alias=AliasChoices("score_test", "top1_test"))
    latency: Timed


class FineTuningResult(Document):
    """``result.json``: what fine-tuning and pruning have made of a network."""

    space: str
    architecture: str
    """Id of the one that was chosen."""
    dataset: str
    metric: str = "top-1"
    """What scores are: top-1, or mAP of detectors."""
    learning_rate: float | None = None
    """At which it was trained; None in files of old."""
    rates: tuple[TriedRate, ...] = ()
    """Learning rates that were tried before; none where one was set."""
    target: str
    statistic: Percentile
    basis: Literal["gated", "ungated"]
    """Samples that the figures are of: those in the device's fast state, or all."""
    builds: int
    """Fresh ones of each network."""
    limit_ms: float | None
    """None where nothing was pruned."""
    kept: bool | None
    """Whether the pruned network keeps the limit on these builds, which had no part in the choice of its widths."""
    networks: tuple[NetworkFigures, ...] = Field(min_length=1)
    """In the order in which they were made."""
    delivered: Made
    """Which of them is in ``network.safetensors`` and ``model.onnx``."""
    unpruned_missing: str | None
    """Why no unpruned subnet stands beside the pruned network."""

    def of(self, made: Made) -> NetworkFigures:
        """The network that came about so."""
        return next(network for network in self.networks if network.made == made)

    def require_kept(self) -> None:
        """
        Raises:
            HwnasError: the pruned network does not keep the limit.
        """
        if self.kept is False:
            pruned = self.of("pruned").latency
            raise HwnasError(
                f"The pruned network takes {pruned.figure_ms:.4g} ms ({self.statistic}) on fresh builds, more than the "
                f"{self.limit_ms:.4g} ms that it was chosen for; lower --prune, or try again in a quieter hour."
            )

    def remarks(self) -> list[str]:
        """What the figures do not say of themselves."""
        before, after = self.of("extracted"), self.of("fine-tuned")
        said = []
        if self.metric == "mAP":
            said.append("It learned from the boxes alone: detectors are not distilled.")
        if self.rates:
            tried = ", ".join(map(self._tried, self.rates))
            said.append(
                f"Learning rate {self.learning_rate:g}, the best of those tried for {self.rates[0].epochs:.2g} epochs "
                f"each by the validation images: {tried}."
            )
        if after.score_validation == before.score_validation:
            said.append("Fine-tuning did not help by the validation images; the network is as it was.")
        if self.limit_ms is not None and self.kept:
            interval = self.of("pruned").latency.interval_ms
            surely = interval is not None and interval[1] <= self.limit_ms
            rest = "." if surely else "; its interval reaches above that."
            said.append(
                f"The pruned network keeps {self.limit_ms:.4g} ms on builds that had no part in its choice{rest}"
            )
        if self.unpruned_missing is not None:
            said.append(f"No unpruned subnet stands beside it: {self.unpruned_missing}")
        return said

    def _tried(self, rate: TriedRate) -> str:
        reached = "diverged" if rate.score_validation is None else f"{100 * rate.score_validation:.2f} %"
        return f"{rate.learning_rate:g}: {reached}"

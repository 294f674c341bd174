"""What the doctor says, and how grave it is."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hwnas.files import Document

Verdict = Literal["builds", "builds with warnings", "will not build"]


class Severity(StrEnum):
    """From what keeps an engine from being built to what is merely said."""

    ERROR = "error"
    WARNING = "warning"
    UNKNOWN = "unknown"
    NOTE = "note"


class Finding(BaseModel):
    """One kind of problem, wherever in the model it occurs.

    Attributes:
        severity: errors alone keep the model from being built; what is unknown is a warning.
        code: of the check, for machines.
        what: the problem, as a sentence.
        where: the nodes or tensors concerned, each with where it comes from.
        mend: what to do about it.
        source: where it is written that this is so; None where it follows from the model alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity
    code: str
    what: str
    where: tuple[str, ...] = ()
    mend: str | None = None
    source: str | None = None


class MemoryEstimate(BaseModel):
    """Bytes that an engine needs to run, estimated from the model; the builder needs more.

    Attributes:
        weights: all parameters, in the engine's precision.
        activations: the most that is alive at once, without fusion.
        workspace: scratch memory that kernels may use; None where no limit was given.
        available: what the device has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: int
    activations: int
    workspace: int | None
    available: int | None

    @property
    def total(self) -> int:
        """What is known to be needed."""
        return self.weights + self.activations + (self.workspace or 0)


class Diagnosis(Document):
    """Whether a model will build on one platform.

    Attributes:
        platform, tensorrt, compute_capability: where.
        precision: what is asked for; None for what the model says.
        findings: gravest first.
        memory: None where the shapes are not known.
    """

    model: str
    platform: str
    tensorrt: str
    compute_capability: str | None
    precision: str | None
    findings: tuple[Finding, ...]
    memory: MemoryEstimate | None

    @property
    def verdict(self) -> Verdict:
        """In one line."""
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return "will not build"
        return "builds with warnings" if severities & {Severity.WARNING, Severity.UNKNOWN} else "builds"

"""All checks on one model, for each way in which a device may be set up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hwnas.doctor import model as models
from hwnas.doctor.case import BuildPlan, Case
from hwnas.doctor.checks.dla import dla
from hwnas.doctor.checks.memory import estimate, memory
from hwnas.doctor.checks.operators import operators, opset
from hwnas.doctor.checks.quantisation import quantisation
from hwnas.doctor.checks.ranges import ranges
from hwnas.doctor.checks.restrictions import restrictions
from hwnas.doctor.checks.shapes import external_data, shapes
from hwnas.doctor.checks.types import hardware, precision, types
from hwnas.doctor.finding import Diagnosis, Finding, Severity
from hwnas.doctor.platform import Platform

Check = Callable[[Case], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    external_data,
    shapes,
    opset,
    operators,
    restrictions,
    types,
    hardware,
    precision,
    quantisation,
    ranges,
    dla,
)


def examine(path: Path, platforms: Sequence[Platform], plan: BuildPlan | None = None) -> list[Diagnosis]:
    """Whether a model will build on each platform, by what is documented of it.

    Raises:
        BadFileError: the file is missing or is no ONNX model.
    """
    model = models.read(path)
    return [_diagnosis(Case(model, platform, plan or BuildPlan())) for platform in platforms]


def _diagnosis(case: Case) -> Diagnosis:
    found = [finding for check in CHECKS for finding in check(case)]
    needed = estimate(case)
    found += memory(case, needed)
    order = list(Severity)
    gpu = case.platform.gpu
    return Diagnosis(
        model=str(case.model.path),
        platform=case.platform.name,
        tensorrt=case.platform.tensorrt,
        compute_capability=None if gpu is None else f"{gpu[0]}.{gpu[1]}",
        precision=case.plan.precision,
        findings=tuple(sorted(found, key=lambda finding: order.index(finding.severity))),
        memory=needed,
    )

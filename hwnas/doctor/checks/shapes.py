"""Dimensions that an engine must know, and data that must be there."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, Severity


def shapes(case: Case) -> Iterator[Finding]:
    """Dynamic dimensions without an optimisation profile."""
    batch, others = [], []
    for value in case.model.inputs:
        dims = case.model.tensors[value.name].dims
        if dims is None:
            others.append(f"input '{value.name}', whose rank is not stated")
            continue
        free = [position for position, side in enumerate(dims) if not isinstance(side, int)]
        written = ", ".join("?" if side is None else str(side) for side in dims)
        if free == [0]:
            batch.append(f"input '{value.name}' [{written}]")
        elif free:
            others.append(f"input '{value.name}' [{written}]")
    if others:
        yield Finding(
            severity=Severity.ERROR,
            code="dynamic-shape",
            what="Inputs have dynamic dimensions beside the batch, for which hwnas gives no optimisation profile.",
            where=tuple(others),
            mend="export with static shapes (onnxruntime.tools.make_dynamic_shape_fixed)",
        )
    if batch and not case.plan.dynamic_batch:
        yield Finding(
            severity=Severity.ERROR,
            code="dynamic-batch",
            what="The batch is dynamic, and there is no optimisation profile for it.",
            where=tuple(batch),
            mend="export with a fixed batch, or give --batch-range LEAST,USUAL,LARGEST",
        )


def external_data(case: Case) -> Iterator[Finding]:
    """Weights that lie in other files which are missing, too short or outside of the model's directory."""
    directory = case.model.path.parent.resolve()
    problems = []
    for tensor in case.model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if "location" not in entries:
            continue
        file = (directory / entries["location"]).resolve()
        needed = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if not file.is_relative_to(directory):
            problems.append(f"'{tensor.name}' in {entries['location']}, which is outside of the model's directory")
        elif not file.is_file():
            problems.append(f"'{tensor.name}' in {entries['location']}, which does not exist")
        elif file.stat().st_size < needed:
            problems.append(f"'{tensor.name}' in {file.name}, which has {file.stat().st_size} of {needed} bytes")
    if problems:
        more = (f"and {len(problems) - 5} more",) if len(problems) > 5 else ()
        yield Finding(
            severity=Severity.ERROR,
            code="external-data",
            what="Weights are not there.",
            where=(*problems[:5], *more),
            mend="put the files beside the model, or export again with all weights inside",
        )

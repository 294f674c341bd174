"""Operators that the parser does not know, and definitions of operators that are newer than it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from onnx import defs

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, Severity
from hwnas.doctor.knowledge import OLDEST_OPSET, SOURCES, Support, opset_limits, support
from hwnas.doctor.model import ONNX_DOMAINS, Place
from hwnas.doctor.origin import describe_all
from hwnas.doctor.version import Version

_LOCAL_FUNCTIONS_SINCE = Version(9, 0)
_INSTEAD = {
    "QLinearConv": "export with Q/DQ pairs (QuantFormat.QDQ) in place of quantised operators",
    "QLinearMatMul": "export with Q/DQ pairs (QuantFormat.QDQ) in place of quantised operators",
    "ConvInteger": "quantise statically with Q/DQ pairs",
    "MatMulInteger": "quantise statically with Q/DQ pairs",
    "DynamicQuantizeLinear": "quantise statically with Q/DQ pairs; scales must be known when the engine is built",
    "LayerNormalization": "export with an opset below 17, which writes it as its parts",
    "GroupNormalization": "export with an opset below 18, which writes it as its parts",
    "Gelu": "export with an opset below 20, which writes it as its parts",
    "Mish": "export with an opset below 18, which writes it as its parts",
}


def operators(case: Case) -> Iterator[Finding]:
    """Operators that the parser refuses, or of which it is not known."""
    by_operator: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in case.model.places:
        by_operator[place.node.domain, place.node.op_type].append(place)
    for (domain, operator), places in by_operator.items():
        if domain in ONNX_DOMAINS:
            yield from _of_onnx(case, operator, places)
        else:
            yield from _of_others(case, domain, operator, places)


def opset(case: Case) -> Iterator[Finding]:
    """An opset that the parser does not read: its operators may mean something else."""
    found = case.model.opset
    read, first_unread = opset_limits(case.version)
    source = _opset_source(case.version)
    if 0 < found < OLDEST_OPSET:
        yield Finding(
            severity=Severity.WARNING,
            code="opset-too-old",
            what=f"Opset {found} is older than {OLDEST_OPSET}, the oldest that NVIDIA's parser is documented to read.",
            mend=f"convert the model to opset {OLDEST_OPSET} or later with onnx.version_converter",
            source=source,
        )
    if found <= read:
        return
    newer = [place for place in case.model.places if _means_something_else(place, found, read)]
    mend = f"export with opset {read}"
    if first_unread is None or found < first_unread:
        yield Finding(
            severity=Severity.UNKNOWN,
            code="opset-unknown",
            what=f"Opset {found}: that TensorRT {case.version} reads more than {read} is not documented.",
            where=describe_all(case.model, newer),
            mend=mend,
            source=source,
        )
    elif newer:
        yield Finding(
            severity=Severity.ERROR,
            code="opset-too-new",
            what=f"Opset {found} changed these operators since {read}, which is what TensorRT {case.version} reads.",
            where=describe_all(case.model, newer),
            mend=mend,
            source=source,
        )
    else:
        yield Finding(
            severity=Severity.WARNING,
            code="opset-too-new",
            what=f"Opset {found} is newer than {read}, which TensorRT {case.version} reads, "
            "but every operator of the model means the same in both.",
            mend=mend,
            source=source,
        )


def _of_onnx(case: Case, operator: str, places: list[Place]) -> Iterator[Finding]:
    verdict, source = support(operator, case.version)
    if verdict is Support.YES:
        return
    if verdict is Support.NO:
        severity, what = Severity.ERROR, f"TensorRT {case.version} does not have operator {operator}."
    else:
        severity, what = Severity.UNKNOWN, f"Whether TensorRT {case.version} has operator {operator} is not documented."
    yield Finding(
        severity=severity,
        code="operator-" + verdict.value,
        what=what,
        where=describe_all(case.model, places),
        mend=_INSTEAD.get(operator, "write this part of the network with other operators, or give TensorRT a plugin"),
        source=SOURCES[source],
    )


def _of_others(case: Case, domain: str, operator: str, places: list[Place]) -> Iterator[Finding]:
    if (domain, operator) in case.model.functions:
        if case.version < _LOCAL_FUNCTIONS_SINCE:
            yield Finding(
                severity=Severity.ERROR,
                code="local-function",
                what=f"{domain}.{operator} is a function of the model, which TensorRT reads from 9.0 on.",
                where=describe_all(case.model, places),
                mend="inline it with onnx.inliner.inline_local_functions",
                source=SOURCES["changelog"],
            )
        return
    yield Finding(
        severity=Severity.ERROR,
        code="custom-operator",
        what=f"{domain}.{operator} is no operator of ONNX: without a plugin of that name no TensorRT builds it.",
        where=describe_all(case.model, places),
        mend="export without contributed operators (for ONNX Runtime's: no optimised model), or give TensorRT a plugin",
    )


def _means_something_else(place: Place, found: int, read: int) -> bool:
    """Whether an operator's inputs, outputs or attributes differ between two opsets; wider types do not count."""
    if place.node.domain not in ONNX_DOMAINS:
        return False
    try:
        then, now = (defs.get_schema(place.node.op_type, opset, "") for opset in (read, found))
    except defs.SchemaError:
        return True
    return _signature(then) != _signature(now)


def _signature(schema: defs.OpSchema) -> tuple[object, ...]:
    return (
        [parameter.name for parameter in schema.inputs],
        [parameter.name for parameter in schema.outputs],
        sorted(schema.attributes),
    )


def _opset_source(version: Version) -> str:
    return SOURCES["11"] if version >= (11, 0) else f"{SOURCES['8.5']} and of later versions"

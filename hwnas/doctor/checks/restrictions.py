"""What the parser asks of nodes whose operators it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import NodeProto

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, Severity
from hwnas.doctor.knowledge import LAST_MATRIX, SOURCES
from hwnas.doctor.model import ONNX_DOMAINS, Model, attributes
from hwnas.doctor.origin import describe_all
from hwnas.doctor.version import Version

Broken = Callable[[Model, NodeProto], bool]
OLDEST = Version(8, 5)
_EVER = Version(99, 0)


@dataclass(frozen=True)
class Restriction:
    """One sentence of the support matrices.

    Attributes:
        operators: that it is about.
        broken: whether a node breaks it.
        what: is wrong then.
        mend: what to do.
        first, until: the versions that have it; ``until`` is the first that does not.
        source: see :data:`hwnas.doctor.knowledge.SOURCES`.
    """

    operators: tuple[str, ...]
    broken: Broken
    what: str
    mend: str
    source: str
    first: Version = OLDEST
    until: Version = _EVER
    certain: bool = True
    """False where the matrix says so and the parser of TensorRT-RTX 1.7, when tried, does not mind."""


def restrictions(case: Case) -> Iterator[Finding]:
    """Nodes that break what the matrix of their version asks of them."""
    for rule in RULES:
        if not rule.first <= case.version < rule.until:
            continue
        broken = [
            place
            for place in case.model.places
            if place.node.domain in ONNX_DOMAINS
            and place.node.op_type in rule.operators
            and rule.broken(case.model, place.node)
        ]
        if broken:
            certain = rule.certain and (rule.until is not _EVER or case.version <= LAST_MATRIX)
            yield Finding(
                severity=Severity.ERROR if certain else Severity.UNKNOWN,
                code="restriction",
                what=rule.what + ("" if certain else f" Whether TensorRT {case.version} refuses it is not known."),
                where=describe_all(case.model, broken),
                mend=rule.mend,
                source=SOURCES[rule.source],
            )


def _not_constant(position: int) -> Broken:
    """Whether an input is there and not fixed in the model."""

    def broken(model: Model, node: NodeProto) -> bool:
        name = node.input[position] if len(node.input) > position else ""
        return bool(name) and not model.is_constant(name)

    return broken


def _attribute(name: str, refused: Callable[[object], bool]) -> Broken:
    """Whether a node states an attribute with a value that is refused."""
    return lambda _, node: name in (found := attributes(node)) and refused(found[name])


def _has_output(position: int) -> Broken:
    return lambda _, node: len(node.output) > position and bool(node.output[position])


def _rank(position: int, refused: Callable[[int], bool]) -> Broken:
    """Whether an input has a rank that is refused; one that is not known is not."""

    def broken(model: Model, node: NodeProto) -> bool:
        tensor = model.tensors.get(node.input[position])
        return tensor is not None and tensor.dims is not None and refused(len(tensor.dims))

    return broken


def _other_than(*known: bytes) -> Callable[[object], bool]:
    return lambda value: value not in known


def _not_ones(value: object) -> bool:
    return isinstance(value, list) and any(side != 1 for side in value)


_CONSTANT = "give it as a constant: fold constants (onnxslim, polygraphy surgeon sanitize --fold-constants)"
_POOLS = ("AveragePool", "MaxPool", "LpPool")
_SUM = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin")
_REDUCTIONS = (*_SUM, "ReduceProd", "ReduceSum", "ReduceSumSquare")
_COORDINATES = _other_than(
    b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric", b"align_corners"
)

RULES = (
    Restriction(
        ("AveragePool", "MaxPool"), _rank(0, lambda rank: rank not in (4, 5)), "The matrix has 2D and 3D pooling.",
        "unsqueeze a dimension", "8.5", certain=False,
    ),
    Restriction(
        ("MaxPool",), _has_output(1), "MaxPool's output of indices is not supported.",
        "drop MaxUnpool and what else reads the indices", "8.5",
    ),
    Restriction(
        _POOLS, _attribute("dilations", _not_ones), "Pooling must not be dilated.", "use a stride or a larger window",
        "10.6", first=Version(10, 6),
    ),
    Restriction(
        ("Slice",), _not_constant(3), "Slice's axes must be an initializer.", _CONSTANT, "8.5", until=Version(10, 3)
    ),
    Restriction(
        ("Squeeze", "Unsqueeze"), _not_constant(1), "The axes must be an initializer.", _CONSTANT, "8.5",
        until=Version(10, 7),
    ),
    Restriction(
        ("CumSum",), _not_constant(1), "CumSum's axis must be an initializer.", _CONSTANT, "8.5", until=Version(10, 8)
    ),
    Restriction(("TopK",), _not_constant(1), "TopK's K must be an initializer.", _CONSTANT, "8.5", until=Version(8, 6)),
    Restriction(
        _REDUCTIONS, _not_constant(1), "The axes must be an initializer.", _CONSTANT, "10.6", first=Version(10, 6)
    ),
    Restriction(
        ("OneHot",), _not_constant(1), "OneHot's depth must be known when the engine is built.", _CONSTANT, "10.6",
        first=Version(10, 6),
    ),
    Restriction(
        ("InstanceNormalization",), lambda m, n: _not_constant(1)(m, n) or _not_constant(2)(m, n),
        "InstanceNormalization's scale and bias must be initializers.", _CONSTANT, "8.5", until=Version(9, 1),
    ),
    Restriction(
        ("LayerNormalization",), lambda m, n: _has_output(1)(m, n) or _has_output(2)(m, n),
        "Only LayerNormalization's first output is supported.", "compute mean and deviation by ReduceMean", "10.6",
        first=Version(8, 6),
    ),
    Restriction(
        ("Einsum",), _attribute("equation", lambda value: isinstance(value, bytes) and b"..." in value),
        "Einsum with an ellipsis is not supported.", "name every dimension", "8.5", until=Version(10, 12),
    ),
    Restriction(
        ("Resize",), _attribute("mode", _other_than(b"nearest", b"linear")), "The matrix has no cubic Resize.",
        "interpolate linearly", "8.5", certain=False,
    ),
    Restriction(
        ("Resize",), _attribute("coordinate_transformation_mode", _COORDINATES),
        "Resize has a transformation of coordinates that is not supported.", "use half_pixel or align_corners", "8.5",
    ),
    Restriction(
        ("Resize",), _attribute("antialias", bool), "Resize does not antialias.", "set antialias to 0", "10.6"
    ),
    Restriction(
        ("ScatterND",), _attribute("reduction", _other_than(b"none")), "ScatterND does not reduce.",
        "use ScatterElements, or add afterwards", "10.6",
    ),
    Restriction(
        ("GridSample",), _rank(0, lambda rank: rank != 4), "GridSample takes 4D inputs alone.", "sample slice by slice",
        "10.6", until=Version(11, 2),
    ),
    Restriction(
        ("LSTM",), _attribute("layout", bool), "LSTM's layout must be 0.", "put the sequence dimension first", "10.6"
    ),
    Restriction(
        ("LSTM",), _attribute("input_forget", bool), "LSTM's input_forget must be 0.", "set input_forget to 0", "10.6"
    ),
    Restriction(
        ("Constant",), lambda _, n: bool({"sparse_value", "value_string", "value_strings"} & set(attributes(n))),
        "Sparse and text constants are not supported.", "store a dense number", "10.6",
    ),
)  # fmt: skip

"""ONNX into a network by NVIDIA's parser, and what the parser says of what it refuses."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Set, Tuple

from ..protocol import AgentError, ErrorKind
from .library import Library, shortened

_PRECISIONS = (
    ("FP4", "fp4"),
    ("INT4", "int4"),
    ("FP8", "fp8"),
    ("INT8", "int8"),
    ("BF16", "bf16"),
    ("HALF", "fp16"),
)
"""Types that a network may compute in, and what a network is called that has them; the first one found names it."""

_HINTS: Tuple[Tuple[str, str], ...] = (
    (
        r"type Int32 but must have",
        "leave biases unquantised, as `hwnas export` does (ONNX Runtime: QuantizeBias=False)",
    ),
    (
        r"non-zero zero ?point|zero point is not supported|uint8",
        "quantise symmetrically to int8 with all zero points 0, as `hwnas export` does (ONNX Runtime: "
        "ActivationSymmetric and WeightSymmetric, QInt8)",
    ),
    (
        r"plugin not found|no importer registered|checkFallbackPluginImporter",
        "this operator is not one of ONNX's that TensorRT knows; build the model of standard operators",
    ),
    (r"UNSUPPORTED_NODE\b", "TensorRT has no such operator; build the model without it, or run it by another runtime"),
    (r"failed to parse the ONNX model|MODEL_DESERIALIZE_FAILED", "this is no ONNX file; export the model anew"),
    (r"UNSUPPORTED_NODE_DATATYPE", "TensorRT has the operator, but not for this type; cast the tensor before it"),
    (r"UNSUPPORTED_NODE_(SHAPE|DYNAMIC)", "export the model with static shapes"),
    (r"opset|IR version", "export the model with opset 17, which every TensorRT from 8.5 on reads"),
)
"""A pattern in what the parser says, to what helps; the first that fits."""
_NO_HINT = "export the model by `hwnas export`, whose operators all build, and compare the node"


@dataclass(frozen=True)
class Refusal:
    """One node, or the whole model, that the parser refused."""

    reason: str
    """In the parser's words."""
    hint: str
    """What to do about it, in ours."""
    code: str
    """NVIDIA's name for the kind of error, such as ``UNSUPPORTED_NODE``."""
    node: Optional[int] = None
    """The node's number in the graph; ``None`` where it is not one node."""
    node_name: str = ""
    """Empty where it has none, or where TensorRT does not tell (8.x)."""
    operator: str = ""

    def as_record(self) -> Dict[str, Any]:
        """For a reply."""
        return asdict(self)

    def sentence(self) -> str:
        """All of it as one sentence."""
        named = "%s node '%s': " % (self.operator, self.node_name) if self.operator else ""
        return "%s%s (%s); %s" % (named, self.reason, self.code, self.hint)


class ParsedModel:
    """A network with what made it, which must outlive it: the parser holds the weights."""

    def __init__(self, library: Library, onnx: bytes, strongly_typed: bool = True) -> None:
        """
        Args:
            library: what parses.
            onnx: the model.
            strongly_typed: let the model alone decide every type, where the library leaves a choice.
        """
        trt = library.trt
        self.builder = trt.Builder(library.logger)
        network = self.builder.create_network(_creation_flags(trt, strongly_typed))
        self.network = library.made(network, "making a network")
        self._parser = trt.OnnxParser(self.network, library.logger)
        self.refusals = [] if self._parser.parse(onnx) else _refusals(self._parser)
        if not self.refusals and not self.network.num_layers:
            self.refusals = [Refusal("it has no nodes", "export the model anew", "INVALID_GRAPH")]

    def require_accepted(self) -> None:
        """
        Raises:
            AgentError: ``model-refused``, with the parser's first reason and a hint.
        """
        if self.refusals:
            more = "" if len(self.refusals) == 1 else "; %d more refusals" % (len(self.refusals) - 1)
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "NVIDIA's parser refused the model: %s%s" % (self.refusals[0].sentence(), more),
            )

    def precision(self) -> str:
        """What the network computes in by the types of its tensors: the lowest; ``fp32`` where none is lower."""
        types: Set[str] = set()
        for number in range(self.network.num_layers):
            layer = self.network.get_layer(number)
            types.update(layer.get_output(output).dtype.name for output in range(layer.num_outputs))
        return next((precision for name, precision in _PRECISIONS if name in types), "fp32")


def can_choose_types(trt: Any) -> bool:
    """Whether networks can be weakly typed, so that flags of the builder decide what is computed in: before 11."""
    return hasattr(trt.BuilderFlag, "FP16")


def can_type_strongly(trt: Any) -> bool:
    """Whether networks can be strongly typed: from 10 on, and always from 11 on."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def _creation_flags(trt: Any, strongly_typed: bool) -> int:
    kinds, flags = trt.NetworkDefinitionCreationFlag, 0
    if hasattr(kinds, "EXPLICIT_BATCH"):
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    if strongly_typed and can_type_strongly(trt):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    return flags


def _refusals(parser: Any) -> List[Refusal]:
    """What the parser says; a refusal without a reason is one, too."""
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    return [_refusal(error) for error in errors] or [Refusal("it gave no reason", _NO_HINT, "INTERNAL_ERROR")]


def _refusal(error: Any) -> Refusal:
    named = hasattr(error, "node_operator")
    operator = error.node_operator() if named else ""
    code, reason = error.code().name, _cleared(error.desc())
    text = " ".join((code, operator, reason))
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text, re.IGNORECASE)), _NO_HINT)
    return Refusal(
        reason=reason or "no reason was given",
        hint=hint,
        code=code,
        node=error.node() if error.node() >= 0 else None,
        node_name=error.node_name() if named else "",
        operator=operator,
    )


def _cleared(reason: str) -> str:
    """The reason without what is in the text for the parser's authors, and without echoes of a missing GPU."""
    lines = [line for line in reason.splitlines() if "cudaError" not in line]
    text = shortened(" ".join(lines)).replace("Assertion failed: ", "")
    return "the operator is not supported" if text == "false" else text

"""In which precision an ONNX model is, read from its bytes: a board has no library for ONNX.

The fields are those of onnx.proto; protocol buffers put each as a key (number and wire type) and a value.
"""

from __future__ import annotations

from typing import Iterator, Set, Tuple, Union

from .protocol import AgentError, ErrorKind

_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FLOAT8 = frozenset({17, 18, 19, 20})
_FLOAT16, _BFLOAT16 = 10, 16
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5

_GRAPH_OF_MODEL = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_OPERATOR, _ATTRIBUTE = 4, 5
_TENSOR_OF_ATTRIBUTE, _NUMBER_OF_ATTRIBUTE, _NAME_OF_ATTRIBUTE = 5, 3, 1
_TYPE_OF_TENSOR = 2

Field = Tuple[int, Union[int, memoryview]]


def precision_of(onnx: bytes) -> str:
    """``int8`` or ``fp8`` where the model quantises, else ``fp16`` or ``bf16`` where anything is so, else ``fp32``.

    Raises:
        AgentError: ``model-refused``, when the bytes are no ONNX model.
    """
    operators: Set[str] = set()
    types: Set[int] = set()
    try:
        for graph in _parts(memoryview(onnx), _GRAPH_OF_MODEL):
            _read_graph(graph, operators, types)
    except (ValueError, IndexError) as error:
        raise AgentError(ErrorKind.MODEL_REFUSED, "this is no ONNX model (%s)" % error) from error
    if not operators:
        raise AgentError(ErrorKind.MODEL_REFUSED, "this is no ONNX model (it has no operators)")
    if operators & _QUANTISERS:
        return "fp8" if types & _FLOAT8 else "int8"
    if _FLOAT16 in types:
        return "fp16"
    return "bf16" if _BFLOAT16 in types else "fp32"


def require_precision(onnx: bytes, precision: str) -> None:
    """
    Raises:
        AgentError: ``model-refused``, when the model is in another precision than ``precision``.
    """
    found = precision_of(onnx)
    if found != precision:
        raise AgentError(
            ErrorKind.MODEL_REFUSED,
            "the model is in %s and %s was asked for; ask for %s, or export it in %s"
            % (found, precision, found, precision),
        )


def _read_graph(graph: memoryview, operators: Set[str], types: Set[int]) -> None:
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _NODE:
            _read_node(value, operators, types)
        elif number == _INITIALIZER:
            types.update(_numbers(value, _TYPE_OF_TENSOR))
        elif number in (_INPUT, _OUTPUT):  # ValueInfoProto.type.tensor_type.elem_type
            types.update(n for kind in _parts(value, 2) for tensor in _parts(kind, 1) for n in _numbers(tensor, 1))


def _read_node(node: memoryview, operators: Set[str], types: Set[int]) -> None:
    operator = "".join(bytes(part).decode("utf-8") for part in _parts(node, _OPERATOR))
    operators.add(operator)
    for attribute in _parts(node, _ATTRIBUTE):
        for tensor in _parts(attribute, _TENSOR_OF_ATTRIBUTE):
            types.update(_numbers(tensor, _TYPE_OF_TENSOR))
        if operator == "Cast" and [bytes(name) for name in _parts(attribute, _NAME_OF_ATTRIBUTE)] == [b"to"]:
            types.update(_numbers(attribute, _NUMBER_OF_ATTRIBUTE))


def _parts(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The strings, bytes or messages of one field."""
    return (value for number, value in _fields(message) if number == wanted and isinstance(value, memoryview))


def _numbers(message: memoryview, wanted: int) -> Iterator[int]:
    """The whole numbers of one field."""
    return (value for number, value in _fields(message) if number == wanted and isinstance(value, int))


def _fields(message: memoryview) -> Iterator[Field]:
    """Number and value of each field; those of fixed width, which nothing here needs, are passed over."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(message, position)
            if position + length > len(message):
                raise ValueError("a field exceeds its message")
            yield number, message[position : position + length]
            position += length
        elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
            position += 8 if wire == _EIGHT_BYTES else 4
        else:
            raise ValueError("wire type %d" % wire)


def _varint(message: memoryview, position: int) -> Tuple[int, int]:
    """A whole number in groups of seven bits, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has no end")

"""Small models, each with one thing wrong, and one with nothing wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = npt.NDArray[np.generic]
FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[NodeProto],
    constants: dict[str, Array] | None = None,
    *,
    shape: Sequence[int | str] = (1, 4, 8, 8),
    opset: int = 17,
    kind: int = FLOAT,
    output: int = FLOAT,
    domains: Sequence[str] = (),
) -> ModelProto:
    """``x`` of a shape and type to ``y`` of any shape."""
    stored = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", output, None)],
        stored,
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def conv(weight: Array | None = None, **options: object) -> ModelProto:
    """One convolution and its activation: nothing is wrong with it."""
    weight = np.ones((4, 4, 1, 1), np.float32) if weight is None else weight
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="/body/conv/Conv"),
        helper.make_node("Relu", ["c"], ["y"], name="/body/act/Relu"),
    ]
    return model(nodes, {"w": weight}, **options)  # type: ignore[arg-type]


def unary(operator: str, domain: str = "", opset: int = 17, **attributes: object) -> ModelProto:
    """A ReLU and then an operator of one input."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="/body/Relu"),
        helper.make_node(operator, ["r"], ["y"], name=f"/head/{operator}", domain=domain, **attributes),
    ]
    return model(nodes, opset=opset, domains=[domain] if domain else [])


def quantised(zero: Array | None = None, scale: float = 0.1, bias: bool = False) -> ModelProto:
    """A convolution between Q/DQ pairs."""
    zero = np.array(0, np.int8) if zero is None else zero
    constants: dict[str, Array] = {
        "s": np.array(scale, np.float32),
        "z": zero,
        "wq": np.ones((4, 4, 1, 1), np.int8),
        "ws": np.array(0.1, np.float32),
        "wz": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], name="quantise"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], name="dequantise"),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], name="weight"),
    ]
    inputs = ["xd", "w"]
    if bias:
        constants |= {"bq": np.zeros(4, np.int32), "bs": np.array(0.01, np.float32)}
        nodes.append(helper.make_node("DequantizeLinear", ["bq", "bs"], ["b"], name="bias"))
        inputs.append("b")
    nodes.append(helper.make_node("Conv", inputs, ["y"], name="conv"))
    return model(nodes, constants)


def scale_is_computed() -> ModelProto:
    """A quantiser whose scale depends on the input."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0),
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"], name="dequantise"),
    ]
    return model(nodes)


def external(tmp_path: Path, content: bytes | None, location: str = "weights.bin") -> ModelProto:
    """A convolution whose 64 bytes of weights lie in another file that has ``content``; None: there is none."""
    proto = conv()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "64"}.items():
        tensor.external_data.add(key=key, value=value)
    if content is not None:
        (tmp_path / location).write_bytes(content)
    return proto


def slice_by(position: str) -> ModelProto:
    """A Slice with constant bounds, whose axes are constant or computed."""
    constants: dict[str, Array] = {name: np.array([value], np.int64) for name, value in (("a", 0), ("b", 1), ("k", 1))}
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "a", "b"], ["first"]),
        helper.make_node(
            "Slice", ["x", "a", "b", "k" if position == "constant" else "first"], ["y"], name="/cut/Slice"
        ),
    ]
    return model(nodes, constants)


def reader(name: str, proto: ModelProto, tmp_path: Path) -> Path:
    """The model as a file."""
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


Builder = Callable[[], ModelProto]

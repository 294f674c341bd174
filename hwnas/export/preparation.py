"""Models as a quantisation takes them; those that cannot be quantised are refused."""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto

from hwnas.errors import UserError
from hwnas.graphs import quantisable_layers

MIN_OPSET = 13
"""The first with scales of channels."""
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def prepare(model: ModelProto) -> ModelProto:
    """A model simplified, with every operator named.

    Raises:
        UserError: it cannot be quantised.
    """
    present = [node.op_type for node in model.graph.node]
    done = next((op for op in present if op in _QUANTISED), None)
    if done is not None:
        raise UserError(
            f"The model is quantised already (it has {done}); give the float32 model that it was made from."
        )
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise UserError("The model is in float16 already; give the float32 model that it was made from.")
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < MIN_OPSET:
        raise UserError(f"The model has opset {opset}, but Q and DQ need {MIN_OPSET}; export it with a later one.")
    inputs = [value for value in model.graph.input if value.name not in {t.name for t in model.graph.initializer}]
    shape = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or 0 in shape:
        raise UserError(
            f"The model takes {shape or [value.name for value in inputs]} and not one static input [batch, 3, r, r] "
            "(0 is a dynamic size); export it with static shapes."
        )
    import onnxslim  # takes a second

    slim: ModelProto = onnxslim.slim(onnx.shape_inference.infer_shapes(model))
    for node in slim.graph.node:
        node.name = node.name or node.output[0]
    if not quantisable_layers(slim):
        raise UserError(
            f"The model has no layer that can be quantised: none of its operators ({', '.join(sorted(set(present)))}) "
            "is a convolution or matrix product with constant weights."
        )
    return slim

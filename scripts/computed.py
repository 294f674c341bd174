"""Shared by the scripts that measure tolerances: what a model computes, in several ways, on one thread."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto

Array = npt.NDArray[np.float64]


def outputs(
    model: ModelProto,
    images: npt.NDArray[np.float32],
    batch: int,
    *,
    optimised: bool = True,
    integers: bool = False,
) -> dict[str, Array]:
    """A model's outputs by name, [n, ...], by ONNX Runtime's CPU provider.

    Args:
        images: [n, 3, r, r], n a multiple of ``batch``, which is the model's.
        optimised: by ONNX Runtime before it computes.
        integers: whether Q and DQ may become integer kernels.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (entrance,) = session.get_inputs()
    kind = np.float16 if entrance.type == "tensor(float16)" else np.float32
    names = [output.name for output in session.get_outputs()]
    pieces = np.split(images.astype(kind), range(batch, len(images), batch))
    columns = zip(*(session.run(names, {entrance.name: piece}) for piece in pieces), strict=True)
    return {name: np.concatenate(column).astype(np.float64) for name, column in zip(names, columns, strict=True)}

"""How far an engine is from what its device can do: the roofline of Williams, Waterman and Patterson (CACM 2009).

The roofs are measured on the device itself, by the same runtime and in the same run: the most operations a second of
matrix products and 1×1 convolutions, and the bytes a second of an activation that is read and written from memory.
What an engine computes and moves is counted from its ONNX, operator by operator and without fusion, so that its share
of the roof is a lower bound where a runtime keeps tensors in caches or fuses operators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import cast, get_args

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict

from hwnas.agent.runtimes import model_format
from hwnas.devices import CompileOptions, Device, MeasureOptions, RefusedError
from hwnas.export.benchmark import compiled
from hwnas.graphs import IR_VERSION, OPSET, Precision, graph_in_precision, read_operators

BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
_MIB = 2**20
_PRODUCT_SIDES = {"cpu": (384, 768), "gpu": (2048, 4096)}
_COPY_SIDE = {"cpu": 512, "gpu": 1024}
_COPY_CHANNELS = 64
_COPY = "copy"
_PASSES = 3
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "Cast")


class Work(BaseModel):
    """What one run of a model computes and moves; operations are twice the multiply-accumulates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operations: int
    bytes: int
    """Of inputs, outputs and parameters of every operator, in the engine's precision."""

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.operations / self.bytes


class Roofs(BaseModel):
    """What a device can do by one runtime in one precision; a reason where it could not be measured.

    Attributes:
        operations_per_s: the most that a product reached; ``product``: which one.
        bytes_per_s: of a copy of ``copy_mib`` MiB in and as many out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: str
    operations_per_s: float | None
    product: str | None
    bytes_per_s: float | None
    copy_mib: float
    reason: str | None = None

    def attainable(self, work: Work) -> float | None:
        """Operations a second that memory and arithmetic allow; None where a roof is not known."""
        if self.operations_per_s is None or self.bytes_per_s is None:
            return None
        return min(self.operations_per_s, work.intensity * self.bytes_per_s)


class Roofline(BaseModel):
    """An engine under its roofs.

    Attributes:
        attainable: operations a second that the roofs allow at the model's intensity.
        share: of the attainable that is achieved; above 1 where tensors stay in caches, of which the memory's roof
            knows nothing, or where neighbours took the memory while the roof was measured.
        bound_by: which roof is the lower one there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    work: Work
    operations_per_s: float
    bytes_per_s: float
    attainable: float | None
    share: float | None
    bound_by: str | None

    @classmethod
    def of(cls, work: Work, roofs: Roofs, seconds: float) -> Roofline:
        """Of a run that takes so long."""
        achieved = work.operations / seconds
        attainable = roofs.attainable(work)
        bound_by = None
        if attainable is not None:
            bound_by = "arithmetic" if attainable == roofs.operations_per_s else "memory"
        return cls(
            work=work,
            operations_per_s=achieved,
            bytes_per_s=work.bytes / seconds,
            attainable=attainable,
            share=None if not attainable else achieved / attainable,
            bound_by=bound_by,
        )


def work_of(onnx: bytes, precision: str) -> Work:
    """What a run of a model computes and moves in a precision.

    Raises:
        ValueError: it is no ONNX model, or its shapes are not static.
    """
    found = read_operators(onnx)
    computing = [operator for operator in found.operators if operator.op not in _QUANTISERS]
    elements = sum(
        operator.weights + found.elements(operator.output) + sum(map(found.elements, operator.inputs))
        for operator in computing
    )
    return Work(operations=2 * sum(operator.macs for operator in computing), bytes=BYTES[precision] * elements)


def measure_roofs(device: Device, options: CompileOptions, seconds: float = 1.0) -> Roofs:
    """Measure both roofs with a runtime, provider, precision and number of threads.

    Args:
        device: where.
        options: as of the engines that are compared with the roofs.
        seconds: to measure each of the five models, in turns.

    Raises:
        AgentLostError: the agent died.
    """
    on = "cpu" if _on_cpu(device, options) else "gpu"
    products = {name: (operations, model) for name, operations, model in _products(_PRODUCT_SIDES[on])}
    plain = replace(options, precision="fp32") if "fp32" in _precisions(device, options) else options
    models = {name: (_typed(model, options), options) for name, (_, model) in products.items()}
    models[_COPY] = (_copy(_COPY_SIDE[on]).SerializeToString(), plain)
    fastest_s, reason = _fastest_s(device, models, seconds)
    speeds = {name: operations / fastest_s[name] for name, (operations, _) in products.items() if name in fastest_s}
    product = max(speeds, key=speeds.__getitem__, default=None)
    moved = 2 * 4 * _COPY_CHANNELS * _COPY_SIDE[on] ** 2
    bytes_per_s = moved / fastest_s[_COPY] if _COPY in fastest_s else None
    return Roofs(
        precision=options.precision,
        operations_per_s=None if product is None else speeds[product],
        product=product,
        bytes_per_s=bytes_per_s,
        copy_mib=moved / 2 / _MIB,
        reason=None if product is not None and bytes_per_s is not None else reason,
    )


def _fastest_s(
    device: Device, models: Mapping[str, tuple[bytes, CompileOptions]], seconds: float
) -> tuple[dict[str, float], str | None]:
    """The 5th percentile of each model's times, what the device can do and not what a neighbour leaves of it.

    Those that the runtime refuses are missing, and the last refusal is told.
    """
    times: dict[str, list[int]] = {}
    reason = None
    with ExitStack() as stack:
        engines = {}
        for name, (onnx, options) in models.items():
            try:
                engines[name] = stack.enter_context(compiled(device, onnx, options))
            except RefusedError as error:
                reason = str(error)
        # In turns, so that a slow spell of a shared machine is not all that one of them sees.
        turn = MeasureOptions(min_samples=32, max_seconds=seconds / _PASSES, gate=False, transfer_runs=1)
        for _ in range(_PASSES):
            for name, engine in engines.items():
                measured = device.measure(engine, turn)
                times.setdefault(name, []).extend(time for batch in measured.samples_ns for time in batch)
    return {name: float(np.quantile(found, 0.05)) / 1e9 for name, found in times.items()}, reason


def _products(sides: tuple[int, ...]) -> Iterator[tuple[str, int, ModelProto]]:
    """Square matrix products and convolutions that are the same products: name, operations, model."""
    for n in sides:
        weight = np.random.default_rng(0).standard_normal((n, n)).astype(np.float32) / math.sqrt(n)
        gemm = helper.make_node("Gemm", ["x", "product.weight", "product.bias"], ["y"], name="product", transB=1)
        yield f"Gemm {n}×{n}×{n}", 2 * n**3, _model(gemm, weight, [n, n], [n, n])
        conv = helper.make_node(
            "Conv", ["x", "product.weight", "product.bias"], ["y"], name="product", kernel_shape=[1, 1], group=1,
            pads=[0, 0, 0, 0], strides=[1, 1], dilations=[1, 1],
        )  # fmt: skip
        shape = [1, n, 16, n // 16]
        yield f"1×1 convolution {n}×{n}, {n} pixels", 2 * n**3, _model(conv, weight[:, :, None, None], shape, shape)


def _copy(side: int) -> ModelProto:
    shape = [1, _COPY_CHANNELS, side, side]
    return _model(helper.make_node("Relu", ["x"], ["y"], name="copy"), None, shape, shape)


def _model(node: NodeProto, weight: npt.NDArray[np.float32] | None, reads: list[int], writes: list[int]) -> ModelProto:
    stored = []
    if weight is not None:
        bias = np.zeros(len(weight), np.float32)
        stored = [numpy_helper.from_array(weight, "product.weight"), numpy_helper.from_array(bias, "product.bias")]
    graph = helper.make_graph(
        [node],
        "roof",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, reads)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, writes)],
        stored,
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model


def _typed(model: ModelProto, options: CompileOptions) -> bytes:
    """The model in the precision, where the runtime takes that from the model."""
    if model_format(options.runtime) == "onnx" and options.precision in get_args(Precision):
        model = graph_in_precision(model, cast("Precision", options.precision))
    content: bytes = model.SerializeToString()
    return content


def _on_cpu(device: Device, options: CompileOptions) -> bool:
    supported = device.target.runtimes.get(options.runtime)
    provider = options.provider or (supported.providers[0] if supported else "")
    return provider.lower().startswith("cpu")


def _precisions(device: Device, options: CompileOptions) -> list[str]:
    supported = device.target.runtimes.get(options.runtime)
    return list(supported.precisions) if supported else []

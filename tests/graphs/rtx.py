"""NVIDIA's own parser and builder, where TensorRT-RTX is installed; neither needs a GPU."""

from __future__ import annotations

from types import ModuleType

import onnx
import pytest


def require_rtx() -> ModuleType:
    """The package, or a skip that says what is missing."""
    module: ModuleType = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13 (hwnas[rtx])")
    return module


def build(model: onnx.ModelProto) -> int:
    """Bytes of the engine for compute capability 8.6 that a strongly typed model gives.

    Raises:
        AssertionError: the parser or the builder refused it; the message is theirs.
    """
    trt = require_rtx()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    accepted = parser.parse(model.SerializeToString())
    assert accepted, [parser.get_error(number).desc() for number in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return int(engine.nbytes)

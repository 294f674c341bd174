"""Regenerate ``hwnas/agent/canary_*``, the fixed networks, by which the agent tells a machine's speed:
as ONNX, and as nodes for devices that have only PyTorch.

Small: a stem and one inverted residual block, which stay in the nearest caches.  Large: a network of 4 million
parameters, which slows down, as large networks do, when neighbours crowd the last cache and the memory bus.
The small one's weights come from integer arithmetic, not from a random generator that a library may change; the large
one's are constants that the runtime spreads out itself, so that the file stays small.  Whoever changes a canary must
change its hash in ``hwnas/agent/canary.py`` too; figures gated by different canaries cannot be judged against one
another.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwnas.graphs import as_node_file

RESOLUTION = 32
STEM, EXPANDED, KERNEL = 24, 96, 5
LARGE_RESOLUTION, LARGE_STEM, LARGE_FINAL, LARGE_FEATURES = 144, 16, 1280, 2560
LARGE_BLOCKS = (
    (64, 24, 2),
    (72, 24, 1),
    (96, 40, 2),
    (160, 40, 1),
    (240, 80, 2),
    (320, 80, 1),
    (480, 112, 1),
    (672, 160, 2),
    (640, 160, 1),
)
"""Expanded channels, output channels and stride of each block."""
CANARIES = Path(__file__).resolve().parent.parent / "hwnas" / "agent"


def weights(name: str, shape: tuple[int, ...], seed: int) -> onnx.TensorProto:
    """Weights in (-1, 1) / sqrt(fan-in) from a multiplicative hash (Knuth) of their index."""
    count = int(np.prod(shape))
    hashed = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 16)) * np.uint64(2654435761)
    unit = (hashed % np.uint64(2**32)).astype(np.float64) / 2**31 - 1.0
    values = (unit / np.sqrt(np.prod(shape[1:]))).astype(np.float32).reshape(shape)
    return numpy_helper.from_array(values, name)


def canary_model() -> onnx.ModelProto:
    """The canary: input [1, 3, 32, 32] float32, output [1, 24, 32, 32]; opset 13, so that old runtimes read it."""
    layers = [
        # name, input, weight shape, stride, groups, activation
        ("stem", "image", (STEM, 3, 3, 3), 1, 1, True),
        ("expand", "stem", (EXPANDED, STEM, 1, 1), 1, 1, True),
        ("depthwise", "expand", (EXPANDED, 1, KERNEL, KERNEL), 1, EXPANDED, True),
        ("project", "depthwise", (STEM, EXPANDED, 1, 1), 1, 1, False),
    ]
    nodes, initializers = [], []
    for seed, (name, source, shape, stride, groups, activated) in enumerate(layers):
        convolved = f"{name}_convolved" if activated else name
        initializers.append(weights(f"{name}_weight", shape, seed))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}_weight"],
                [convolved],
                name=f"{name}_conv",
                kernel_shape=list(shape[2:]),
                pads=[shape[2] // 2] * 4,
                strides=[stride] * 2,
                group=groups,
            )
        )
        if activated:
            nodes.append(helper.make_node("Relu", [convolved], [name], name=f"{name}_relu"))
    nodes.append(helper.make_node("Add", ["stem", "project"], ["features"], name="residual"))
    return finished(
        "canary",
        nodes,
        initializers,
        image=[1, 3, RESOLUTION, RESOLUTION],
        features=[1, STEM, RESOLUTION, RESOLUTION],
    )


def large_canary_model() -> onnx.ModelProto:
    """The large canary: input [1, 3, 144, 144] float32, output [1, 2560, 1, 1]; opset 13."""
    layers = [("stem", "image", (LARGE_STEM, 3, 3, 3), 2, 1)]
    source, width = "stem", LARGE_STEM
    for number, (expanded, out, stride) in enumerate(LARGE_BLOCKS):
        expand, depthwise, project = (f"{part}{number}" for part in ("expand", "depthwise", "project"))
        layers += [
            (expand, source, (expanded, width, 1, 1), 1, 1),
            (depthwise, expand, (expanded, 1, KERNEL, KERNEL), stride, expanded),
            (project, depthwise, (out, expanded, 1, 1), 1, 1),
        ]
        source, width = project, out
    layers.append(("final", source, (LARGE_FINAL, width, 1, 1), 1, 1))
    nodes = [node for layer in layers for node in constant_convolution(*layer)]
    nodes.append(helper.make_node("GlobalAveragePool", ["final"], ["pooled"], name="pool"))
    nodes += constant_convolution("features", "pooled", (LARGE_FEATURES, LARGE_FINAL, 1, 1), 1, 1)
    return finished(
        "canary_large",
        nodes,
        [],
        image=[1, 3, LARGE_RESOLUTION, LARGE_RESOLUTION],
        features=[1, LARGE_FEATURES, 1, 1],
    )


def constant_convolution(
    name: str, source: str, shape: tuple[int, ...], stride: int, groups: int
) -> list[onnx.NodeProto]:
    """A convolution by one positive constant, which keeps the mean of its input, and a rectifier."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0 / float(np.prod(shape[1:]))])
    size = helper.make_tensor("size", TensorProto.INT64, [len(shape)], shape)
    return [
        helper.make_node("Constant", [], [f"{name}_shape"], name=f"{name}_shape", value=size),
        helper.make_node("ConstantOfShape", [f"{name}_shape"], [f"{name}_weight"], name=f"{name}_weight", value=value),
        helper.make_node(
            "Conv",
            [source, f"{name}_weight"],
            [f"{name}_convolved"],
            name=f"{name}_conv",
            kernel_shape=list(shape[2:]),
            pads=[shape[2] // 2] * 4,
            strides=[stride] * 2,
            group=groups,
        ),
        helper.make_node("Relu", [f"{name}_convolved"], [name], name=f"{name}_relu"),
    ]


def finished(
    name: str, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], image: list[int], features: list[int]
) -> onnx.ModelProto:
    """The checked model of some nodes, from ``image`` to ``features``."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, features)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    model.producer_name = "hwnas"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Write the canaries and print their hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=CANARIES)
    directory = parser.parse_args().directory
    for name, model in (("small", canary_model()), ("large", large_canary_model())):
        onnx_bytes = model.SerializeToString(deterministic=True)
        for ending, data in (("onnx", onnx_bytes), ("safetensors", as_node_file(onnx_bytes))):
            output = directory / f"canary_{name}.{ending}"
            output.write_bytes(data)
            print(hashlib.sha256(data).hexdigest(), len(data), "bytes", output)


if __name__ == "__main__":
    main()

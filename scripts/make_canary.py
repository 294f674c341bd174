"""Regenerate ``hwnas/agent/canary.onnx``, the fixed small network by which the agent tells a machine's speed.

A stem and one inverted residual block, so that it slows down for the same reasons as the networks searched.
Its weights come from integer arithmetic, not from a random generator that a library may change.  Whoever changes
it must change ``CANARY_SHA256`` in ``hwnas/agent/canary.py`` too; figures gated by different canaries cannot be
judged against one another.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RESOLUTION = 32
STEM, EXPANDED, KERNEL = 24, 96, 5
CANARY_PATH = Path(__file__).resolve().parent.parent / "hwnas" / "agent" / "canary.onnx"


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
    graph = helper.make_graph(
        nodes,
        "canary",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, RESOLUTION, RESOLUTION])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, STEM, RESOLUTION, RESOLUTION])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    model.producer_name = "hwnas"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Write the canary and print its hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=CANARY_PATH)
    output = parser.parse_args().output
    data = canary_model().SerializeToString(deterministic=True)
    output.write_bytes(data)
    print(hashlib.sha256(data).hexdigest(), len(data), "bytes", output)


if __name__ == "__main__":
    main()

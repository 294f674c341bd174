from __future__ import annotations

from collections.abc import Callable

import pytest
from onnx import ModelProto, helper

from hwnas.graphs import block_graph, first_difference
from hwnas.spaces import BlockSpec

SPEC = BlockSpec("mbconv", 16, 9, 9, 16, 64, 5, 1, True, "h_swish", True)


def node(model: ModelProto, name: str) -> int:
    return next(number for number, node in enumerate(model.graph.node) if node.name.endswith(name))


def attribute(name: str, attribute: str, value: object) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        changed = model.graph.node[node(model, name)]
        kept = [entry for entry in changed.attribute if entry.name != attribute]
        del changed.attribute[:]
        changed.attribute.extend([*kept, helper.make_attribute(attribute, value)])

    return change


def rewire(name: str, slot: int, source: str) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.node[node(model, name)].input[slot] = source

    return change


def swap_operands(model: ModelProto) -> None:
    scale = model.graph.node[node(model, "se.scale")]
    scale.input[0], scale.input[1] = scale.input[1], scale.input[0]


def other_operator(model: ModelProto) -> None:
    model.graph.node[node(model, "expand.activation")].op_type = "Relu"


def dangling_input(model: ModelProto) -> None:
    model.graph.node[-1].input[0] = "written by no node"


def without_last_node(model: ModelProto) -> None:
    del model.graph.node[-1]
    model.graph.node[-1].output[0] = "output"


def other_parameter_shape(model: ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.dims[0], weight.dims[1] = weight.dims[1], weight.dims[0]


def other_opset(model: ModelProto) -> None:
    model.opset_import[0].version = 18


def other_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def dynamic_batch(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"


def output_from_elsewhere(model: ModelProto) -> None:
    skip, project = model.graph.node[-1], model.graph.node[-2]
    skip.output[0], skip.input[1], project.output[0] = "spare", "output", "output"


@pytest.mark.parametrize(
    "change",
    [
        attribute("depthwise.conv", "strides", [2, 2]),
        attribute("depthwise.conv", "group", 1),
        attribute("se.gate", "alpha", 0.2),
        attribute("se.gate", "beta", 0.4),
        rewire("skip", 0, "0.expand.conv"),
        rewire("se.pool", 0, "0.depthwise.conv"),
        swap_operands,
        other_operator,
        without_last_node,
        other_parameter_shape,
        other_opset,
        other_batch,
        dynamic_batch,
        output_from_elsewhere,
        dangling_input,
    ],
)
def test_every_difference_that_matters_is_found_in_both_directions(change: Callable[[ModelProto], None]) -> None:
    original, changed = block_graph(SPEC), block_graph(SPEC)
    change(changed)
    assert first_difference(original, changed) is not None
    assert first_difference(changed, original) is not None


def test_names_values_and_stated_defaults_do_not_matter() -> None:
    original, renamed = block_graph(SPEC, seed=0), block_graph(SPEC, seed=1)
    for changed in renamed.graph.node:
        changed.name += "'"
        if changed.op_type == "HardSigmoid":
            kept = [entry for entry in changed.attribute if entry.name != "beta"]  # 0.5 is its default
            del changed.attribute[:]
            changed.attribute.extend(kept)
        if changed.op_type == "Conv":
            changed.attribute.append(helper.make_attribute("auto_pad", "NOTSET"))
        for names in (changed.input, changed.output):
            names[:] = [name if name in ("input", "output") else f"{name}'" for name in names]
    for tensor in renamed.graph.initializer:
        tensor.name += "'"
    assert first_difference(original, renamed) is None

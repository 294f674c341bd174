"""Networks that branch are trained, extracted, exported and measured as chains are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.node_model import read_node_model
from hwnas.agent.runtimes import RuntimeOptions, model_format, open_runtime
from hwnas.export import PARITY_LIMIT, export_onnx
from hwnas.graphs import as_node_file, block_graph, graph_in_precision, network_graph
from hwnas.spaces import BlockSpec
from hwnas.supernet import ElasticNetwork
from hwnas.supernet.blocks.choice import ElasticChoice
from tests.branching import branching_space

SPACE = branching_space()


@pytest.fixture(scope="module")
def supernet() -> ElasticNetwork:
    torch.manual_seed(0)
    return ElasticNetwork(SPACE)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=25, deadline=None)
def test_an_extracted_subnet_computes_what_the_supernet_does(
    supernet: ElasticNetwork, seed: int, training: bool
) -> None:
    architecture = SPACE.decode(SPACE.sample(np.random.default_rng(seed), 1))[0]
    images = torch.randn(2, 3, architecture.resolution, architecture.resolution)
    with torch.no_grad():
        alone = supernet.train(training).extract(architecture)(images)
        shared = supernet(images, architecture)
    assert len(alone) == len(shared) == 2
    for one, other in zip(alone, shared, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_blocks_of_several_operations_have_a_module_for_each(supernet: ElasticNetwork) -> None:
    left = supernet.blocks["left"]
    assert isinstance(left, ElasticChoice)
    assert sorted(left.modules_of) == ["conv_s1", "max_pool_s1"]


@pytest.mark.parametrize("which", ["largest", "smallest"])
def test_every_output_of_an_export_agrees_with_torch(supernet: ElasticNetwork, which: str, tmp_path: Path) -> None:
    architecture = getattr(SPACE, which)
    network = supernet.eval().extract(architecture)
    images = torch.randn(5, 3, architecture.resolution, architecture.resolution)
    exported = export_onnx(network, architecture.resolution, tmp_path / "x.onnx", metadata={}, images=images, batch=2)
    assert exported.parity is not None and exported.parity < PARITY_LIMIT
    assert [value.name for value in onnx.load(tmp_path / "x.onnx").graph.output] == ["features", "logits"]
    with torch.no_grad():
        for parameter in network[-2].parameters():
            parameter.add_(1.0)
        assert not torch.equal(network(images)[0], supernet(images, architecture)[0])


@pytest.mark.parametrize("runtime_name", ["onnxruntime", "torch"])
@pytest.mark.parametrize("spec", [block for block in SPACE.distinct_blocks if block.op in ("add", "concat")][:4])
def test_a_block_alone_is_run_with_all_its_inputs(runtime_name: str, spec: BlockSpec, tmp_path: Path) -> None:
    runtime = open_runtime(runtime_name)
    content = block_graph(spec).SerializeToString()
    model = as_node_file(content) if model_format(runtime_name) == "nodes" else content
    options = RuntimeOptions(runtime.default_provider, "fp32")
    runtime.compile(model, options, tmp_path / "engine")
    engine = runtime.load((tmp_path / "engine").read_bytes(), options)
    arrays = seeded_inputs(engine.inputs, seed=1)
    assert [tensor.shape for tensor in engine.inputs] == [(1, *shape) for shape in spec.input_shapes]
    engine.upload(arrays)
    assert min(engine.timed_runs(3)) > 0
    expected = np.maximum(sum(arrays), 0) if spec.op == "add" else np.concatenate(arrays, axis=1)
    np.testing.assert_allclose(engine.download()[0], expected, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_inputs_and_outputs_of_another_precision_stay_as_they_are(precision: str) -> None:
    network = SPACE.network(SPACE.largest)
    model = network_graph(network)
    converted = graph_in_precision(model, precision)  # type: ignore[arg-type]
    onnx.checker.check_model(converted, full_check=True)
    assert list(converted.graph.output) == list(model.graph.output)
    assert list(converted.graph.input) == list(model.graph.input)


def test_as_nodes_for_a_device_it_has_the_same_outputs() -> None:
    content = network_graph(SPACE.network(SPACE.largest)).SerializeToString()
    assert list(read_node_model(as_node_file(content)).outputs) == ["features", "logits"]

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from onnx.utils import Extractor
from torch import Tensor, nn

from hwnas import __version__
from hwnas.data import Dataset, load_dataset, to_input
from hwnas.errors import BadFileError
from hwnas.export import PARITY_LIMIT, ExportError, ParityError, export_onnx, model_metadata, parity, read_metadata
from hwnas.export.onnx import _from_torch, _simplified
from hwnas.graphs import block_graph, first_difference, half_precision_graph, network_graph, node_list
from hwnas.spaces import Architecture, Network, get_space
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import ElasticNetwork, PlainNetwork, recalibrate

PRESETS = {
    "mobilenet_v3/small": 3,
    "mobilenet_v3/imagenet-w1.0": 2,
    "mobilenet_v3/imagenet-w1.2": 2,
    "fire/small": 0,
    "fire/small-bypass": 0,
    "nasnet/small": 1,
}


def random_networks() -> list[tuple[str, Network]]:
    """Random architectures of every preset, and the yardstick."""
    networks = [("yardstick", Network.of(mobilenet_v3_small(40, 10)))]
    for preset, count in PRESETS.items():
        space = get_space(preset, 10)
        drawn = space.decode(space.sample(np.random.default_rng(7), count))
        networks += [(f"{preset}-{a.id}", space.network(a)) for a in [space.smallest, space.largest, *drawn]]
    return networks


@pytest.mark.parametrize("network", [pytest.param(network, id=name) for name, network in random_networks()])
def test_torch_exports_the_graph_that_is_emitted_directly_block_by_block(network: Network) -> None:
    exported = _simplified(_from_torch(PlainNetwork(network).eval(), batch=1))
    assert first_difference(exported, network_graph(network)) is None
    if any(sources != (number - 1,) for number, sources in enumerate(network.sources)):
        return  # where networks branch, blocks may have an operator in common
    begin, end = 0, 0
    for spec in network.blocks:
        end += len(spec.nodes)
        part = cut_out(exported, begin, end)
        assert first_difference(part, block_graph(spec)) is None
        begin = end
    assert end == len(exported.graph.node)


def cut_out(model: onnx.ModelProto, begin: int, end: int) -> onnx.ModelProto:
    """The subgraph of nodes ``begin`` to ``end``, with a block's names for its input and output."""
    source, result = model.graph.node[begin].input[0], model.graph.node[end - 1].output[0]
    part = Extractor(model).extract_model([source], [result])
    for node in part.graph.node:
        for names in (node.input, node.output):
            names[:] = [{source: "input", result: "output"}.get(name, name) for name in names]
    part.graph.input[0].name, part.graph.output[0].name = "input", "output"
    return part


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_is_exported_as_it_is_emitted(batch: int) -> None:
    specs = mobilenet_v3_small(32, 10)
    exported = _simplified(_from_torch(PlainNetwork(specs).eval(), batch))
    assert first_difference(exported, network_graph(specs, batch=batch)) is None


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("fashion-mnist")


@pytest.fixture(scope="module")
def architecture() -> Architecture:
    space = get_space("mobilenet_v3/small", 10)
    return space.decode(space.sample(np.random.default_rng(1), 1))[0]


@pytest.fixture(scope="module")
def network(dataset: Dataset, architecture: Architecture) -> PlainNetwork:
    """A subnet of a supernet in its initial state, with norms that are none that folding could ignore."""
    torch.manual_seed(0)
    supernet = ElasticNetwork(get_space("mobilenet_v3/small", 10)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain: PlainNetwork = supernet.extract(architecture)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    pixels = dataset.recalibration.pixels[:64]
    recalibrate(plain, [to_input(pixels, architecture.resolution, dataset.mean, dataset.std)])
    return plain


@pytest.fixture(scope="module")
def images(dataset: Dataset, architecture: Architecture) -> Tensor:
    return to_input(dataset.validation.pixels[:50], architecture.resolution, dataset.mean, dataset.std)


def test_an_exported_model_is_whole_named_static_and_agrees_with_torch(
    network: PlainNetwork, architecture: Architecture, dataset: Dataset, images: Tensor, tmp_path: Path
) -> None:
    side, path = architecture.resolution, tmp_path / "new" / "model.onnx"
    metadata = model_metadata(
        architecture=architecture,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        extra={"trained_on": "nothing"},
    )
    exported = export_onnx(network, side, path, metadata=metadata, images=images)
    assert exported.parity is not None
    assert exported.parity < PARITY_LIMIT
    with torch.no_grad():
        assert network(images).std() > 0.1  # or agreement would say nothing

    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert first_difference(model, network_graph(network.specs)) is None
    assert [node.name for node in model.graph.node] == [node["name"] for node in node_list(network.specs)]
    assert exported.size_bytes == path.stat().st_size
    assert exported.input_shape == (1, 3, side, side)
    assert (exported.opset, exported.ir_version) == (model.opset_import[0].version, model.ir_version)
    assert list(path.parent.iterdir()) == [path]

    found = read_metadata(path)
    assert Architecture.from_json(json.loads(found["hwnas.architecture"])) == architecture
    assert (found["hwnas.space"], found["hwnas.architecture_id"]) == (architecture.space, architecture.id)
    assert tuple(json.loads(found["hwnas.class_names"])) == dataset.class_names
    assert tuple(json.loads(found["hwnas.mean"])) == dataset.mean
    assert tuple(json.loads(found["hwnas.std"])) == dataset.std
    assert (found["hwnas.version"], found["hwnas.trained_on"]) == (__version__, "nothing")


def test_equal_networks_give_equal_bytes_whatever_their_mode_and_memory_format(
    network: PlainNetwork, tmp_path: Path
) -> None:
    side = network.specs[0].in_height
    training = copy.deepcopy(network).to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    state = copy.deepcopy(training.state_dict())
    metadata = {"b": "2", "a": "1"}
    first = export_onnx(network, side, tmp_path / "a.onnx", metadata=metadata)
    second = export_onnx(training, side, tmp_path / "b.onnx", metadata=dict(reversed(metadata.items())))
    assert first.sha256 == second.sha256
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.parity is None
    assert training.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in training.state_dict().items())


def test_another_resolution_is_refused(network: PlainNetwork, tmp_path: Path) -> None:
    side = network.specs[0].in_height
    with pytest.raises(ExportError, match=f"made for {side}×{side} pixels and cannot be exported for 100"):
        export_onnx(network, 100, tmp_path / "model.onnx", metadata={})
    assert not list(tmp_path.iterdir())


def test_a_conversion_that_fails_leaves_no_file_and_one_that_does_not_is_what_is_written(
    network: PlainNetwork, tmp_path: Path
) -> None:
    def refuse(model: onnx.ModelProto) -> onnx.ModelProto:
        raise ExportError("no scale can be found")

    side, path = network.specs[0].in_height, tmp_path / "model.onnx"
    with pytest.raises(ExportError, match="no scale"):
        export_onnx(network, side, path, metadata={}, convert=refuse)
    assert not list(tmp_path.iterdir())
    exported = export_onnx(network, side, path, metadata={"hwnas.precision": "fp16"}, convert=half_precision_graph)
    written = onnx.load(path)
    assert TensorProto.FLOAT16 in {tensor.data_type for tensor in written.graph.initializer}
    assert "hwnas.precision" in {entry.key for entry in written.metadata_props}
    assert exported.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert exported.size_bytes == path.stat().st_size


def test_a_graph_other_than_the_measured_one_is_refused(network: PlainNetwork, tmp_path: Path) -> None:
    changed = copy.deepcopy(network)
    changed[-1].register_forward_hook(lambda module, args, logits: logits * 2)
    with pytest.raises(ExportError, match="exports another graph"):
        export_onnx(changed, network.specs[0].in_height, tmp_path / "model.onnx", metadata={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [2 * PARITY_LIMIT, float("nan")])
def test_a_model_that_disagrees_with_torch_is_refused(
    network: PlainNetwork, images: Tensor, tmp_path: Path, error: float
) -> None:
    def disturb(module: nn.Module, args: object, logits: Tensor) -> Tensor:
        return logits if torch.onnx.is_in_onnx_export() else logits + error

    changed = copy.deepcopy(network)
    changed[-1].register_forward_hook(disturb)
    with pytest.raises(ParityError, match=r"differs from torch by .* on 50 images"):
        export_onnx(changed, network.specs[0].in_height, tmp_path / "model.onnx", metadata={}, images=images)
    assert not list(tmp_path.iterdir())


def test_parity_is_that_of_the_worst_image_and_pads_the_last_batch(
    network: PlainNetwork, images: Tensor, tmp_path: Path
) -> None:
    exported = export_onnx(network, images.shape[-1], tmp_path / "model.onnx", metadata={}, batch=4)
    few = images[:6]
    assert parity(network, exported.path, few) < PARITY_LIMIT
    first = few[0]

    class OneWrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = network(x)
            is_last = (x == few[5]).flatten(1).all(1)
            return logits + is_last[:, None] * 0.5

    assert not torch.equal(first, few[5])
    assert parity(OneWrong().eval(), exported.path, few) == pytest.approx(0.5, abs=PARITY_LIMIT)
    assert parity(OneWrong().eval(), exported.path, few[:5]) < PARITY_LIMIT


def test_parity_without_images_or_with_others_is_refused(network: PlainNetwork, images: Tensor, tmp_path: Path) -> None:
    exported = export_onnx(network, images.shape[-1], tmp_path / "model.onnx", metadata={})
    for wrong in (images[:0], images[:, :, :-1]):
        with pytest.raises(ValueError, match="at least one image of"):
            parity(network, exported.path, wrong)


def test_metadata_of_what_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(BadFileError, match=r"model\.onnx does not exist"):
        read_metadata(path)
    path.write_bytes(b"\x12\x34 is no protocol buffer")
    with pytest.raises(BadFileError, match=r"model\.onnx is not ONNX"):
        read_metadata(path)

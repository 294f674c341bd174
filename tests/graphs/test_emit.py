from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hwnas.agent.runtimes.quiet_ort import ort
from hwnas.graphs import IR_VERSION, OPSET, block_graph, network_graph
from hwnas.spaces import BlockSpec, Network, get_space
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import PlainNetwork
from hwnas.supernet.layers import ConvNorm

PRESETS = [
    "mobilenet_v3/small",
    "mobilenet_v3/imagenet-w1.0",
    "mobilenet_v3/imagenet-w1.2",
    "proxyless/small",
    "resnet/small",
    "fire/small",
    "fire/small-bypass",
    "nasnet/small",
]
EXTREMES = [
    *((preset, extreme) for preset in PRESETS for extreme in ("smallest", "largest")),
    ("resnet/imagenet", "largest"),
    ("fire/imagenet", "largest"),
    ("nasnet/imagenet", "largest"),
]
HEAD = BlockSpec("head", 16, 3, 3, 10, 32, activation="h_swish")
MBCONV = BlockSpec("mbconv", 16, 9, 9, 16, 64, 5, 1, True, "h_swish", True)


def run(model: onnx.ModelProto, images: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[npt.NDArray[np.float32]] = session.run(None, {"input": images})
    return found


def normal(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_kind_of_block_is_valid_onnx_of_the_stated_shapes(preset: str) -> None:
    blocks = get_space(preset).distinct_blocks
    some = np.random.default_rng(0).choice(len(blocks), min(40, len(blocks)), replace=False)
    for spec in [blocks[0], blocks[-1], *(blocks[i] for i in some)]:
        model = block_graph(spec)
        # Infers every shape again and compares it with what the graph states.
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version == IR_VERSION
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]


@pytest.mark.parametrize("spec", [HEAD, MBCONV], ids=lambda spec: spec.key)
def test_a_batch_gives_what_its_images_give_alone(spec: BlockSpec) -> None:
    images = normal(3, spec.in_channels, spec.in_height, spec.in_width)
    together = run(block_graph(spec, batch=3), images)[0]
    alone = np.concatenate([run(block_graph(spec), image[None])[0] for image in images])
    assert together.shape[0] == 3
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_weights_are_a_function_of_the_seed() -> None:
    once, again, other = (block_graph(MBCONV, seed=seed).SerializeToString(deterministic=True) for seed in (3, 3, 4))
    assert once == again
    assert once != other


@pytest.mark.parametrize(("preset", "extreme"), EXTREMES)
def test_random_weights_keep_every_activation_an_ordinary_number(preset: str, extreme: str) -> None:
    space = get_space(preset)
    architecture = getattr(space, extreme)
    model = network_graph(space.network(architecture))
    model.graph.output.extend(list(model.graph.value_info))
    for activation in run(model, normal(1, 3, architecture.resolution, architecture.resolution)):
        assert np.isfinite(activation).all()
        # Far inside fp16's range too, and not so small that products become denormal.
        assert 1e-3 < activation.std() < 1e2
        assert np.abs(activation).max() < 1e3


def test_no_two_parameters_of_a_network_are_equal() -> None:
    parameters = network_graph(mobilenet_v3_small(64, 10)).graph.initializer
    assert len({tensor.raw_data for tensor in parameters}) == len(parameters)


def folded(network: PlainNetwork) -> dict[str, npt.NDArray[np.float32]]:
    """All parameters under the names of the node list, batch norms folded by torch."""
    weights: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm):
            norm = module.norm
            assert norm.running_mean is not None and norm.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                module.conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            weights |= {f"{name}.conv.weight": weight, f"{name}.conv.bias": bias}
        elif isinstance(module, nn.Conv2d | nn.Linear) and f"{name}.weight" not in weights:
            weights |= {f"{name}.{role}": tensor for role, tensor in module.named_parameters()}
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


@pytest.mark.parametrize("preset", [*PRESETS[:2], *PRESETS[3:], "mobilenet_v3_small"])
@torch.no_grad()
def test_with_a_networks_weights_a_graph_computes_what_the_network_does(preset: str) -> None:
    torch.manual_seed(0)
    if preset == "mobilenet_v3_small":
        specs: Network | list[BlockSpec] = mobilenet_v3_small(48, 10)
    else:
        space = get_space(preset)
        specs = space.network(space.decode(space.sample(np.random.default_rng(5), 1))[0])
    network = PlainNetwork(specs)
    images = torch.randn(4, 3, *network.specs[0].input_shapes[0][1:])
    network.train()(images)  # so that the norms' statistics are none that folding could ignore
    network.eval()
    logits = run(network_graph(specs, batch=4, weights=folded(network)), images.numpy())[0]
    expected = network(images).numpy()
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_bad_weights_and_batches_are_refused() -> None:
    specs = mobilenet_v3_small(32, 10)
    weights = folded(PlainNetwork(specs))
    with pytest.raises(ValueError, match=r"12\.body\.conv\.bias \[576\] is missing"):
        network_graph(specs, weights={name: w for name, w in weights.items() if name != "12.body.conv.bias"})
    with pytest.raises(ValueError, match=r"13\.classifier\.weight has shape \[9, 1024\], not \[10, 1024\]"):
        network_graph(specs, weights={**weights, "13.classifier.weight": weights["13.classifier.weight"][:9]})
    with pytest.raises(ValueError, match="at least 1, not 0"):
        block_graph(HEAD, batch=0)

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.spaces import Architecture, Space, get_space
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import (
    ElasticNetwork,
    PlainNetwork,
    load_supernet,
    recalibrate,
    shipped_supernets,
    top1,
)

SMALL = ["mobilenet_v3/small", "proxyless/small", "resnet/small", "fire/small", "fire/small-bypass"]
PRESETS = [*SMALL, "nasnet/small", "mobilenet_v3/imagenet-w1.0", "mobilenet_v3/imagenet-w1.2"]


def randomise(supernet: nn.Module) -> None:
    """Norms and kernel transforms as unlike their initial values as training would make them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=generator)
            elif "norm" in name and tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.5)
            elif "transforms" in name:
                tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)


def random_architectures(space: Space, n: int) -> list[Architecture]:
    return space.decode(space.sample(np.random.default_rng(0), n))


@pytest.fixture(scope="module", params=PRESETS)
def supernet(request: pytest.FixtureRequest) -> ElasticNetwork:
    torch.manual_seed(0)
    network = ElasticNetwork(get_space(request.param, 10))
    randomise(network)
    return network


@pytest.mark.parametrize("training", [False, True])
def test_an_extracted_subnet_computes_what_the_supernet_does(supernet: ElasticNetwork, training: bool) -> None:
    supernet.train(training)
    buffers = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for architecture in random_architectures(supernet.space, 50 if supernet.space.name == "mobilenet_v3/small" else 15):
        images = torch.randn(2, 3, architecture.resolution, architecture.resolution)
        subnet = supernet.extract(architecture)
        assert subnet.training is training
        with torch.no_grad():
            expected = supernet(images, architecture)
            assert (subnet(images) - expected).abs().max() < 1e-5
        supernet.load_state_dict(buffers)


def test_a_subnet_owns_its_weights_and_is_as_large_as_the_space_says(supernet: ElasticNetwork) -> None:
    space = supernet.space
    architectures = random_architectures(space, 5)
    params = space.params(space.encode(architectures))
    shared = {parameter.data_ptr() for parameter in supernet.parameters()}
    for architecture, expected in zip(architectures, params, strict=True):
        subnet = supernet.extract(architecture)
        assert type(subnet) is PlainNetwork
        assert sum(parameter.numel() for parameter in subnet.parameters()) == expected
        assert not shared & {parameter.data_ptr() for parameter in subnet.parameters()}


def test_every_weight_is_reached_by_the_largest_subnet_or_a_kernel_transform(supernet: ElasticNetwork) -> None:
    supernet.train()
    space = supernet.space
    small_kernels = {choice.label: choice.values[0] for choice in space.choices if choice.label.endswith("kernel")}
    choices = tuple((label, small_kernels.get(label, value)) for label, value in space.largest.choices)
    reaching = [space.largest, Architecture(space.name, choices)]
    # Operations stand beside each other; none is a part of another.
    reaching += random_architectures(space, 60) if space.family == "nasnet" else []
    for architecture in reaching:
        supernet(torch.randn(2, 3, architecture.resolution, architecture.resolution), architecture).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in supernet.parameters())
    supernet.zero_grad(set_to_none=True)


@pytest.mark.parametrize("preset", SMALL)
def test_sorting_channels_changes_no_output_and_puts_the_important_first(preset: str) -> None:
    torch.manual_seed(0)
    space = get_space(preset)
    supernet = ElasticNetwork(space).eval()
    randomise(supernet)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = supernet(images, space.largest)
        supernet.sort_channels()
        assert torch.allclose(supernet(images, space.largest), before, atol=1e-5)
    block = supernet.blocks["stage2_block2"]
    last = {"resnet": ["widen.conv"], "fire": ["pointwise", "spatial"]}.get(space.family, ["project"])
    importance = sum(block.get_submodule(name).weight.abs().sum((0, 2, 3)) for name in last)
    assert (importance.diff() <= 0).all()


def test_the_shipped_weights_fit() -> None:
    for directory in shipped_supernets():
        load_supernet(directory)


def test_recalibration_gives_the_statistics_of_the_batches() -> None:
    torch.manual_seed(0)
    network = PlainNetwork(get_space("mobilenet_v3/small").blocks(get_space("mobilenet_v3/small").smallest))
    batches = [torch.randn(8, 3, 24, 24) for _ in range(3)]
    seen: list[torch.Tensor] = []
    first = network[0].body
    first.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    recalibrate(network, batches)
    assert not network.training
    means = torch.stack([output.mean((0, 2, 3)) for output in seen]).mean(0)
    variances = torch.stack([output.var((0, 2, 3)) for output in seen]).mean(0)
    assert torch.allclose(first.norm.running_mean, means, atol=1e-5)
    assert torch.allclose(first.norm.running_var, variances, atol=1e-4)
    assert first.norm.momentum == 0.1


def test_recalibration_weighs_images_not_batches() -> None:
    torch.manual_seed(0)
    network = PlainNetwork(get_space("mobilenet_v3/small").blocks(get_space("mobilenet_v3/small").smallest))
    first = network[0].body
    images = torch.randn(33, 3, 24, 24)
    images[-1] += 5  # which has a batch of its own
    with torch.no_grad():
        means = first.conv(images).mean((0, 2, 3))
    recalibrate(network, torch.split(images, 16))
    assert torch.allclose(first.norm.running_mean, means, atol=1e-5)


def test_top1_counts_right_answers() -> None:
    class Echo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    logits = torch.eye(4)
    assert top1(Echo(), [(logits[:2], torch.tensor([0, 1])), (logits[2:], torch.tensor([2, 0]))]) == 0.75


def test_mobilenet_v3_small_is_the_published_network() -> None:
    network = PlainNetwork(mobilenet_v3_small(224, 1000))
    # Howard et al. 2019, Table 3: 2.5 M parameters, 56 M multiply-accumulates.
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.54e6, rel=0.01)
    assert sum(block.macs for block in network.specs) == pytest.approx(56.5e6, rel=0.02)
    assert network.eval()(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)

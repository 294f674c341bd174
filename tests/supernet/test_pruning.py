"""Networks without some of their channels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hwnas.graphs import network_graph
from hwnas.spaces import BlockSpec, Network, Space, get_space
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.supernet.pruning import (
    MULTIPLE,
    Layout,
    channel_importance,
    narrowed,
    narrower,
    narrowest,
    pruning_path,
)

SPACES = ("mobilenet_v3/small", "proxyless/efficientnet-lite0", "resnet/small")
CLASSES = 5


def network_of(space: Space, seed: int = 0) -> PlainNetwork:
    torch.manual_seed(seed)
    network = ElasticNetwork(space).extract(space.smallest).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(std=0.3)
            module.running_mean.data.normal_(std=0.3)  # type: ignore[union-attr]
    return network


def batch(network: PlainNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    side = network.specs[0].in_height
    return torch.randn(4, 3, side, side), torch.arange(4) % CLASSES


@pytest.fixture(scope="module", params=SPACES)
def network(request: pytest.FixtureRequest) -> PlainNetwork:
    return network_of(get_space(request.param, CLASSES))


def test_the_widths_of_a_network_are_given_once_each(network: PlainNetwork) -> None:
    layout = Layout(network.network)
    fields = [field for group in layout.groups for field in group.fields]
    assert len(fields) == len(set(fields))
    widths = {
        (number, name)
        for number, block in enumerate(network.specs)
        for name in ("in_channels", "mid_channels", "out_channels")
        if getattr(block, name) and (number, name) not in ((0, "in_channels"), (len(network.specs) - 1, "out_channels"))
    }
    assert set(fields) == widths
    assert layout.narrowed([group.width for group in layout.groups]) == network.network
    for group in layout.groups:
        assert {getattr(network.specs[number], name) for number, name in group.fields} == {group.width}


def test_a_path_ends_below_the_narrowest_blocks_of_the_space_and_every_network_on_it_is_one(
    network: PlainNetwork,
) -> None:
    layout = Layout(network.network)
    rng = torch.Generator().manual_seed(1)
    importance = {n: torch.rand(group.width, generator=rng) for group in layout.groups for n in group.sets}
    path = pruning_path(layout, importance, [1.0] * len(layout.groups))
    assert path[0] == tuple(group.width for group in layout.groups)
    macs = []
    for before, after in pairwise(path):
        assert sum(a < b for a, b in zip(after, before, strict=True)) == 1
        assert all(a <= b for a, b in zip(after, before, strict=True))
    for widths in path[:: max(1, len(path) // 8)]:
        found = layout.narrowed(widths)
        network_graph(found)
        blocks = found.blocks
        assert [block.expands for block in blocks] == [block.expands for block in network.specs]
        macs.append(sum(block.macs for block in blocks))
    assert macs == sorted(macs, reverse=True)
    last = path[-1]
    assert all(width % MULTIPLE == 0 for width in last)
    assert all(narrower(layout, last, group, width - 1) is None for group, width in enumerate(last))
    assert all(width % 16 == 0 or width == full for width, full in zip(narrowest(layout, 16), path[0], strict=True))
    assert max(last) <= 2 * MULTIPLE and max(narrowest(layout)) <= 2 * MULTIPLE


def test_nothing_is_pruned_at_the_full_widths(network: PlainNetwork) -> None:
    layout = Layout(network.network)
    images, labels = batch(network)
    importance = channel_importance(network, layout, [cross_entropy(network(images), labels)])
    same = narrowed(network, layout, [group.width for group in layout.groups], importance)
    torch.testing.assert_close(same(images), network(images))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_channels_that_nothing_reads_are_the_least_important_and_go_without_a_trace(network: PlainNetwork) -> None:
    """For each group in turn: its readers ignore some channels, and the network is narrowed by exactly these."""
    layout = Layout(network.network)
    modules = dict(network.named_modules())
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images, labels = batch(network)
    full = tuple(group.width for group in layout.groups)
    rng = np.random.default_rng(0)
    for number in rng.choice(len(layout.groups), 6, replace=False).tolist():
        group = layout.groups[number]
        widths = narrower(layout, full, number, group.width - MULTIPLE // 2)
        if widths is None:
            continue
        for tied in group.sets:
            ignored = torch.from_numpy(rng.choice(group.width, group.width - widths[number], replace=False))
            for path, _, read in layout.layers():
                if read == tied and path in modules:
                    layer = getattr(modules[path], "conv", modules[path])
                    with torch.no_grad():
                        layer.weight[:, ignored] = 0
        expected = network(images).detach()
        importance = channel_importance(network, layout, [cross_entropy(network(images), labels)])
        # The squeeze of an attention becomes narrower with its block; all it has is kept where that is not the matter.
        result = narrowed(network, layout, widths, importance)
        if not any(
            result.specs[block].se_channels < network.specs[block].se_channels for block in range(len(network.specs))
        ):
            torch.testing.assert_close(result(images), expected, rtol=1e-4, atol=1e-4)
        network.load_state_dict(state)


def test_importance_foretells_what_a_channel_is_worth() -> None:
    """The first-order change of the loss, against the loss with the channel closed a little."""
    network = network_of(get_space("mobilenet_v3/small", CLASSES)).double()
    layout = Layout(network.network)
    images, labels = (tensor.double() if tensor.is_floating_point() else tensor for tensor in batch(network))
    importance = channel_importance(network, layout, [cross_entropy(network(images), labels)])
    modules = dict(network.named_modules())
    stream = layout.set_of[3, "out"]
    assert layout.set_of[2, "out"] == stream

    def loss(gate: float, channel: int) -> float:
        layers = [getattr(modules[p], "conv", modules[p]) for p, _, read in layout.layers() if read == stream]
        with torch.no_grad():
            for layer in layers:
                layer.weight[:, channel] *= gate
            found = cross_entropy(network(images), labels).item()
            for layer in layers:
                layer.weight[:, channel] /= gate
        return found

    for channel in range(4):
        slope = (loss(1 + 1e-4, channel) - loss(1 - 1e-4, channel)) / 2e-4
        assert slope**2 == pytest.approx(importance[stream][channel].item(), rel=1e-3, abs=1e-12)


def test_what_saves_most_for_its_importance_goes_first() -> None:
    network = network_of(get_space("mobilenet_v3/small", CLASSES))
    layout = Layout(network.network)
    alike = {n: torch.ones(group.width) for group in layout.groups for n in group.sets}
    last = len(layout.groups) - 1
    savings = [0.001] * last + [1.0]
    second = pruning_path(layout, alike, savings)[1]
    assert second[last] < layout.groups[last].width
    savings[last] = -1.0  # measured to save nothing
    path = pruning_path(layout, alike, savings)
    assert path[-2][last] > path[-1][last] and path[len(path) // 2][last] == layout.groups[last].width


def test_a_block_that_expands_never_loses_its_expansion() -> None:
    first = BlockSpec("conv", 3, 8, 8, 16, kernel=3, stride=2)
    block = BlockSpec("mbconv", 16, 4, 4, 16, 24, 3, skip=True)
    layout = Layout(Network.of([first, block, BlockSpec("head", 16, 4, 4, CLASSES)]))
    stream, mid = 0, 1
    assert [group.width for group in layout.groups] == [16, 24]
    assert narrower(layout, (16, 24), mid, 16) == (16, 8)
    assert narrower(layout, (16, 8), stream, 15) is None

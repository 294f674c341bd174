"""A network as a space in which there is nothing to choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.spaces import get_space, single_space
from hwnas.supernet import ElasticNetwork, PlainNetwork


@pytest.mark.parametrize("name", ["mobilenet_v3/small", "proxyless/small", "resnet/small"])
def test_its_one_architecture_is_the_chain_and_computes_the_same(name: str) -> None:
    whole = get_space(name)
    (architecture,) = whole.decode(whole.sample(np.random.default_rng(1), 1))
    space = single_space(name, whole.network(architecture), whole.norm_eps)
    assert (space.count, space.num_classes) == (1, whole.num_classes)
    assert space.name.startswith(f"{name}@")
    assert space.largest == space.smallest
    assert space.network(space.largest) == whole.network(architecture)
    torch.manual_seed(0)
    network = ElasticNetwork(space).eval()
    plain = network.extract(space.largest)
    assert isinstance(plain, PlainNetwork)
    images = torch.randn(2, 3, architecture.resolution, architecture.resolution)
    torch.testing.assert_close(plain(images), network(images, space.largest))
    elsewhere = ElasticNetwork(whole).eval().extract(architecture)
    assert [p.shape for p in elsewhere.parameters()] == [p.shape for p in plain.parameters()]

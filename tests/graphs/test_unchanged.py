"""Chains are what they were before networks could branch: tables, journals and files of theirs stay valid."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from hwnas.graphs import block_graph, network_graph, node_list
from hwnas.spaces import BlockSpec, get_space

BEFORE = {
    "mobilenet_v3/imagenet-w1.0": "5a14e10efcc85639080e1e2f5cb5c8e1117d04018eefcab0ec0cd161d2099022",
    "mobilenet_v3/imagenet-w1.2": "f7258f98121e2b29cace5e88c4c1c7cbb01a960bd7ad2b61cb5c028ecb9ac3b3",
    "mobilenet_v3/small": "6bac92b1a3670085346dddceee72b39d825500133b88b6336d07a46654925a87",
    "proxyless/imagenet-w1.3": "9b35e573a0ef4214ec025fbc8552998a4e2721e5c3f6caa3b27c6f203ca51fbe",
    "proxyless/efficientnet-lite0": "db97814a4977a473dbf69a433cdd7e24ef867008a54f0ce45431ccc02a96f1e4",
    "proxyless/small": "76a2403d4f1499e7bf84f07c946b8f2b46ee68abd74aa8f64e2c97a9886639a4",
    "resnet/imagenet": "b290e29838cb5880cf3d5ea820576174135878aa0f532536af23319f1b3a0d23",
    "resnet/small": "5a97d0c6d10e642fd23c23d92f99ff8e015a9a7f39c9991548c87af476421ce9",
}


def fields(block: BlockSpec) -> dict[str, Any]:
    """What a block had then."""
    return {name: value for name, value in block.to_json().items() if name != "spatial_channels"}


def content(model: ModelProto) -> bytes:
    """A model's bytes but for the version of hwnas in them."""
    model.producer_version = ""
    return model.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", BEFORE)
def test_ids_blocks_nodes_and_files_of_chains_are_what_they_were(name: str) -> None:
    assert digest(name) == BEFORE[name]


def digest(name: str) -> str:
    """Of everything that names or describes the largest, the smallest and a random network of a space."""
    space, seen = get_space(name), hashlib.sha256()
    drawn = np.concatenate([space.largest_genome, space.smallest_genome, space.sample(np.random.default_rng(0), 1)])
    for architecture in space.decode(drawn):
        blocks = space.blocks(architecture)
        told = [architecture.id, [[block.key, fields(block), block.peak_activations] for block in blocks]]
        seen.update(json.dumps([told, node_list(blocks)]).encode())
        for model in (network_graph(blocks), *map(block_graph, dict.fromkeys(blocks[:8]))):
            seen.update(content(model))
    seen.update(space.peak_activations(drawn).tobytes())
    return seen.hexdigest()

"""Spaces of each kind are trained by each recipe; what they give is exported and executed as it computes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.agent.runtimes import RuntimeOptions, open_runtime
from hwnas.errors import UserError
from hwnas.export import PARITY_LIMIT, export_onnx
from hwnas.graphs.node_file import as_node_file
from hwnas.spaces import Space, fire, nasnet, resnet
from hwnas.supernet import ElasticNetwork
from hwnas.training import Trainer
from hwnas.training.drop_connect import DropConnect

sys.path.insert(0, str(Path(__file__).parent))
import toy

FIRE = fire.Preset(
    stem_width=16,
    stages=(fire.Stage(32, pool=False, depths=(1, 2)), fire.Stage(64, pool=True, depths=(1, 2))),
    resolutions=(16, 24),
    num_classes=len(toy.CLASSES),
    bypass=True,
)
# A stem wider than a cell gives, so that the first reduction cell reads one or the other.
NASNET = nasnet.Preset(
    stem_widths=(24,),
    widths=(8, 16),
    depths=(1, 2),
    nodes=2,
    kernels=(3, 5),
    resolutions=(16, 24),
    num_classes=len(toy.CLASSES),
)
RESNET = resnet.Preset(
    stem_width=16,
    pool=False,
    stages=(resnet.Stage(32, 2, depths=(1, 2)), resnet.Stage(64, 2, depths=(1, 2))),
    resolutions=(16, 24),
    stem_widths=(50, 100),
    widths=(50, 100),
    expansions=(25, 50),
    num_classes=len(toy.CLASSES),
)
RECIPES: dict[str, dict[str, Any]] = {
    "sandwich": {"epochs": 6},
    "single-stage": {"recipe": "single-stage", "full_epochs": 0, "epochs": 8, "divergence": "alpha"},
    "progressive": {"recipe": "progressive", "full_epochs": 3, "epochs": 20, "learning_rate": 0.5, "distillation": 0.5},
}


def thin_space(family: str) -> Space:
    classes = len(toy.CLASSES)
    if family == "fire":
        return Space(family, "thin", classes, fire.choices(FIRE), fire.slots(FIRE, classes))
    if family == "resnet":
        return Space(family, "thin", classes, resnet.choices(RESNET), resnet.slots(RESNET, classes))
    return Space(family, "thin", classes, nasnet.choices(NASNET), nasnet.slots(NASNET, classes))


@pytest.mark.parametrize(
    ("family", "drop_connect", "least", "name"),
    [
        *(("fire", 0.1, 0.9, name) for name in RECIPES),
        *(("resnet", 0.1, 0.9, name) for name in RECIPES),
        # The progressive one, with a rate made for fires, brings the largest of these cells to 0.87 alone.
        *(("nasnet", 0.0, 0.5, name) for name in ("sandwich", "single-stage")),
    ],
)
def test_every_recipe_learns(tmp_path: Path, family: str, drop_connect: float, least: float, name: str) -> None:
    """``least``: of the smallest, which in a cell space has no spatial filter but the stem's."""
    config = toy.config(**RECIPES[name], drop_connect=drop_connect)
    trainer = Trainer(tmp_path, thin_space(family), toy.dataset(), config)
    record = trainer.run()
    assert record.metrics["validation_top1_largest"] > 0.9
    assert record.metrics["validation_top1_smallest"] > least


def made(family: str) -> ElasticNetwork:
    torch.manual_seed(0)
    network = ElasticNetwork(thin_space(family))
    for norm in (module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    torch.nn.init.normal_(network.blocks["head"].classifier.weight, std=0.1)
    return network.eval()


@pytest.mark.parametrize("family", ["fire", "nasnet"])
def test_a_subnet_is_exported_and_executed_as_it_computes(family: str, tmp_path: Path) -> None:
    supernet = made(family)
    space = supernet.space
    runtime, options = open_runtime("torch"), RuntimeOptions("cpu")
    for architecture in [space.largest, *space.decode(space.sample(np.random.default_rng(0), 2))]:
        images = torch.randn(4, 3, architecture.resolution, architecture.resolution)
        subnet, path = supernet.extract(architecture), tmp_path / "model.onnx"
        exported = export_onnx(subnet, architecture.resolution, path, metadata={}, images=images)
        assert exported.parity is not None and exported.parity < PARITY_LIMIT
        runtime.compile(as_node_file(path.read_bytes()), options, tmp_path / "engine")
        engine = runtime.load((tmp_path / "engine").read_bytes(), options)
        engine.upload([images[:1].numpy()])
        engine.run()
        with torch.no_grad():
            expected = subnet(images[:1]).numpy()
        assert expected.std() > 0.1, "or agreement would say nothing"
        np.testing.assert_allclose(engine.download()[0], expected, atol=1e-4)


@pytest.fixture(scope="module")
def supernet() -> ElasticNetwork:
    return made("fire")


@torch.no_grad()
def test_a_channel_keeps_its_place_whichever_filter_gives_it(supernet: ElasticNetwork) -> None:
    space, block = supernet.space, supernet.blocks["stage2_block2"]
    few, many = (
        space.blocks(space.architecture(stage2_block2_spatial=share, stage2_block2_squeeze=8))[-2] for share in (4, 8)
    )
    x = torch.randn(2, few.in_channels, 4, 4).relu()
    changed = (block(x, few) != block(x, many)).any((0, 2, 3))
    unlike = torch.zeros_like(changed)
    unlike[few.out_channels - many.spatial_channels : few.out_channels - few.spatial_channels] = True
    assert torch.equal(changed, unlike)


@pytest.mark.parametrize("family", ["fire", "resnet"])
def test_drop_connect_leaves_residuals_of_each_family_out_for_some_images(family: str) -> None:
    supernet = made(family)
    space = supernet.space
    images = torch.randn(1, 3, 24, 24).expand(32, -1, -1, -1)
    with torch.no_grad(), DropConnect(supernet, 0.5)((0, 1), 32, slice(0, 32)):
        assert len(supernet(images, space.largest).unique(dim=0)) > 2


def test_drop_connect_says_that_cells_have_no_residual() -> None:
    with pytest.raises(UserError, match="has no residual to leave out"):
        DropConnect(made("nasnet"), 0.1)

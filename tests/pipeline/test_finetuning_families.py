"""Pruning of a fire's and of a cell's network, from a supernet to what is delivered; a device as in test_finetuning."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hwnas.files import sha256_of
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuning import FineTuning
from hwnas.pipeline.finetuning_options import Pruning, training_plan
from hwnas.pipeline.networks import export_network
from hwnas.pipeline.pruning import Limit
from hwnas.spaces import get_space
from hwnas.supernet import load_network
from hwnas.training import Trainer
from tests.latency.fake_device import FakeDevice

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy


@pytest.mark.parametrize("name", ["fire/small-bypass", "nasnet/small"])
def test_a_network_is_pruned_to_its_limit_and_serves_every_further_step(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    space, data = get_space(name, len(toy.CLASSES)), toy.dataset()
    supernet, out = tmp_path / "supernet", tmp_path / "narrow"
    Trainer(supernet, space, data, toy.config(epochs=1)).run()
    plan = training_plan(supernet, space.task, 1, {"learning_rate": 0.05})
    pruning = Pruning.of(Limit.parse("10%"), 1, plan.config, None)
    chosen = Chosen(space, space.smallest, supernet, data)
    result = FineTuning(out, chosen, plan, FakeDevice(), pruning, tables=tmp_path).execute()  # type: ignore[arg-type]
    before, tuned, after = (result.of(made) for made in ("extracted", "fine-tuned", "pruned"))
    assert result.limit_ms == pytest.approx(0.9 * before.latency.figure_ms, rel=0.02)
    assert result.kept and after.latency.figure_ms <= result.limit_ms
    assert after.macs < tuned.macs and after.params < tuned.params
    network, record = load_network(out)
    assert record.architecture is None and record.network != space.network(space.smallest)
    model = export_network(network, record, data, tmp_path / "again.onnx")
    assert model.parity is not None and model.parity < 1e-4
    assert sha256_of(tmp_path / "again.onnx") == sha256_of(out / "model.onnx")

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwnas.training.state import STATE_FILE

sys.path.insert(0, str(Path(__file__).parent))
import toy
import toy_detector

from tests.rectangles import make_set

# Rounding, which differs with the order of sums, grows with the rate: at 0.02 to 0.01 in 20 steps.
SETTINGS = {"epochs": 10, "batch_size": 32, "full_epochs": 2, "learning_rate": 0.001, "checkpoint_steps": 1000}
SETTINGS |= {
    "drop_connect": 0.1,
    "augmentation": {"crop": "padded", "randaugment": 1, "mixup": 0.5, "erasing": 0.5},
}
STEPS = 20


def together(directory: Path, last_step: int) -> None:
    toy.in_two_processes(str(directory), json.dumps(SETTINGS), str(last_step))


def weights(directory: Path) -> dict[str, torch.Tensor]:
    """Parameters and their moving averages."""
    tensors = load_file(directory / STATE_FILE)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("average.")} | {
        name: tensor
        for name, tensor in tensors.items()
        if name.startswith("model.") and f"average.{name.removeprefix('model.')}" in tensors
    }


def test_two_processes_give_what_one_gives_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    toy.thin(tmp_path / "one", **SETTINGS).run_until(STEPS)
    together(tmp_path / "two", STEPS)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert set(one) == set(two)
    assert max((two[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-5
    together(tmp_path / "stopped", STEPS // 2)
    together(tmp_path / "stopped", STEPS)
    stopped = weights(tmp_path / "stopped")
    assert all(torch.equal(stopped[name], tensor) for name, tensor in two.items())


def test_two_processes_train_the_detector_that_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though one's pictures have more anchors that answer for a box than the other's."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    pictures = make_set(tmp_path / "set", train=16)
    toy_detector.trainer(tmp_path / "one", pictures).run_until(toy_detector.STEPS)
    toy.in_two_processes(str(tmp_path / "two"), str(pictures), program=toy_detector.__file__)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((two[name] - tensor).abs().max().item() for name, tensor in one.items()) < 1e-5

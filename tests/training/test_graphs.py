"""Replayed steps.  A GPU records them as CUDA graphs; here what is recorded is a work that is done again, which reads
and writes the same places, and on a GPU the graphs themselves are held to the steps that they replay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hwnas.spaces import single_space
from hwnas.training.graphs import Recordings, Work
from hwnas.training.layout import layout_for
from hwnas.training.state import STATE_FILE

sys.path.insert(0, str(Path(__file__).parent))
import toy

GENTLE: dict[str, object] = {"learning_rate": 0.01}
"""Else so small a training magnifies what is rounded otherwise from step to step."""
RECIPES: dict[str, dict[str, object]] = {
    "sandwich": {},
    "pool": {"subnet_pool": 4, "pool_steps": 5},
    "alpha": {"divergence": "alpha", "distillation": 0.7, "random_subnets": 1, "subnet_pool": 2},
    "progressive": {"recipe": "progressive", "subnet_pool": 3, "pool_steps": 4},
    "single-stage": {"recipe": "single-stage", "full_epochs": 0, "drop_connect": 0.2, "layer_decay": 0.8},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.0001},
    "mixed": {"augmentation": {"crop": "padded", "cutmix": 0.7}},
}


class Again:
    """Counts what is recorded and how often it is replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, work: Work) -> Work:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def weights(directory: Path, **changes: object) -> dict[str, torch.Tensor]:
    run = toy.thin(directory, **changes)  # type: ignore[arg-type]
    run.run()
    return run.model.state_dict() | {f"average.{name}": tensor for name, tensor in run.state.average.items()}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_replayed_steps_give_the_weights_of_eager_ones(tmp_path: Path, recipe: str) -> None:
    changes, again = GENTLE | RECIPES[recipe], Again()
    eager = weights(tmp_path / "eager", **changes)
    replayed = weights(tmp_path / "replayed", record=again, **changes)
    assert eager.keys() == replayed.keys()
    for name, tensor in eager.items():
        torch.testing.assert_close(
            replayed[name], tensor, rtol=1e-3, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert again.recorded >= 2
    assert again.replayed > 18


def test_a_replayed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    changes = {"subnet_pool": 4, "pool_steps": 5}
    whole = weights(tmp_path / "whole", record=Again(), **changes)
    for step in (4, 11):
        toy.thin(tmp_path / "broken", record=Again(), **changes).run_until(step)
    broken = weights(tmp_path / "broken", record=Again(), **changes)
    assert all(torch.equal(broken[name], tensor) for name, tensor in whole.items())
    assert (tmp_path / "broken" / STATE_FILE).exists()


def test_a_work_is_done_then_recorded_then_replayed_and_the_oldest_forgotten() -> None:
    done: list[str] = []
    recordings = Recordings(lambda work: (done.append("recorded"), work)[1], kept=2)
    for name in ("a", "a", "a", "b", "b", "a", "c", "c", "b", "b"):
        recordings.run(name, lambda name=name: done.append(name))  # type: ignore[misc]
    assert done == ["a", "recorded", "a", "a", "b", "recorded", "b", "a", "c", "recorded", "c", "b", "recorded", "b"]


def test_batches_made_ahead_by_others_are_the_same(tmp_path: Path) -> None:
    changes: dict[str, object] = {"augmentation": {"crop": "padded", "cutmix": 0.7}}
    own = weights(tmp_path / "own", **changes)
    theirs = weights(tmp_path / "theirs", workers=2, **changes)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in own.items())


def test_only_supernets_on_a_gpu_lie_contiguous() -> None:
    several = toy.thin_space()
    one = single_space(several.name, several.network(several.largest))
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    layouts = [layout_for(space, device) for device in (gpu, cpu) for space in (several, one)]
    assert layouts == [torch.contiguous_format, *[torch.channels_last] * 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")
@pytest.mark.parametrize("recipe", ["sandwich", "pool", "alpha", "single-stage", "adamw"])
def test_cuda_graphs_give_the_weights_of_eager_steps(tmp_path: Path, recipe: str) -> None:
    changes = GENTLE | RECIPES[recipe]
    graphs = weights(tmp_path / "graphs", workers=1, **changes)
    eager = weights(tmp_path / "eager", workers=1, record=lambda work: work, **changes)
    for name, tensor in eager.items():
        torch.testing.assert_close(graphs[name], tensor, rtol=0.02, atol=0.02, msg=lambda text, n=name: f"{n}: {text}")

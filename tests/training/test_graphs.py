"""Replayed steps.  A GPU records them as CUDA graphs; here what is recorded is a work that is done again, which reads
and writes the same places, and on a GPU the graphs themselves are held to the steps that they replay."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from hwnas.spaces import single_space
from hwnas.training import Trainer, batches
from hwnas.training.batches import MOST_WORKERS, RESIDENT_SHARE, default_workers, resident
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
    "adamw": {"optimizer": "adamw", "learning_rate": 0.0005},
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


def tensors(run: Trainer) -> dict[str, torch.Tensor]:
    averages = {f"average.{name}": tensor for name, tensor in run.state.average.items()}
    return {name: tensor.detach().clone() for name, tensor in (run.model.state_dict() | averages).items()}


def weights(directory: Path, **changes: object) -> dict[str, torch.Tensor]:
    run = toy.thin(directory, **changes)  # type: ignore[arg-type]
    run.run()
    return tensors(run)


def differ(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """L2 distance of the weights and their average."""
    assert left.keys() == right.keys()
    named = [name for name in left if "running" not in name and "batches" not in name]
    return float(sum(((left[name] - right[name]) ** 2).sum() for name in named) ** 0.5)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_replayed_steps_give_the_weights_of_eager_ones(tmp_path: Path, recipe: str) -> None:
    changes, again = GENTLE | RECIPES[recipe], Again()
    start = tensors(toy.thin(tmp_path / "start", **changes))  # type: ignore[arg-type]
    eager = weights(tmp_path / "eager", **changes)
    replayed = weights(tmp_path / "replayed", record=again, **changes)
    assert differ(replayed, eager) < 0.01 * differ(eager, start)
    assert again.recorded >= 2
    assert again.replayed > 18


@pytest.mark.parametrize("recipe", ["sandwich", "progressive", "adamw"])
def test_a_run_goes_on_in_the_other_way(tmp_path: Path, recipe: str) -> None:
    changes = GENTLE | RECIPES[recipe]
    whole = weights(tmp_path / "whole", **changes)
    start = tensors(toy.thin(tmp_path / "start", **changes))  # type: ignore[arg-type]
    for step, record in ((2, None), (5, Again()), (9, None)):  # the first in the phase of the largest alone
        toy.thin(tmp_path / "mixed", record=record, **changes).run_until(step)  # type: ignore[arg-type]
    mixed = weights(tmp_path / "mixed", record=Again(), **changes)
    assert differ(mixed, whole) < 0.01 * differ(whole, start)


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


def test_workers_fit_the_cores_and_the_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cores = torch.device("cuda"), len(os.sched_getaffinity(0))
    monkeypatch.setattr(batches, "SHARED_MEMORY", tmp_path)
    assert default_workers(gpu, 1, 1000) == min(MOST_WORKERS, cores - 1)
    assert default_workers(gpu, cores * 4, 1000) == 0
    assert default_workers(gpu, 1, 10**15) == 0
    assert default_workers(torch.device("cpu"), 1, 1000) == default_workers(torch.device("mps"), 1, 1000) == 0
    monkeypatch.setattr(batches, "SHARED_MEMORY", tmp_path / "none")
    assert default_workers(gpu, 1, 1000) == 0


class Elsewhere:
    """Images that say where they are moved to, for here is no GPU to move any to."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.at: list[torch.device] = []

    def to(self, device: torch.device) -> Elsewhere:
        self.at.append(device)
        return self


def test_images_lie_on_the_gpu_where_they_are_small_beside_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 10**9))
    small, large = (Elsewhere(round(RESIDENT_SHARE * 1000) + more) for more in (-1, 0))
    for images in (small, large):
        assert resident(images, gpu) is resident(images, cpu) is images  # type: ignore[arg-type,comparison-overlap]
    assert (small.at, large.at) == ([gpu], [])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need an NVIDIA GPU")
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_cuda_graphs_give_the_weights_of_eager_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    changes = GENTLE | RECIPES[recipe]
    start = tensors(toy.thin(tmp_path / "start", **changes))  # type: ignore[arg-type]
    graphs = weights(tmp_path / "graphs", workers=1, **changes)
    monkeypatch.setattr(Trainer, "_can_replay", lambda _: False)
    eager = weights(tmp_path / "eager", workers=1, **changes)
    assert differ(graphs, eager) < 0.1 * differ(eager, start)

"""Which learning rate a subnet is trained further at: by short trainings, judged by the validation images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import DivergedError
from hwnas.files import sha256_of
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuned import FineTuningResult, TriedRate
from hwnas.pipeline.finetuning import FineTuning
from hwnas.pipeline.finetuning_options import Pruning, TrainingPlan, training_plan
from hwnas.pipeline.finetuning_rates import FACTORS, LEAST_STEPS, SHARE, best_rate, short
from hwnas.pipeline.pruning import Limit
from hwnas.progress import Silent
from hwnas.supernet import load_network, load_record
from tests.latency.fake_device import FakeDevice
from tests.pipeline.stopping import killed_at

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy

SPACE = toy.thin_space()
IDLE, GOOD, DIVERGING = 1e-9, 0.05, 1e30


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has hardly learned anything, and whose gradients nothing holds."""
    directory = tmp_path_factory.mktemp("supernet")
    torch.set_num_threads(1)
    toy.thin(directory, epochs=1, gradient_clip=1e30).run()
    return directory


def fine_tuning(
    directory: Path, supernet: Path, rates: tuple[float, ...], progress: Silent | None = None, prune: str | None = None
) -> FineTuning:
    config = training_plan(supernet, SPACE.task, 4, {"teacher": None}).config  # a thin space has no name to open it by
    pruning = None if prune is None else Pruning.of(Limit.parse(prune), 1, config, 0.5)
    chosen, plan = Chosen(SPACE, SPACE.largest, supernet, toy.dataset()), TrainingPlan(config=config, rates=rates)
    return FineTuning(directory, chosen, plan, FakeDevice(), pruning, tables=directory, progress=progress)  # type: ignore[arg-type]


def tune_toy(directory: Path, supernet: Path, progress: Silent | None = None, prune: str | None = None) -> None:
    torch.set_num_threads(1)
    fine_tuning(directory, supernet, (IDLE, GOOD, DIVERGING), progress, prune).execute()


@pytest.fixture(scope="module")
def swept(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FineTuningResult]:
    directory = tmp_path_factory.mktemp("swept")
    tune_toy(directory, supernet, prune="5%")
    return directory, FineTuningResult.model_validate_json((directory / "result.json").read_bytes())


def test_the_rate_is_the_one_that_the_validation_images_say(swept: tuple[Path, FineTuningResult]) -> None:
    directory, result = swept
    idle, good, diverged = result.rates
    assert idle.score_validation is not None and good.score_validation is not None
    assert good.score_validation > idle.score_validation == result.of("extracted").score_validation
    assert result.learning_rate == GOOD
    for network in ("fine-tuned", next(directory.glob("pruned-*")).name + "/1-trained"):
        training = load_network(directory / network)[1].training
        assert training is not None and training["config"]["learning_rate"] == GOOD
    assert diverged.score_validation is None and diverged.diverged is not None
    assert "Training diverged at step" in diverged.diverged
    told = " ".join(result.remarks())
    assert "Learning rate 0.05, the best of those tried" in told
    assert f"1e-09: {100 * idle.score_validation:.2f} %" in told and "1e+30: diverged." in told


class Counting(Silent):
    """Of trainings, those that were begun."""

    begun = 0

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        self.begun += description == "training"


def test_no_rate_is_tried_twice(swept: tuple[Path, FineTuningResult], supernet: Path, tmp_path: Path) -> None:
    """Killed in the second short training: the first is not done again, the second goes on, the bits are the same."""
    killed_at(("training", 2, 5), tune_toy, tmp_path, supernet)
    counting = Counting()
    tune_toy(tmp_path, supernet, counting)
    assert counting.begun == 3  # the second and the third rate, and the whole
    weights = Path("fine-tuned", "network.safetensors")
    assert sha256_of(tmp_path / weights) == sha256_of(swept[0] / weights)
    tune_toy(tmp_path, supernet, counting)
    assert counting.begun == 3


def test_where_each_rate_diverges_none_is_taken(supernet: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"at each learning rate that was tried \(1e\+29, 1e\+30\); set a lower one"
    ):
        fine_tuning(tmp_path, supernet, (1e29, 1e30)).execute()
    assert not (tmp_path / "fine-tuned").exists()


def test_a_rate_that_is_set_is_taken_as_it_is(supernet: Path) -> None:
    own = load_record(supernet).training["config"]["learning_rate"]
    assert training_plan(supernet, SPACE.task, 1, {}).rates == tuple(factor * own for factor in FACTORS)
    plan = training_plan(supernet, SPACE.task, 1, {"learning_rate": 0.3})
    assert (plan.rates, plan.config.learning_rate) == ((), 0.3)


@given(epochs=st.floats(0.01, 50), warmup=st.floats(0, 1), batch=st.integers(1, 128), images=st.integers(128, 60_000))
def test_a_short_training_is_the_whole_in_little(epochs: float, warmup: float, batch: int, images: int) -> None:
    whole = toy.config(epochs=epochs, full_epochs=epochs, warmup_epochs=warmup * epochs, batch_size=batch)
    little = short(whole, 0.7, images)
    assert little.learning_rate == 0.7
    assert SHARE * epochs <= little.epochs <= epochs and little.full_epochs == little.epochs
    assert little.epochs == epochs or little.epochs * (images // batch) >= LEAST_STEPS - 1e-6
    assert little.warmup_epochs == pytest.approx(warmup * little.epochs)
    same = {"learning_rate", "epochs", "full_epochs", "warmup_epochs"}
    assert little.model_dump(exclude=same) == whole.model_dump(exclude=same)


def tried(rate: float, score: float | None) -> TriedRate:
    return TriedRate(learning_rate=rate, epochs=1, score_validation=score, diverged=None if score else "in words")


def test_of_equally_good_rates_the_lowest_is_taken() -> None:
    assert best_rate([tried(0.1, 0.5), tried(0.2, 0.7), tried(0.3, 0.7), tried(0.4, None)]) == 0.2


def test_results_and_networks_of_old_are_read(swept: tuple[Path, FineTuningResult], tmp_path: Path) -> None:
    directory, result = swept
    old = json.loads((directory / "result.json").read_text())
    for name in ("metric", "learning_rate", "rates"):
        del old[name]
    for network in old["networks"]:
        for split in ("validation", "test"):
            network[f"top1_{split}"] = network.pop(f"score_{split}")
    read = FineTuningResult.model_validate_json(json.dumps(old))
    assert (read.metric, read.networks, read.rates) == ("top-1", result.networks, ())
    assert "earning rate" not in " ".join(read.remarks())
    record = json.loads((directory / "network.json").read_text())
    record["top1_validation"] = record.pop("score_validation")
    del record["task"], record["sharing"]
    (tmp_path / "network.json").write_text(json.dumps(record))
    (tmp_path / "network.safetensors").write_bytes((directory / "network.safetensors").read_bytes())
    assert load_network(tmp_path)[1] == load_network(directory)[1]

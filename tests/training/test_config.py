from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.errors import DivergedError, UserError
from hwnas.training import TrainingConfig
from hwnas.training.alone import alone
from hwnas.training.config import MOST, MOST_DECAY

sys.path.insert(0, str(Path(__file__).parent))
import toy


def train(directory: Path, *arguments: str, settings: dict[str, Any] | None = None) -> tuple[int, str]:
    """`hwnas train` on data that are not there, so that it ends once its settings are accepted."""
    given = ["train", "--out", str(directory / "run"), "--data", str(directory / "none"), *arguments]
    if settings is not None:
        (directory / "settings.json").write_text(json.dumps(settings))
        given += ["--config", str(directory / "settings.json")]
    done = CliRunner().invoke(app, given)
    assert not (directory / "run").exists()
    return done.exit_code, " ".join(done.output.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--learning-rate", "1e39"], "field 'learning_rate': input should be less than or equal to 1000"),
        (["--epochs", "nan"], "field 'epochs': input should be a finite number"),
        (["--epochs", "inf"], "field 'epochs': input should be a finite number"),
        (["--epochs", "1e308"], "field 'epochs': input should be less than or equal to 1000000"),
        (["--seed", str(2**64)], "field 'seed': input should be less than 9223372036854775808"),
    ],
)
def test_numbers_that_nothing_computes_with_are_refused_in_a_sentence(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    code, told = train(tmp_path, *arguments)
    assert code == 2
    assert f"training settings: {complaint}" in told


@pytest.mark.parametrize("name", ["weight_decay", "warmup_epochs", "alpha_min", "alpha_max", "alpha_clip"])
@pytest.mark.parametrize("value", [float("inf"), 1e39])
def test_so_are_they_in_a_file(tmp_path: Path, name: str, value: float) -> None:
    code, told = train(tmp_path, settings={name: -value if name == "alpha_min" else value})
    assert code == 2
    assert f"settings.json: field '{name}'" in told


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_with_the_greatest_that_are_taken_a_step_can_be_computed(tmp_path: Path, optimizer: str) -> None:
    greatest = {"learning_rate": MOST, "gradient_clip": MOST, "weight_decay": MOST_DECAY, "alpha_clip": MOST}
    greatest |= {"divergence": "alpha", "alpha_min": -100, "alpha_max": 100, "seed": 2**63 - 1, "warmup_epochs": 0}
    run = toy.thin(tmp_path, optimizer=optimizer, **greatest)
    with pytest.raises(DivergedError, match=r"lower the learning rate \(1e\+30\)"):
        run.run()


def test_the_default_length_of_the_full_phase_leaves_most_of_a_short_training_to_subnets() -> None:
    lengths = {epochs: TrainingConfig(epochs=epochs).full_epochs for epochs in (0.05, 1, 2, 5, 10, 30, 300)}
    assert lengths == {0.05: pytest.approx(0.01), 1: 0.2, 2: 0.4, 5: 1, 10: 2, 30: 2, 300: 2}


def test_a_supernet_that_would_train_its_largest_subnet_alone_is_refused(tmp_path: Path) -> None:
    code, told = train(tmp_path, "--epochs", "2", settings={"full_epochs": 2})
    assert code == 2
    assert "All 2 epochs would train the largest subnet alone (full_epochs 2)" in told
    code, told = train(tmp_path, "--epochs", "1")
    assert "neither a data set nor a path" in told, "the default fits"
    with pytest.raises(UserError, match="no other would learn"):
        TrainingConfig.model_validate(alone({}, epochs=3)).require_subnets()


def test_a_supernet_of_few_steps_trains_subnets_in_one_of_them_at_least(tmp_path: Path) -> None:
    rounded = toy.thin(tmp_path / "rounded", epochs=0.5, full_epochs=0.49)  # of three steps
    assert [phase.name for phase in rounded.phases] == ["full", "sandwich"]
    whole = toy.thin(tmp_path / "whole", epochs=0.5, full_epochs=0.5)
    assert [phase.name for phase in whole.phases] == ["full"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"optimizer": "adamw", "momentum": 0.5}, ["momentum"]),
        ({"alpha_min": -2, "alpha_max": 2, "alpha_clip": 3}, ["alpha_min", "alpha_max", "alpha_clip"]),
        ({"pool_steps": 16}, ["pool_steps"]),
        ({"teacher": "efficientnet-lite2", "label_smoothing": 0.0}, ["label_smoothing"]),
        ({"teacher": "efficientnet-lite2", "label_smoothing": 0.0, "distillation": 0.9}, []),
        ({"momentum": 0.5, "label_smoothing": 0.0, "subnet_pool": 8, "pool_steps": 16}, []),
        ({"divergence": "alpha", "alpha_min": -2, "alpha_max": 2, "alpha_clip": 3}, []),
        (TrainingConfig(optimizer="adamw").model_dump(mode="json"), []),  # which names every field
    ],
)
def test_settings_that_do_nothing_beside_others_are_told(
    tmp_path: Path, settings: dict[str, Any], names: list[str]
) -> None:
    _, told = train(tmp_path, settings=settings)
    assert told.count("does nothing") == len(names)
    assert all(f"The training setting '{name}' does nothing" in told for name in names)


def test_alphas_of_one_sign_are_refused() -> None:
    with pytest.raises(ValidationError, match="alpha_max"):
        TrainingConfig(alpha_max=-0.5)

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from hwnas.errors import BadFileError, UserError
from hwnas.files import read_json_lines, sha256_of
from hwnas.spaces import get_space
from hwnas.supernet import load_supernet
from hwnas.training import Trainer
from hwnas.training.judge import Judge
from hwnas.training.recipes import phases, subnets
from hwnas.training.state import STATE_FILE
from tests.forked import finished, killed_when

sys.path.insert(0, str(Path(__file__).parent))
import toy


def steps(directory: Path) -> list[dict[str, float]]:
    lines = read_json_lines(directory / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_killed_run_ends_with_the_same_bits_as_an_unbroken_one(tmp_path: Path, optimizer: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(toy.thin_main, whole, optimizer=optimizer)
    # Killed once at its first state file, which is before the sandwich, and once at the next, or a few steps on.
    for last_step in (6, 12):
        killed_when(toy.saved_anew(broken), toy.thin_main, broken, optimizer=optimizer, stuck_after=last_step)
        assert not (broken / "record.json").exists()
    finished(toy.thin_main, broken, optimizer=optimizer)
    assert sha256_of(broken / "weights.safetensors") == sha256_of(whole / "weights.safetensors")
    assert steps(broken) == steps(whole)
    assert not list(broken.glob(".*.part"))


def test_it_learns_and_the_checkpoint_reads_back(tmp_path: Path) -> None:
    torch.manual_seed(99)
    record = toy.trainer(tmp_path, epochs=5).run()
    assert record.metrics["validation_top1_largest"] > 0.9
    assert record.metrics["validation_top1_smallest"] > 0.9
    supernet, read = load_supernet(tmp_path)
    assert read == record
    assert read.dataset.class_names == toy.CLASSES
    assert supernet.space.name == "mobilenet_v3/small"
    assert supernet.recalibration == read.recalibration == toy.config().augmentation.model_dump(mode="json")
    assert not supernet.training


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = toy.trainer(tmp_path, epochs=1).run()
    before = steps(tmp_path)
    second = toy.trainer(tmp_path, epochs=1).run()
    assert second.weights_sha256 == first.weights_sha256
    assert steps(tmp_path) == before


@pytest.mark.parametrize("epochs", [0.5, 1.5, 2.0])
def test_the_last_step_is_told_and_judged_once_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: float
) -> None:
    whole, broken, last = tmp_path / "whole", tmp_path / "broken", round(6 * epochs)
    asked, judged = [0], list[int]()
    extremes, scores = Judge.extremes, Judge.scores
    monkeypatch.setattr(Judge, "extremes", lambda judge, step: (asked.append(step), extremes(judge, step))[1])
    monkeypatch.setattr(Judge, "scores", lambda judge, some: (judged.append(asked[-1]), scores(judge, some))[1])
    record = toy.thin(whole, epochs=epochs, full_epochs=0).run()
    lines = steps(whole)
    assert [line["step"] for line in lines] == judged == [*range(6, last, 6), last]
    assert lines[-1]["top1_largest"] == record.metrics["validation_top1_largest"]
    assert lines[-1]["top1_smallest"] == record.metrics["validation_top1_smallest"]
    toy.thin(broken, epochs=epochs, full_epochs=0).run_until(last - 1)
    assert toy.thin(broken, epochs=epochs, full_epochs=0).run().weights_sha256 == record.weights_sha256
    assert steps(broken) == lines


def test_evaluations_are_as_rare_as_was_asked_for_but_for_the_last(tmp_path: Path) -> None:
    toy.thin(tmp_path, epochs=3.5, full_epochs=0, evaluate_epochs=2).run()
    assert [line["step"] for line in steps(tmp_path) if "top1_largest" in line] == [12, 21]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, [{"largest"}, {"largest", "random", "smallest"}, {"largest", "random", "smallest"}]),
        ({"random_subnets": 0, "full_epochs": 0}, [{"largest", "smallest"}] * 3),
        ({"recipe": "progressive"}, [{"largest"}, {"random"}, {"random"}]),
    ],
)
def test_a_loss_has_the_name_of_the_subnet_whose_it_is(
    tmp_path: Path, changes: dict[str, object], told: list[set[str]]
) -> None:
    toy.thin(tmp_path, **changes).run()
    losses = [{name for name in line if name.startswith("loss_")} for line in steps(tmp_path)]
    assert losses == [{f"loss_{name}" for name in names} for names in told]


def test_it_learns_in_bf16_and_gives_the_same_bits_again(tmp_path: Path) -> None:
    for name, precision in (("first", "bf16"), ("again", "bf16"), ("single", "fp32")):
        finished(toy.thin_main, tmp_path / name, epochs=0.5, full_epochs=0, precision=precision)
    first, again, single = (sha256_of(tmp_path / run / "weights.safetensors") for run in ("first", "again", "single"))
    assert first == again != single
    finished(toy.thin_main, tmp_path / "long", epochs=6, precision="bf16")
    lines = steps(tmp_path / "long")
    assert lines[-1]["loss_largest"] < 0.7 * lines[0]["loss_largest"]
    assert lines[-1]["top1_largest"] > 0.9 and lines[-1]["top1_smallest"] > 0.9


def test_two_processes_stay_equal_and_learn(tmp_path: Path) -> None:
    toy.by_torchrun(tmp_path)
    assert (tmp_path / "rank0.sha256").read_text() == (tmp_path / "rank1.sha256").read_text()
    lines = steps(tmp_path)
    assert [line["step"] for line in lines] == [6, 12, 18]
    assert lines[-1]["top1_largest"] > 0.9
    load_supernet(tmp_path)


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    toy.trainer(tmp_path, epochs=1).run()
    with pytest.raises(UserError, match=r"state of a run with another config"):
        toy.trainer(tmp_path, epochs=2).run()
    with pytest.raises(UserError, match=r"state of a run with another dataset fingerprint"):
        Trainer(tmp_path, get_space("mobilenet_v3/small", 3), toy.dataset("other"), toy.config(epochs=1)).run()


@pytest.mark.parametrize("damage", ["truncated", "emptied", "foreign", "flipped"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    toy.trainer(tmp_path, epochs=1).run()
    state = tmp_path / STATE_FILE
    whole = state.read_bytes()
    content = {
        "truncated": whole[:-100],
        "emptied": b"",
        "foreign": b"PK\x03\x04" * 100,
        "flipped": whole[:-1] + bytes([whole[-1] ^ 1]),
    }[damage]
    state.write_bytes(content)
    with pytest.raises(BadFileError, match=r"state\.safetensors.*delete it"):
        toy.trainer(tmp_path, epochs=1).run()


@pytest.mark.parametrize("damage", ["weights", "record", "missing"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    toy.trainer(tmp_path, epochs=1).run()
    if damage == "weights":
        content = bytearray((tmp_path / "weights.safetensors").read_bytes())
        content[-1] ^= 1
        (tmp_path / "weights.safetensors").write_bytes(content)
    elif damage == "record":
        record = json.loads((tmp_path / "record.json").read_text())
        (tmp_path / "record.json").write_text(json.dumps(record | {"num_classes": "many"}))
    else:
        (tmp_path / "weights.safetensors").unlink()
    message = {"weights": "corrupt", "record": r"field 'num_classes'.*'many'", "missing": "does not exist"}[damage]
    with pytest.raises(BadFileError, match=message):
        load_supernet(tmp_path)


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"96 training images, fewer than one batch of 128"):
        toy.trainer(tmp_path, batch_size=128)


def test_a_diverging_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower the learning rate"):
        toy.trainer(tmp_path, learning_rate=1e30, gradient_clip=1e30).run()


def test_a_sandwich_holds_the_extremes_and_depends_on_the_seed_alone() -> None:
    space = get_space("mobilenet_v3/small")
    (phase,) = phases(space, toy.config(full_epochs=0, random_subnets=3), 0, 10)
    step, again, other = (subnets(space, phase, toy.config(random_subnets=3, seed=seed), 5) for seed in (7, 7, 8))
    assert (step[0], step[-1], len(step)) == (space.largest, space.smallest, 5)
    assert step == again != other

"""Tunings under NNI's training service, killed and gone on with, and what becomes of their result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.errors import BadFileError, UserError
from hwnas.files import read_json_lines, sha256_of, write_json
from hwnas.pipeline.training import read_settings, training_config
from hwnas.spaces import get_space
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.state import STATE_FILE
from hwnas.tuning.options import TunedOptions, Values
from hwnas.tuning.ranges import read_ranges, values_of, with_values
from hwnas.tuning.shortrun import ShortRuns, fewer_images, measured_subnets, short_config
from hwnas.tuning.tuning import TuningOptions, run_tuning
from tests.programs import ROOT, home_of, started

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import toy
import tuning_fakes

PROGRAM = Path(tuning_fakes.__file__)
SPACE = get_space("mobilenet_v3/small", 3)
PATIENCE_S = 200.0


def start(directory: Path, seconds: float) -> subprocess.Popen[str]:
    return started(PROGRAM, directory, str(seconds))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> None:
    said = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 0, said


def trials(directory: Path) -> list[dict[str, object]]:
    lines = read_json_lines(directory / "trials.jsonl")
    for line in lines:
        del line["result"]["seconds"]
    return lines


def steps(directory: Path) -> list[dict[str, float]]:
    return read_json_lines(directory / tuning_fakes.LOG)


def test_a_killed_trial_and_a_killed_tuning_change_nothing(tmp_path: Path) -> None:
    """Killed with -9 amid trials; the same command ends as an unbroken one, and no step is trained twice."""
    broken, whole = tmp_path / "with space", tmp_path / "whole"
    process = start(broken, 0.3)
    wait_until(lambda: len(steps(broken)) >= 3, process)
    listening = [
        connection.laddr.ip
        for child in psutil.Process(process.pid).children(recursive=True)
        for connection in child.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}
    lost = int(steps(broken)[-1]["pid"])
    os.kill(lost, signal.SIGKILL)
    wait_until(lambda: any(line["pid"] != lost for line in steps(broken)[3:]), process)
    wait_until(lambda: len(trials(broken)) >= 2, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    # Nothing is left running, without anybody ending it.
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family))
    before = (broken / "trials.jsonl").read_bytes()
    finish(start(broken, 0.0))
    finish(start(whole, 0.0))

    assert (broken / "trials.jsonl").read_bytes().startswith(before)
    assert trials(broken) == trials(whole)
    done = Counter((line["rate"], line["step"]) for line in steps(broken))
    assert set(done) == {(line["rate"], line["step"]) for line in steps(whole)}
    assert len(steps(whole)) == len(done)
    # A kill between a step's two lines in the log and in the state lets it be done again, once a kill and trial.
    assert sum(done.values()) <= len(done) + 3
    found = trials(whole)
    assert [trial["index"] for trial in found] == list(range(len(found)))
    results = [trial["result"] for trial in found]
    assert [(r["configuration"], r["rung"]) for r in results[:4]] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    # The settings before tuning, at a rate of 0.9, diverge, and are the baseline all the same.
    assert results[0]["accuracy"] == 0 and not results[0]["top1s"]
    ranked = sorted(range(4), key=lambda number: (-results[number]["accuracy"], number))
    assert [r["configuration"] for r in results[4:]] == sorted({*ranked[:2], 0})
    # Large states of those that are out are deleted.
    kept = {int(path.parent.name) for path in whole.glob("trials/*/training")}
    assert kept == {r["configuration"] for r in results[4:]}
    assert list(home_of(broken).iterdir()) == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The toy data set as a folder of class folders."""
    from PIL import Image

    split = toy.images(150, 0)
    for number, (pixels, label) in enumerate(zip(split.pixels, split.labels.tolist(), strict=True)):
        path = tmp_path / "pictures" / toy.CLASSES[label] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(path)
    return tmp_path / "pictures"


def test_a_real_tuning_whose_options_change_a_training(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(ROOT)
    (tmp_path / "config.json").write_text('{"batch_size": 16, "learning_rate": 0.05}')
    directory = tmp_path / "tuning"
    given = ["tune", "--data", str(pictures), "--out", str(directory), "--config", str(tmp_path / "config.json")]
    given += ["--configurations", "2", "--eta", "2", "--epochs", "1", "--subnets", "1", "--workers", "2", "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    # Both on the first rung, and on the second the better one with the baseline, which may be the same.
    assert len(document["trials"]) in (3, 4)
    last = [trial["result"] for trial in document["trials"] if trial["result"]["rung"] == 1]
    assert document["tuned"]["accuracy"] == max(result["accuracy"] for result in last)
    assert document["tuned"]["untuned_accuracy"] == next(r["accuracy"] for r in last if r["configuration"] == 0)
    assert all(len(result["top1s"]) == 3 for result in last)
    tuned = document["tuned"]["options"]
    settings = read_settings(tmp_path / "config.json", directory / "options.json")
    config = training_config(settings)
    assert (config.learning_rate, config.distillation) == (tuned["learning_rate"], tuned["distillation"])
    assert config.augmentation.strength == tuned["augmentation_strength"]
    assert config.batch_size == 16

    again = CliRunner().invoke(app, given)
    assert json.loads(again.stdout) == document
    other = CliRunner().invoke(app, [*given, "--seed", "1"])
    assert other.exit_code == 2
    assert "holds a tuning with seed = 0, not 1; choose another directory" in " ".join(other.output.split())

    # Without --json people see each configuration and how to go on.
    table = CliRunner().invoke(app, given[:-1]).output
    assert "0, untuned" in table
    assert "hwnas train --options" in table


def test_rungs_are_one_unbroken_training(tmp_path: Path) -> None:
    whole, parts = toy.trainer(tmp_path / "whole"), toy.trainer(tmp_path / "parts")
    whole.run_until(12)
    for end in (5, 9, 12):
        parts = toy.trainer(tmp_path / "parts")
        parts.run_until(end)
        assert parts.step == end
    for mine, theirs in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        assert bool((mine == theirs).all())
    assert parts.judge.scores([SPACE.smallest, SPACE.largest]) == whole.judge.scores([SPACE.smallest, SPACE.largest])
    assert not (tmp_path / "parts" / "weights.safetensors").exists()


def test_each_option_changes_the_training(tmp_path: Path) -> None:
    """Whatever is tuned has a part in the weights."""
    base = toy.config(full_epochs=0, augmentation={"crop": "padded", "horizontal_flip": 0, "erasing": 0.5})
    changes = {"learning_rate": 0.01, "weight_decay": 0.1, "augmentation_strength": 0.0, "distillation": 0.0}
    assert set(changes) == set(values_of(base))
    states = set()
    for name, value in [("", 0.0), *changes.items()]:
        settings = with_values(base.model_dump(), {name: value} if name else {})
        config = TrainingConfig.model_validate(settings)
        assert not name or values_of(config)[name] == value
        Trainer(tmp_path / f"of {name}", SPACE, toy.dataset(), config).run_until(2)
        from safetensors import safe_open

        with safe_open(tmp_path / f"of {name}" / STATE_FILE, framework="pt") as file:
            states.add(file.metadata()["sha256"])
    assert len(states) == 5


def test_a_short_training_keeps_the_shares_of_its_phases() -> None:
    config = TrainingConfig(epochs=30, full_epochs=2, warmup_epochs=1, learning_rate=0.3)
    short = short_config(config, 3)
    assert (short.epochs, short.full_epochs, short.warmup_epochs) == (3, pytest.approx(0.2), pytest.approx(0.1))
    assert short.learning_rate == 0.3


def test_the_measure_is_on_fixed_validation_images_and_subnets(tmp_path: Path) -> None:
    dataset = fewer_images(toy.dataset(), 10, seed=3)
    assert len(dataset.validation) == 10 and len(dataset.train) == 96
    assert bool((dataset.validation.pixels == fewer_images(toy.dataset(), 10, seed=3).validation.pixels).all())
    assert len(fewer_images(toy.dataset(), 1000, seed=3).validation) == 30
    measured = measured_subnets(SPACE, 2, seed=1)
    assert measured[:2] == [SPACE.smallest, SPACE.largest] and len(measured) == 4
    assert measured == measured_subnets(SPACE, 2, seed=1) != measured_subnets(SPACE, 2, seed=2)
    protocol = {"subnets": 0, "images": 10, "seed": 0, "threads": 1}
    trainee = ShortRuns(SPACE, toy.dataset(), toy.config(), **protocol)
    assert trainee.identity == ShortRuns(SPACE, toy.dataset(), toy.config(), **protocol).identity
    assert trainee.identity != ShortRuns(SPACE, toy.dataset(), toy.config(), **protocol | {"images": 11}).identity


def write_options(path: Path, **changes: object) -> Path:
    options = TunedOptions(
        options=Values(learning_rate=0.2),
        optimizer="sgd",
        batch_size=128,
        space="mobilenet_v3/small",
        dataset="toy",
        dataset_fingerprint="toy",
        epochs=1.0,
        accuracy=0.5,
        untuned_accuracy=None,
        configuration=1,
        configurations=2,
        seed=0,
    )
    write_json(path, options.model_dump(mode="json", by_alias=True) | changes)
    return path


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"options": {"learning_rate": -1}}, r"field 'options\.learning_rate'.*found -1"),
        ({"options": {"momentum": 0.5}}, r"field 'options\.momentum'"),
        ({"schema": 2}, "field 'schema'"),
        ({"accuracy": 3}, "field 'accuracy'"),
        ({"optimizer": "adamw"}, "tuned for optimizer adamw, not sgd; train with adamw, or tune anew"),
        ({"batch_size": 64}, "tuned for batch size 64, not 128"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    path = write_options(tmp_path / "options.json", **changes)
    with pytest.raises(UserError, match=complaint):
        read_settings(None, path)
    done = CliRunner().invoke(app, ["train", "--out", str(tmp_path / "run"), "--options", str(path)])
    assert done.exit_code == 2 and "Error:" in done.output
    assert not (tmp_path / "run").exists()


def test_what_was_not_tuned_stays(tmp_path: Path) -> None:
    config = training_config(read_settings(None, write_options(tmp_path / "options.json")))
    assert config == TrainingConfig(learning_rate=0.2)
    with pytest.raises(BadFileError, match="does not exist"):
        read_settings(None, tmp_path / "missing.json")


def test_a_run_refuses_options_beside_trained_weights(tmp_path: Path) -> None:
    path = write_options(tmp_path / "options.json")
    given = ["run", "--name", "x", "--runs", str(tmp_path), "--options", str(path), "--supernet", str(tmp_path)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 2
    assert "give either them or a trained supernet" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        ([], "not a JSON object"),
        ({"momentum": {"_type": "uniform", "_value": [0, 1]}}, "'momentum': cannot be tuned, only learning_rate"),
        ({"distillation": [0, 1]}, "expected {'_type'"),
        ({"distillation": {"_type": "choice", "_value": [0, 1]}}, "uniform or loguniform, found 'choice'"),
        ({"distillation": {"_type": "uniform", "_value": [0, 2]}}, "values from 0 to 1"),
        ({"learning_rate": {"_type": "loguniform", "_value": [0, 1]}}, "the bounds rise"),
        ({"learning_rate": {"_type": "uniform", "_value": [0, True]}}, "two numbers"),
    ],
)
def test_a_wrong_search_space_is_refused_by_field(tmp_path: Path, ranges: object, complaint: str) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(ranges))
    with pytest.raises(BadFileError, match=complaint):
        read_ranges(path)


@pytest.mark.parametrize(
    ("config", "options", "complaint"),
    [
        (toy.config(), TuningOptions(epochs=1), "at least 9 steps, and the longest run has 6"),
        (toy.config(full_epochs=2), TuningOptions(epochs=3, rungs=2), "first 12 train the largest subnet alone"),
        (toy.config(batch_size=97), TuningOptions(), "96 training images, fewer than one batch of 97"),
    ],
)
def test_too_little_training_is_refused(
    tmp_path: Path, config: TrainingConfig, options: TuningOptions, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        run_tuning(tmp_path / "none", SPACE, toy.dataset(), config, options, data="toy")
    assert not (tmp_path / "none").exists()


def test_the_weights_of_a_tuned_training_are_others(tmp_path: Path) -> None:
    path = write_options(tmp_path / "options.json", batch_size=16)
    base = toy.config(epochs=1).model_dump()
    (tmp_path / "base.json").write_text(json.dumps(base))
    tuned = training_config(read_settings(tmp_path / "base.json", path))
    assert tuned.learning_rate == 0.2
    for name, config in (("plain", TrainingConfig.model_validate(base)), ("tuned", tuned)):
        Trainer(tmp_path / name, SPACE, toy.dataset(), config).run()
    assert sha256_of(tmp_path / "plain" / "weights.safetensors") != sha256_of(
        tmp_path / "tuned" / "weights.safetensors"
    )

"""Detectors are fine-tuned and pruned as classifiers are: from boxes alone, judged by mean average precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
import torch
from typer.testing import CliRunner

import hwnas.devices
from hwnas.cli.main import app
from hwnas.data.detection import DetectionDataset, load_detection
from hwnas.data.detection.jitter import JitterConfig
from hwnas.errors import UserError
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuned import FineTuningResult
from hwnas.pipeline.finetuning import FineTuning
from hwnas.pipeline.finetuning_options import Pruning, training_plan
from hwnas.pipeline.networks import export_network
from hwnas.pipeline.pruning import Limit
from hwnas.progress import Silent
from hwnas.spaces import registry
from hwnas.supernet import PlainNetwork, load_network
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.alone import train_alone
from hwnas.training.config import DetectionConfig
from hwnas.training.validation import network_score
from tests.detectors import DETECTORS, thin_detectors
from tests.latency.fake_device import FakeDevice
from tests.pipeline.stopping import killed_at
from tests.rectangles import make_set

pytest.importorskip("pycocotools")
SPACE = thin_detectors()
SETTINGS = {"learning_rate": 2e-3, "checkpoint_steps": 2}
CONFIG = TrainingConfig(
    epochs=12,
    full_epochs=12,
    batch_size=8,
    optimizer="adamw",
    learning_rate=5e-3,
    warmup_epochs=0.0,
    ema_decay=0.8,
    detection=DetectionConfig(jitter=JitterConfig(smallest=1, largest=1)),
)
"""Of the largest subnet alone."""


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With pictures in ``set`` and a supernet in ``supernet``; forked processes find the same cache."""
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("detectors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_CACHE", str(directory / "cache"))
        make_set(directory / "set", train=32, val=8, test=8)
        Trainer(directory / "supernet", SPACE, rectangles(directory), CONFIG).run()
        yield directory


def rectangles(place: Path) -> DetectionDataset:
    return load_detection(place / "set", side=48)


def fine_tuning(
    directory: Path, place: Path, progress: Silent | None = None, prune: str | None = None, **settings: object
) -> FineTuning:
    plan = training_plan(place / "supernet", SPACE.task, 4, SETTINGS | settings)
    pruning = None if prune is None else Pruning.of(Limit.parse(prune), 1, plan.config, None)
    chosen = Chosen(SPACE, SPACE.largest, place / "supernet", rectangles(place))
    return FineTuning(directory, chosen, plan, FakeDevice(), pruning, tables=directory, progress=progress)  # type: ignore[arg-type]


def tune(directory: Path, place: Path, progress: Silent | None = None) -> None:
    torch.set_num_threads(1)
    fine_tuning(directory, place, progress).execute()


@pytest.fixture(scope="module")
def tuned(place: Path) -> tuple[Path, FineTuningResult]:
    """Fine-tuned, killed in the middle of that, and gone on with; then pruned."""
    directory = place / "tuned"
    directory.mkdir()
    killed_at(("training", 1, 5), tune, directory, place)
    return directory, fine_tuning(directory, place, prune="10%").execute()


def tied(network: PlainNetwork, sharing: dict[int, int]) -> list[bool]:
    """Whether convolutions that levels share are equal, one by one."""
    pairs = [(network[number].modules(), network[other].modules()) for number, other in sharing.items()]
    every = [pair for modules in pairs for pair in zip(*modules, strict=True) if isinstance(pair[0], torch.nn.Conv2d)]
    return [torch.equal(one.weight, other.weight) for one, other in every]


def test_it_learns_from_the_boxes_and_keeps_its_limit(place: Path, tuned: tuple[Path, FineTuningResult]) -> None:
    directory, result = tuned
    before, after, pruned = result.networks
    assert (result.metric, result.delivered) == ("mAP", "pruned")
    assert after.score_validation > before.score_validation > 0
    assert after.latency.figure_ms == pytest.approx(before.latency.figure_ms, rel=0.02)
    assert result.kept and pruned.macs < after.macs and pruned.params < after.params
    assert "It learned from the boxes alone: detectors are not distilled." in result.remarks()
    _, record = load_network(directory / "fine-tuned")
    assert record.training is not None and record.training["config"]["teacher"] is None
    data = rectangles(place)
    for name, figures in (("fine-tuned", after), (".", pruned)):
        network, record = load_network(directory / name)
        assert network_score(network, data, data.test) == pytest.approx(figures.score_test, abs=1e-6)
        assert record.single_space.task == "detection" and record.single_space.num_classes == 2
        same = tied(network, record.sharing)
        assert len(same) > 20 and all(same)


def test_what_is_delivered_is_exported_in_each_form(
    place: Path, tuned: tuple[Path, FineTuningResult], tmp_path: Path
) -> None:
    directory, _ = tuned
    assert len(onnx.load(directory / "model.onnx").graph.output) == 6  # classes and boxes of three levels
    network, record = load_network(directory)
    model = export_network(network, record, rectangles(place), tmp_path / "boxes.onnx", detections="boxes")
    assert model.parity is not None and model.parity < 1e-4
    assert len(onnx.load(model.path).graph.output) == 2
    with pytest.raises(UserError, match="Detectors are exported in fp32, not in fp16"):
        export_network(network, record, rectangles(place), tmp_path / "half.onnx", "fp16")


def test_killed_and_gone_on_with_it_ended_with_the_same_bits(
    place: Path, tuned: tuple[Path, FineTuningResult], tmp_path: Path
) -> None:
    extracted, record = load_network(tuned[0] / "extracted")
    config = fine_tuning(tmp_path, place).plan.config
    unbroken = train_alone(tmp_path / "run", record.single_space, rectangles(place), config, beginning=extracted)
    found = load_network(tuned[0] / "fine-tuned")[0].state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in unbroken.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "somewhere"}, "'teacher' does not apply to detectors"),
        ({"distillation": 0.5}, "'distillation' does not apply to detectors"),
    ],
)
def test_a_teacher_is_refused_before_anything_is_written(
    place: Path, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        fine_tuning(tmp_path / "none", place, **settings).execute()
    assert not (tmp_path / "none").exists()


@contextmanager
def opened(*_: object) -> Iterator[FakeDevice]:
    yield FakeDevice()


def hwnas_does(command: str, *named: str | Path, **options: str | Path) -> str:
    given = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    done = CliRunner().invoke(app, [command, *map(str, named), *given])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_says_what_its_figures_are(
    place: Path, tuned: tuple[Path, FineTuningResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hwnas.devices, "open_device", opened)
    monkeypatch.setitem(registry.DETECTORS, DETECTORS.name, DETECTORS)
    choice, data = tmp_path / "largest.json", place / "set"
    choice.write_text(json.dumps(SPACE.largest.to_json()))
    options = {"space": SPACE.name, "data": data, "supernet": place / "supernet", "out": tmp_path / "out"}
    options |= {"epochs": "0.25", "learning_rate": "1e-3"}
    told = hwnas_does("finetune", choice, **options)
    assert "test mAP" in told and "top-1" not in told
    found = json.loads(hwnas_does("finetune", "largest", "--json", **options))  # the same one, and done
    assert found["metric"] == "mAP"
    hwnas_does("export", tuned[0], data=data, out=tmp_path / "nms.onnx", detections="nms")
    assert len(onnx.load(tmp_path / "nms.onnx").graph.output) == 3

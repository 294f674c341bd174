"""Detectors on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from hwnas.cli.main import app
from tests.rectangles import make_set

pytest.importorskip("pycocotools")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    return make_set(tmp_path / "set", train=8, val=2, test=2)


def hwnas(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output + (result.stderr or "")


def test_a_detector_is_trained_and_exported_with_and_without_nms(pictures: Path, tmp_path: Path) -> None:
    space = ["--space", "mobilenet_v3-bifpn/small", "--data", pictures]
    run = tmp_path / "run"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"epochs": 1, "full_epochs": 0.5, "batch_size": 4, "optimizer": "adamw"}))
    code, output = hwnas("train", *space, "--out", run, "--config", settings, "--threads", "1", "--json")
    assert code == 0, output
    code, output = hwnas("train", *space, "--out", run, "--config", settings, "--threads", "1")  # done already
    assert code == 0, output
    assert "mAP" in output
    assert "validation largest" in output
    for form, outputs in (("maps", 8), ("boxes", 2), ("nms", 3)):
        path = tmp_path / f"{form}.onnx"
        code, output = hwnas("export", "smallest", *space, "--supernet", run, "--out", path, "--detections", form)
        assert code == 0, output
        assert len(onnx.load(path).graph.output) == outputs
    code, output = hwnas("bench", tmp_path / "boxes.onnx", "--data", pictures)
    assert code == 0, output
    assert "mAP on the test split: " in output and "At overlap 0.5 " in output
    assert "Top-1" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--space", "mobilenet_v3/small", "--data", "SET"], "such as mobilenet_v3-bifpn/small."),
        (["train", "--space", "mobilenet_v3-bifpn/small", "--data", "SET", "--download"], "is a folder"),
        (
            ["train", "--space", "mobilenet_v3-bifpn/small", "--data", "fashion-mnist"],
            "There is no folder fashion-mnist",
        ),
        (["export", "largest", "--detections", "all"], "--detections is maps, boxes or nms, not 'all'"),
        (["finetune", "largest", "--space", "mobilenet_v3-bifpn/small"], "There is no folder fashion-mnist"),
        (
            ["finetune", "largest", "--space", "mobilenet_v3/small", "--data", "SET"],
            "such as mobilenet_v3-bifpn/small.",
        ),
    ],
)
def test_data_of_the_other_task_and_unknown_forms_are_refused(
    pictures: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [str(pictures) if argument == "SET" else argument for argument in arguments]
    code, output = hwnas(*given, "--out", tmp_path / "out")
    assert code == 2
    assert message in " ".join(output.split())
    assert not (tmp_path / "out").exists()

"""The whole way of a detector on this machine: killed in the middle, gone on with, and told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import load_for
from hwnas.detection.scoring import PICTURES_AT_ONCE, scores
from hwnas.devices import load_target, open_device
from hwnas.files import read_model, write_json
from hwnas.pipeline.documents import Summary
from hwnas.pipeline.networks import open_supernet, ready_subnet
from hwnas.report import ReportData
from hwnas.search import SubnetEvaluator
from hwnas.search.service.recipe import subnet_recipe
from hwnas.spaces import Architecture, registry
from tests.detectors import DETECTORS, thin_detectors
from tests.latency.tables import made_table
from tests.rectangles import write_split

pytest.importorskip("pycocotools")
ROOT = Path(__file__).parents[2]
SPACE = thin_detectors()
QUICK = ["--train-epochs", "1", "--evaluations", "2", "--finalists", "1", "--builds", "1", "--budget", "100"]


def hwnas(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Enough for one step of training, and the space in the registry."""
    root = tmp_path_factory.mktemp("boxes") / "set"
    for number, (split, count) in enumerate({"train": 128, "val": 10, "test": 10}.items()):
        write_split(root, split, count, size=(64, 64), seed=number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_CACHE", str(root.parent / "cache"))
        patch.setitem(registry.DETECTORS, DETECTORS.name, DETECTORS)
        yield root


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine as if nobody shared it: no sample is waited for that a busy one does not give."""
    path = tmp_path_factory.mktemp("targets") / "own-cpu.yaml"
    content = (ROOT / "targets" / "host-cpu.yaml").read_text()
    content = content.replace("name: host-cpu", "name: own-cpu").replace("shared: true", "soak_seconds: 0")
    path.write_text(content)
    return path


@pytest.fixture(scope="module")
def table(target: Path) -> Path:
    """A made up table of this device; what is promised is measured."""
    with open_device(load_target(str(target))) as device:
        fingerprint = device.fingerprint()
    made = made_table(of=SPACE).model_copy(
        update={"target": "own-cpu", "fingerprint": fingerprint, "fast_states_ms": {}}
    )
    write_json(target.with_name("table.json"), made)
    return target.with_name("table.json")


def killed_when(arguments: list[str], log: Path, text: str) -> None:
    """Start ``hwnas``, wait until its log holds ``text``, and kill it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.thin_program", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not (log.exists() and text in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run had ended by itself before it was killed"


def command(runs: Path, pictures: Path, target: Path, table: Path) -> list[str]:
    where = ["--target", str(target), "--table", str(table), "--runs", str(runs)]
    return ["run", "--name", "boxes", "--space", SPACE.name, "--data", str(pictures), *where, *QUICK, "--json"]


@pytest.fixture(scope="module")
def run(pictures: Path, target: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed once it had trained, and ended by the same command."""
    runs = tmp_path_factory.mktemp("runs")
    arguments = command(runs, pictures, target, table)
    killed_when(arguments, runs / "boxes" / "log.txt", "step supernet: done")
    code, output = hwnas(*arguments)
    assert code == 0, output
    assert json.loads(output.splitlines()[-1]) == json.loads((runs / "boxes" / "summary.json").read_text())
    return runs / "boxes"


def test_a_killed_run_goes_on_and_ends_with_a_detector_that_keeps_the_budget(run: Path) -> None:
    log = (run / "log.txt").read_text()
    assert log.count("step supernet: done in") == 1
    assert "step supernet: done before, skipped" in log
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metric"] == "mAP"
    assert 0 < summary["promised_ms"] <= summary["budget_ms"]
    assert [yardstick["name"] for yardstick in summary["yardsticks"]] == ["largest subnet"]
    assert list(run.rglob("*.part")) == []


def test_the_report_speaks_of_mean_average_precision(run: Path) -> None:
    code, output = hwnas("report", run)
    assert code == 0, output
    page = (run / "report.html").read_text()
    for text in (output, page):
        assert "test mAP" in text
        assert "top-1" not in text.lower()
    assert "How it detects" in page and "How it classifies" not in page
    assert "AP at overlap 0.75" in page
    assert all(f">{name}<" in page for name in ("red", "blue"))
    winner = json.loads((run / "report.json").read_text())["winner"]["network"]
    assert winner["detection"]["map"] == winner["top1_test"]
    assert winner["detection"]["images"] == 10


@pytest.fixture(scope="module")
def dataset(pictures: Path) -> DetectionDataset:
    read = load_for(SPACE, pictures)
    assert isinstance(read, DetectionDataset)
    return read


def test_the_engine_detects_what_torch_detects(run: Path, dataset: DetectionDataset) -> None:
    told = json.loads((run / "winner.json").read_text())["architecture"]
    winner = Architecture.from_json(told)
    network = ready_subnet(open_supernet(run / "supernet", SPACE, dataset), winner, dataset)
    images = dataset.inputs(dataset.test.pixels, winner.resolution, PICTURES_AT_ONCE)
    by_torch = scores(network, winner.resolution, images, dataset.test)
    assert json.loads((run / "summary.json").read_text())["top1"] == pytest.approx(by_torch.map, abs=1e-4)


def test_a_worker_scores_a_detector_as_the_run_does(run: Path, pictures: Path, dataset: DetectionDataset) -> None:
    here = SubnetEvaluator(open_supernet(run / "supernet", SPACE, dataset), dataset)
    there = subnet_recipe(run / "supernet", str(pictures), None, here).make()
    assert there(SPACE.smallest) == here(SPACE.smallest)


def test_documents_of_before_are_read_as_of_classifiers(run: Path, tmp_path: Path) -> None:
    summary, data = (json.loads((run / f"{name}.json").read_text()) for name in ("summary", "report"))
    del summary["metric"], data["asked"]["metric"]
    for network in (data["winner"]["network"], *data["yardsticks"]):
        del network["detection"]
    for name, content in (("summary", summary), ("report", data)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert read_model(tmp_path / "summary.json", Summary, what="summary").metric == "top-1"
    assert read_model(tmp_path / "report.json", ReportData, what="report data").asked.metric == "top-1"
    code, output = hwnas("report", tmp_path)
    assert code == 0, output
    assert "test top-1" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--precision", "int8"],
            "Detectors are searched and measured in fp32 alone, and host-cpu would run them in int8",
        ),
        (["--download"], "A detection data set is a folder"),
        (["--data", "nowhere"], "There is no folder nowhere"),
        (["--space", "mobilenet_v3/small"], "use the space of a detector, such as mobilenet_v3-bifpn/small"),
    ],
)
def test_what_does_not_apply_to_detectors_is_refused_and_nothing_is_written(
    pictures: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    usual: dict[str, Any] = {"--space": SPACE.name, "--data": pictures, "--runs": tmp_path / "runs"}
    given = [part for name, value in usual.items() if name not in arguments for part in (name, value)]
    code, output = hwnas("run", "--name", "x", *given, *arguments)
    assert code == 2, output
    assert message in " ".join(output.split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_fine_tunes_its_detector(run: Path, pictures: Path, target: Path, table: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "boxes")
    code, output = hwnas(*command(tmp_path, pictures, target, table), "--finetune-epochs", "1")
    assert code == 0, output
    found = json.loads(output.splitlines()[-1])["finetuned"]
    assert found["metric"] == "mAP"
    assert [network["made"] for network in found["networks"]] == ["extracted", "fine-tuned"]
    page = (tmp_path / "boxes" / "report.html").read_text()
    assert "test mAP, by torch" in page and "detectors are not distilled" in page

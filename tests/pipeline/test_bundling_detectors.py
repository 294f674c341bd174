"""Bundles of detectors: what is in them, and what a board makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from hwnas.agent.slots import checks
from hwnas.agent.slots.building import Builder
from hwnas.agent.slots.health import Health
from hwnas.agent.slots.installing import Outcome, install, take
from hwnas.agent.slots.manifest import read_manifest
from hwnas.agent.slots.slots import Slots
from hwnas.data.detection import DetectionDataset, load_detection
from hwnas.deploy.bundle import archive_path, write_bundle
from hwnas.deploy.content import BundleContent
from hwnas.deploy.golden import Answers
from hwnas.deploy.keys import KeyStore
from hwnas.deploy.manifest import GoldenOutputs, Letterbox, Limits
from hwnas.deploy.signing import PublicKey
from hwnas.deploy.verification import verify_bundle
from hwnas.detection.forms import Form
from hwnas.detection.scoring import PICTURES_AT_ONCE, scores
from hwnas.devices import CompileOptions
from hwnas.errors import UserError
from hwnas.export import export_onnx, model_metadata
from hwnas.export.detections import with_detections
from hwnas.files import append_json_line, write_atomic, write_json
from hwnas.pipeline import bundled_run, bundling
from hwnas.pipeline.bundled_network import BundledNetwork
from hwnas.pipeline.bundled_run import FinishedRun
from hwnas.pipeline.bundling import BundleOptions, bundle_content
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.documents import ExportRecord, WinnerDocument
from hwnas.pipeline.steps import Steps
from hwnas.report.data import Latency, Measurement
from hwnas.search import Evaluation
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork, SupernetRecord, save_supernet
from hwnas.training.trainer import dataset_record
from tests.deploy.bundles import make_key, tiny_bundle
from tests.deploy.commands import hwnas, told
from tests.deploy.fakes import board
from tests.detectors import found_in_part, sure_detector, thin_detectors
from tests.pipeline.test_bundling import TABLE, summary
from tests.rectangles import make_set

pytest.importorskip("pycocotools")

SPACE = thin_detectors()
SIDE = SPACE.smallest.resolution
KEY = make_key()
LARGE = Architecture.from_json(
    {"space": SPACE.name, "choices": {**SPACE.largest.to_json()["choices"], "resolution": SIDE}}
)
"""The largest that sees as many pixels as the smallest."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("set") / "doors", train=4, val=12, test=1)


@pytest.fixture(scope="module")
def rectangles(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Whose validation split holds each third of the objects that the smallest network finds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HWNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return found_in_part(sure_detector(SPACE.smallest), SIDE, load_detection(folder), "validation")


@pytest.fixture(scope="module")
def model(rectangles: DetectionDataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes ONNX files of detectors."""
    directory = tmp_path_factory.mktemp("models")

    def made(form: Form, architecture: Architecture = SPACE.smallest) -> Path:
        path = directory / f"{form}-{architecture.id}.onnx"
        if not path.exists():
            told = model_metadata(
                architecture=architecture,
                class_names=rectangles.class_names,
                mean=rectangles.mean,
                std=rectangles.std,
            )
            convert: Callable[[ModelProto], ModelProto] = partial(with_detections, form=form)
            export_onnx(sure_detector(architecture), SIDE, path, metadata=told, convert=convert)
        return path

    return made


def bundled(
    paths: list[Path], dataset: DetectionDataset | None, accuracy: float | None = None, **options: Any
) -> BundleContent:
    networks = [BundledNetwork(path.stem, path.read_bytes(), Limits(), accuracy) for path in paths]
    return bundle_content("boxes", networks, CompileOptions(), dataset, {}, options=BundleOptions(**options))


@pytest.mark.parametrize(("form", "outputs"), [("maps", 6), ("boxes", 2)])
def test_all_outputs_have_golden_answers_and_accuracy_is_mean_average_precision(
    form: Form, outputs: int, model: Callable[..., Path], rectangles: DetectionDataset, tmp_path: Path
) -> None:
    path = model(form)
    bundle = write_bundle(bundled([path], rectangles, golden=5), 1, tmp_path, [KEY])
    manifest = verify_bundle(archive_path(bundle.path), [PublicKey.of(KEY)]).manifest
    (entry,) = manifest.models
    assert (manifest.schema_version, manifest.samples, manifest.provenance.metric) == (2, None, "mAP")
    pictures = rectangles.inputs(rectangles.validation.pixels, SIDE, PICTURES_AT_ONCE)
    expected = scores(sure_detector(SPACE.smallest), SIDE, pictures, rectangles.validation).map
    assert 0.1 < expected < 0.9
    assert entry.accuracy == pytest.approx(expected, abs=2e-3)
    assert isinstance(entry.golden, GoldenOutputs)
    assert len(entry.golden.outputs) == len(entry.outputs) == outputs
    inputs = np.load(bundle.path / entry.golden.inputs)
    assert inputs.shape == (5, 3, SIDE, SIDE)
    (first, *_, last) = rectangles.inputs(rectangles.validation.pixels, SIDE, 1)
    np.testing.assert_array_equal(inputs[0], first[0])
    np.testing.assert_array_equal(inputs[-1], last[0], "they are spread over the split")
    for output, golden in zip(entry.outputs, entry.golden.outputs, strict=True):
        values = np.load(bundle.path / golden.values)
        assert values.shape == (5, *output.shape[1:])
        size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
        assert golden.absolute == pytest.approx(1e-3 * size, rel=1e-2), "each has a tolerance of its own"
        assert golden.relative == (1e-3 if output.name == "scores" else 0)
    assert [golden.name for golden in read_manifest(bundle.payload).models[0].golden.outputs] == [
        output.name for output in entry.outputs
    ]
    assert json.loads((bundle.path / "labels.json").read_text())["labels"] == ["red", "blue"]
    preprocessing = json.loads((bundle.path / "preprocessing.json").read_text())
    assert preprocessing["schema"] == 2
    assert Letterbox.model_validate(preprocessing["resize"]) == Letterbox(height=SIDE, width=SIDE, fill=128)


@pytest.fixture
def memory_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the two processes that look how much memory the engines take."""
    monkeypatch.setattr(checks, "measure_peak", lambda *_, **__: {"peak_bytes": 2 << 20, "baseline_bytes": 1 << 20})


def installed(slots: Slots, content: BundleContent, version: int, directory: Path) -> Outcome:
    bundle = write_bundle(content, version, directory, [KEY])
    archive = take(slots, archive_path(bundle.path))
    return install(slots, archive, Builder(), Health(slots.root, sleep=lambda _: None))


@pytest.mark.usefixtures("memory_enough")
def test_a_board_takes_two_detectors_and_refuses_one_whose_second_output_is_another(
    model: Callable[..., Path], rectangles: DetectionDataset, tmp_path: Path
) -> None:
    slots = board(tmp_path / "root")
    content = bundled([model("boxes", LARGE), model("boxes")], rectangles)
    outcome = installed(slots, content, 1, tmp_path)
    assert outcome.outcome == "confirmed", outcome.reason
    served = content.manifest(1).models
    assert [entry.id for entry in served] == [model("boxes").stem, model("boxes", LARGE).stem], "by mAP"
    golden = [check for check in (outcome.health or {})["checks"] if check["name"] == "golden"]
    assert [check["model"] for check in golden] == [entry.id for entry in served]
    assert all("golden outputs differ by" in check["says"] for check in golden)
    assert not any(check["name"] == "accuracy" for check in (outcome.health or {})["checks"])

    (first, *others) = content.models
    boxes, found = first.golden.outputs
    wrong = replace(found, values=found.values + np.float32(2 * found.absolute + 2 * found.relative))
    changed = replace(first, golden=Answers(first.golden.inputs, (boxes, wrong)))
    refused = installed(slots, replace(content, models=(changed, *others)), 2, tmp_path)
    assert refused.outcome == "unhealthy"
    assert ", in 'scores'; " in str(refused.reason)
    assert slots.current() == outcome.digest


def test_without_data_a_detector_is_compared_by_noise(model: Callable[..., Path]) -> None:
    content = bundled([model("boxes")], None, golden=2)
    assert content.provenance.metric == "mAP"
    assert content.models[0].accuracy is None
    assert isinstance(content.preprocessing.resize, Letterbox)


def test_golden_answers_of_large_outputs_are_few(
    model: Callable[..., Path], rectangles: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, count in ((1, 1), (1 << 30, 8)):
        monkeypatch.setattr(bundling, "MOST_GOLDEN_BYTES", most)
        assert len(bundled([model("boxes")], rectangles, accuracy=0.5).models[0].golden.inputs) == count


@pytest.mark.parametrize(
    ("form", "options", "sentence"),
    [
        ("nms", {}, "gives detections after NMS, .* export it with --detections boxes, or maps"),
        ("boxes", {"samples": 5}, "leave out --samples and --least-accuracy"),
        ("maps", {"least_accuracy": 0.5}, "A detector is compared with golden answers alone"),
    ],
)
def test_what_no_board_could_check_is_refused(
    form: Form, options: dict[str, Any], sentence: str, model: Callable[..., Path], rectangles: DetectionDataset
) -> None:
    with pytest.raises(UserError, match=sentence):
        bundled([model(form)], rectangles, **options)


def test_data_of_other_classes_is_refused(model: Callable[..., Path], rectangles: DetectionDataset) -> None:
    other = replace(rectangles, class_names=("red", "blue", "green"))
    with pytest.raises(UserError, match="has 2 classes, data set doors 3"):
        bundled([model("boxes")], other)


def test_outputs_that_are_not_of_each_input_are_refused(model: Callable[..., Path]) -> None:
    proto = onnx.load(model("boxes"))
    proto.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(UserError, match="not one of each of its 1 input"):
        BundledNetwork("odd", proto.SerializeToString(), Limits()).outputs  # noqa: B018 - reading it is what is tested


def test_the_command_bundles_a_detector(
    folder: Path, model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HWNAS_KEYS", "HWNAS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    KeyStore().new("ops")
    given = ("bundle", model("boxes"), "--target", "host-cpu", "--data", folder, "--out", tmp_path)
    made = told(*given, "--name", "door")
    assert (made["manifest"]["schema"], made["manifest"]["samples"]) == (2, None)
    assert made["manifest"]["models"][0]["accuracy"] is not None
    assert made["manifest"]["provenance"]["accuracy_of"] == "validation images of doors"
    assert "mAP" in hwnas("bundle", "verify", made["path"])
    assert "holds pictures with boxes" in hwnas(
        *("bundle", classifier(tmp_path), "--target", "host-cpu", "--data", folder, "--out", tmp_path), status=2
    )


def test_a_finished_run_of_a_detector_is_bundled_with_what_its_engine_reached(
    folder: Path, model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundled_run, "get_space", lambda name, classes=2: thin_detectors(classes))
    winner, directory = SPACE.smallest, tmp_path / "run"
    supernet = SupernetRecord(
        space=SPACE.name,
        num_classes=2,
        weights_sha256="",
        dataset=dataset_record(load_detection(folder, side=SIDE)),
        training={},
        metrics={},
    )
    save_supernet(directory / "supernet", ElasticNetwork(SPACE), supernet)
    config = RunConfig(target="host-cpu", space=SPACE.name, dataset=str(folder), table=str(TABLE), budget_ms=2.0)
    write_json(directory / "config.json", config)
    search = directory / "search" / "0123abcd"
    evaluation = Evaluation(
        index=0,
        strategy="hwnas",
        origin="initial",
        architecture=winner,
        top1=0.3,
        predicted_ms=1.5,
        std_ms=0.1,
        seconds=1.0,
    )
    append_json_line(search / "evaluations.jsonl", evaluation)
    (search / "search.json").write_text("{}")
    Steps(directory).do("search", {}, lambda: [search / "search.json"], lambda: None)
    content = model("maps").read_bytes()
    written = ExportRecord(sha256=sha256(content).hexdigest(), opset=17, ir_version=8, parity=0.0)
    write_atomic(directory / "models" / f"{winner.id}.onnx", content)
    write_json(directory / "models" / f"{winner.id}.json", written)
    promise = Measurement(gated=Latency(p50_ms=1.4, samples=1000))
    chosen = WinnerDocument(
        id=winner.id, architecture=winner.to_json(), promise=promise, promised_ms=1.4, broke_budget=()
    )
    write_json(directory / "winner.json", chosen)
    write_json(directory / "summary.json", summary(winner).model_copy(update={"top1": 0.25}))

    made = FinishedRun(directory).content("boxes")
    (entry,) = made.manifest(1).models
    assert (entry.id, entry.accuracy, len(entry.outputs)) == (winner.id, 0.25, 6)
    assert made.provenance.metric == "mAP"
    assert made.provenance.accuracy_of == "test images of doors, by the engine"
    assert made.samples is None


def classifier(directory: Path) -> Path:
    """Of one output, as the agent's tests have them."""
    path = directory / "classifier.onnx"
    path.write_bytes(tiny_bundle().files["models/m0/model.onnx"])
    return path

"""Bundles of ONNX files and of finished runs, with real weights and pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from rich.progress import Progress

from hwnas.agent.slots.manifest import read_manifest
from hwnas.cli.console import Bars
from hwnas.data import Dataset, load_dataset
from hwnas.deploy.keys import KeyStore
from hwnas.deploy.manifest import Golden, Limits, Manifest
from hwnas.deploy.verification import verify_bundle
from hwnas.devices import CompileOptions
from hwnas.errors import BadFileError, UserError
from hwnas.files import append_json_line, write_json
from hwnas.pipeline.bundle_request import BundleRequest
from hwnas.pipeline.bundled_network import BundledNetwork, network_id
from hwnas.pipeline.bundled_run import FinishedRun
from hwnas.pipeline.bundling import BundleOptions, bundle_content
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.documents import ExportRecord, Summary, WinnerDocument
from hwnas.pipeline.networks import export_subnet, open_supernet
from hwnas.pipeline.steps import Steps
from hwnas.pipeline.training import require_supernet
from hwnas.report.data import Latency, Measurement
from hwnas.search import Evaluation
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork, load_record
from tests.deploy.commands import hwnas, told

SPACE = "mobilenet_v3/small"
TABLE = Path(__file__).parents[2] / (
    "latency_tables/host-cpu/mobilenet_v3-small.onnxruntime-cpu-fp32-b1-t1-d50d4763.json"
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("fashion-mnist")


@pytest.fixture(scope="module")
def space(dataset: Dataset) -> Space:
    return get_space(SPACE, dataset.num_classes)


@pytest.fixture(scope="module")
def supernet(space: Space, dataset: Dataset) -> ElasticNetwork:
    return open_supernet(require_supernet(SPACE, dataset), space, dataset)


@pytest.fixture(scope="module")
def winner(space: Space) -> Architecture:
    """The smallest but for one kernel."""
    return changed(space.smallest, "stage1.block1.kernel", 5)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    supernet: ElasticNetwork,
    space: Space,
    dataset: Dataset,
    winner: Architecture,
) -> Path:
    """What `hwnas run` leaves, of four candidates: the winner, two faster ones, and a faster one that sees more."""
    directory = tmp_path_factory.mktemp("runs") / "Fashion_1"
    write_json(
        directory / "config.json",
        RunConfig(target="host-cpu", space=SPACE, dataset="fashion-mnist", table=str(TABLE), budget_ms=2.0),
    )
    candidates = [
        (winner, 0.93, 1.5),
        (space.smallest, 0.9, 0.5),
        (changed(space.smallest, "resolution", 28), 0.91, 0.7),
    ]
    search = directory / "search" / "0123abcd"
    search.mkdir(parents=True)
    (search / "search.json").write_text("{}")
    for index, (architecture, top1, ms) in enumerate(candidates):
        evaluation = Evaluation(
            index=index,
            strategy="hwnas",
            origin="initial",
            architecture=architecture,
            top1=top1,
            predicted_ms=ms,
            std_ms=0.1,
            seconds=1.0,
        )
        append_json_line(search / "evaluations.jsonl", evaluation)
    Steps(directory).do("search", {}, lambda: [search / "search.json"], lambda: None)
    path = directory / "models" / f"{winner.id}.onnx"
    model = export_subnet(supernet, winner, dataset, path)
    assert model.parity is not None
    write_json(
        path.with_suffix(".json"),
        ExportRecord(sha256=model.sha256, opset=model.opset, ir_version=model.ir_version, parity=model.parity),
    )
    promise = Measurement(gated=Latency(p50_ms=1.4, samples=1000))
    write_json(
        directory / "winner.json",
        WinnerDocument(id=winner.id, architecture=winner.to_json(), promise=promise, promised_ms=1.4, broke_budget=()),
    )
    write_json(directory / "summary.json", summary(winner))
    return directory


def changed(architecture: Architecture, choice: str, value: int) -> Architecture:
    record = architecture.to_json()
    return Architecture.from_json(record | {"choices": record["choices"] | {choice: value}})


def summary(winner: Architecture) -> Summary:
    return Summary(
        run="Fashion_1",
        target="host-cpu",
        space=SPACE,
        dataset="fashion-mnist",
        budget_ms=2.0,
        budget_source="given",
        statistic="p50",
        arrival="back-to-back",
        basis="gated",
        architecture=winner.id,
        predicted_ms=1.5,
        predicted_std_ms=0.1,
        promised_ms=1.4,
        promised_interval_ms=None,
        promise_builds=3,
        measured_p50_ms=1.4,
        measured_p99_ms=None,
        ungated_p50_ms=1.6,
        ungated_p99_ms=None,
        top1=0.92,
        top1_validation=0.93,
        yardsticks=(),
        evaluations=3,
        seconds_per_step={},
        report="report.html",
    )


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """This user's keys, one that signs."""
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    store = KeyStore()
    store.new("ops")
    return store


def arrays(bundle: Path, *names: str) -> list[Any]:
    return [np.load(bundle / name, allow_pickle=False) for name in names]


def outputs(model: Path, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": image[None]})[0] for image in inputs])


# --- of a run --------------------------------------------------------------------------------------------------


def test_a_runs_winner_is_bundled_with_its_promise_and_where_it_is_from(
    run: Path, winner: Architecture, dataset: Dataset, tmp_path: Path
) -> None:
    made = told("bundle", run, "--out", tmp_path, "--memory", "64")
    bundle = verify_bundle(Path(made["archive"]), KeyStore().trusted())
    assert made["digest"] == bundle.digest
    manifest = bundle.manifest
    assert (manifest.name, manifest.version) == ("fashion-1", 1)
    (model,) = manifest.models
    assert (model.id, model.accuracy, model.expected_ms) == (winner.id, 0.92, 1.4)
    assert model.budget == Limits(statistic="p50", latency_ms=2.0, memory_mib=64)
    assert manifest.checked is not None
    assert (manifest.checked.target, manifest.checked.table) == ("host-cpu", TABLE.name)
    provenance = manifest.provenance
    assert provenance.architectures == {winner.id: winner.to_json()}
    assert provenance.supernet_sha256 == load_record(require_supernet(SPACE, dataset)).weights_sha256
    assert provenance.accuracy_of == "test images of fashion-mnist, by the engine"
    path = Path(made["path"])
    assert (path / model.onnx).read_bytes() == (run / "models" / f"{winner.id}.onnx").read_bytes()
    assert json.loads((path / "labels.json").read_text())["labels"] == list(dataset.class_names)
    preprocessing = json.loads((path / "preprocessing.json").read_text())
    assert preprocessing["resize"] == {"height": 24, "width": 24, "method": "bilinear", "antialias": True}
    assert preprocessing["mean"] == pytest.approx(list(dataset.mean))
    assert read_manifest(bundle.payload).digest == bundle.digest, "a board reads it"


def test_golden_answers_and_samples_are_what_the_bundled_model_gives_to_real_pictures(
    run: Path, dataset: Dataset, tmp_path: Path
) -> None:
    made = told("bundle", run, "--out", tmp_path, "--golden", "5", "--samples", "40")
    path, manifest = Path(made["path"]), Manifest.model_validate(made["manifest"])
    (model,) = manifest.models
    assert isinstance(model.golden, Golden)
    inputs, golden, images, labels = arrays(
        path, model.golden.inputs, model.golden.outputs, "samples/images.npy", "samples/labels.npy"
    )
    assert (inputs.shape, golden.shape) == ((5, 3, 24, 24), (5, 10))
    assert (images.dtype, labels.dtype, len(images)) == (np.float32, np.int64, 40)
    np.testing.assert_array_equal(inputs, images[:5])
    found = outputs(path / model.onnx, images)
    np.testing.assert_allclose(found[:5], golden, atol=model.golden.absolute, rtol=model.golden.relative)
    right = np.mean(found.argmax(axis=1) == labels)
    assert manifest.samples is not None
    assert 0.6 < manifest.samples.least_accuracy <= right
    assert len(set(labels.tolist())) > 5, "spread over the split"
    wrong = outputs(path / model.onnx, images[:5] * np.float32(1.1))
    assert not np.allclose(wrong, golden, atol=model.golden.absolute, rtol=model.golden.relative)


def test_a_pareto_set_is_of_one_resolution_and_the_most_accurate_first(
    run: Path, winner: Architecture, space: Space, tmp_path: Path
) -> None:
    made = told("bundle", run, "--out", tmp_path, "--pareto", "3", "--samples", "20")
    models = made["manifest"]["models"]
    assert [(each["id"], each["accuracy"]) for each in models] == [(winner.id, 0.93), (space.smallest.id, 0.9)]
    assert [each["expected_ms"] for each in models] == [1.4, 0.5]
    assert made["manifest"]["provenance"]["accuracy_of"] == "validation images of fashion-mnist"
    assert made["manifest"]["samples"]["least_accuracy"] > 0.6, "of every one"
    onnx.checker.check_model(str(Path(made["path"]) / models[1]["onnx"]))


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first, second = (
        told("bundle", run, "--out", tmp_path / name, "--version", "3", "--samples", "10") for name in ("a", "b")
    )
    assert Path(first["archive"]).read_bytes() == Path(second["archive"]).read_bytes()
    again = told("bundle", run, "--out", tmp_path / "a", "--version", "3", "--samples", "10")
    assert again["digest"] == first["digest"]
    assert told("bundle", run, "--out", tmp_path / "a", "--samples", "10")["manifest"]["version"] == 4


def test_runs_that_are_not_whole_are_refused(run: Path, winner: Architecture, tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="holds no finished run; end it with `hwnas run --name"):
        FinishedRun(tmp_path)
    copy = shutil.copytree(run, tmp_path / "copy")
    with (copy / "models" / f"{winner.id}.onnx").open("ab") as model:
        model.write(b"x")
    with pytest.raises(BadFileError, match="is not the one that the run wrote"):
        FinishedRun(copy).content("x")


# --- of ONNX files ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loose(run: Path, winner: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(run / "models" / f"{winner.id}.onnx", tmp_path_factory.mktemp("loose") / "My_Net.onnx"))


def test_an_onnx_file_and_a_target_make_a_bundle_with_a_prebuilt_engine(loose: Path, tmp_path: Path) -> None:
    made = told(
        *("bundle", loose, "--target", "host-cpu", "--data", "fashion-mnist", "--budget", "5", "--table", TABLE),
        *("--out", tmp_path, "--samples", "10", "--prebuild", "host-cpu"),
    )
    manifest = made["manifest"]
    (model,) = manifest["models"]
    assert (manifest["name"], model["id"]) == ("my-net", "my-net")
    assert 0.8 < model["accuracy"] < 1
    assert model["budget"] == {"statistic": "p99", "latency_ms": 5.0, "memory_mib": None}
    (engine,) = model["engines"]
    assert (engine["runtime"], engine["options"]["provider"]) == ("onnxruntime", "CPUExecutionProvider")
    assert (Path(made["path"]) / engine["file"]).stat().st_size > 10_000
    assert manifest["checked"]["table"] == TABLE.name
    assert manifest["provenance"]["space"] == SPACE
    verify_bundle(Path(made["path"]), KeyStore().trusted())


def test_without_pictures_noise_is_golden_and_nothing_is_labelled(loose: Path, tmp_path: Path) -> None:
    made = told("bundle", loose, "--target", "host-cpu", "--out", tmp_path)
    manifest = made["manifest"]
    assert (manifest["samples"], manifest["models"][0]["accuracy"]) == (None, None)
    assert manifest["provenance"]["inputs_of"] == "noise of seed 0"
    inputs, golden = arrays(
        Path(made["path"]), *(manifest["models"][0]["golden"][name] for name in ("inputs", "outputs"))
    )
    assert inputs.shape == (8, 3, 24, 24) and golden.shape == (8, 10)


def network(loose: Path, batch: int) -> BundledNetwork:
    """The network with another batch."""
    model = onnx.load(loose)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return BundledNetwork("net", model.SerializeToString(), Limits())


def test_golden_inputs_fill_whole_batches(loose: Path, dataset: Dataset) -> None:
    content = bundle_content(
        "x", [network(loose, 3)], CompileOptions(), dataset, {}, options=BundleOptions(golden=4, samples=5)
    )
    (model,) = content.models
    (logits,) = model.golden.outputs
    assert len(model.golden.inputs) == len(logits.values) == 6
    assert content.samples is not None
    np.testing.assert_array_equal(model.golden.inputs[:5], content.samples.images)
    np.testing.assert_array_equal(model.golden.inputs[5], content.samples.images[0])
    np.testing.assert_allclose(logits.values[5], logits.values[0], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{loose}"], "An ONNX file does not say what it is for; give --target."),
        (["{loose}", "--target", "host-cpu", "--pareto", "2"], "--pareto chooses among the networks of a run"),
        (["{loose}", "--target", "host-cpu", "--precision", "int4"], "has no precision"),
        (
            ["{loose}", "--target", "host-cpu", "--runtime", "torch"],
            "which runtime torch does not take; choose another",
        ),
        (["{loose}", "--target", "host-cpu", "--statistic", "p90"], "--statistic is p50 or p99, not 'p90'."),
        (["{loose}", "--target", "host-cpu", "--name", "A b"], "'A b' cannot name a bundle"),
        (["{loose}", "--target", "host-cpu", "--budget", "0"], "field 'latency_ms': input should be greater than 0"),
        (["{run}", "--memory", "0"], "field 'memory_mib': input should be greater than 0"),
        (["{loose}", "--target", "host-cpu", "--key", "none"], "There is no key 'none'"),
        (["{loose}", "--target", "host-cpu", "--table", "none.json"], "none.json does not exist"),
        (["{run}", "--target", "host-cpu"], "A run knows its target, runtime, data, budget and table"),
        (["{run}", "{loose}"], "One bundle is of one run's directory, or of ONNX files"),
        (["{run}/none.onnx", "--target", "host-cpu"], "none.onnx does not exist"),
        (["{run}/config.json", "--target", "host-cpu"], "config.json is not ONNX"),
        (["{run}", "--least-accuracy", "1", "--samples", "100"], "less than the 100.0% that --least-accuracy asks"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], sentence: str, run: Path, loose: Path, tmp_path: Path
) -> None:
    filled = [argument.format(run=run, loose=loose) for argument in arguments]
    assert sentence in hwnas("bundle", *filled, "--out", tmp_path / "bundles", status=2)
    assert not (tmp_path / "bundles").exists()


def test_models_that_are_fed_otherwise_make_no_bundle(loose: Path) -> None:
    other = onnx.load(loose)
    next(entry for entry in other.metadata_props if entry.key == "hwnas.mean").value = "[0, 0, 0]"
    blind = BundledNetwork("blind", other.SerializeToString(), Limits())
    with pytest.raises(UserError, match="must take the same input"):
        bundle_content("x", [network(loose, 1), blind], CompileOptions(), None, {})
    with pytest.raises(UserError, match="choose architectures of one resolution"):
        bundle_content("x", [network(loose, 1), network(loose, 2)], CompileOptions(), None, {})


@pytest.mark.parametrize(
    ("batch", "prebuild", "sentence"),
    [(2, (), "must take the same input"), (1, ("host-cpx",), "there is no target 'host-cpx'")],
)
def test_what_makes_no_bundle_is_refused_before_anything_is_computed(
    batch: int, prebuild: tuple[str, ...], sentence: str, loose: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(network(loose, batch).content)
    request = BundleRequest([loose, other], target="host-cpu", data="fashion-mnist")
    drawn = Progress(disable=True)
    with pytest.raises(UserError, match=sentence):
        request.content(BundleOptions(prebuild=prebuild), Bars(drawn))
    assert drawn.tasks == []


@pytest.mark.parametrize(
    ("text", "name"), [("My_Net.v2", "my-net-v2"), ("__", "model"), ("a" * 99, "a" * 64), ("0cb08d2f4c15becd",) * 2]
)
def test_every_file_name_gives_a_name(text: str, name: str) -> None:
    assert network_id(text) == name

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from hwnas.data import Dataset, ImageSet, load_dataset
from hwnas.errors import DivergedError, UserError
from hwnas.export import (
    CALIBRATIONS,
    AccuracyLostError,
    Calibration,
    ExportError,
    FineTuning,
    Images,
    PairedLoss,
    QuantizationOptions,
    Sample,
    half_precision,
    load_model,
    quantization_images,
    quantize,
)
from hwnas.export.calibration import activation_scales
from hwnas.export.finetuning import _Network, finetune
from hwnas.export.half import chosen_tool
from hwnas.export.preparation import prepare
from hwnas.export.quantizers import OnnxRuntimeQuantizer
from hwnas.export.scoring import logits
from hwnas.export.sensitivity import Attempt, fewest_left
from hwnas.graphs import Remainder, insert_qdq, network_graph, quantisable_layers
from hwnas.pipeline.networks import export_subnet, open_supernet
from hwnas.pipeline.training import require_supernet
from hwnas.progress import Silent
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "graphs"))
sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from rtx import build, require_rtx

ROOT = Path(__file__).resolve().parents[2]

SPACE = get_space("mobilenet_v3/small", 10)
OWN = QuantizationOptions(tool="onnxruntime")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def noise(count: int, side: int, name: str = "noise", seed: int = 0) -> Sample:
    """Pictures of nothing with labels at random."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return Sample(name, ImageSet(pixels, torch.randint(0, 10, (count,), generator=generator)), MEAN, STD)


def side_of(model: ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[2].dim_value)


def random_network(seed: int, batch: int = 1) -> ModelProto:
    drawn = SPACE.decode(SPACE.sample(np.random.default_rng(seed), 1))[0]
    return network_graph(SPACE.blocks(drawn), seed=seed, batch=batch)


def three(model: ModelProto, count: int = 8) -> Images:
    side = side_of(model)
    return Images(noise(count, side, "a", 1), noise(count, side, "b", 2), noise(count, side, "c", 3))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("fashion-mnist")


@pytest.fixture(scope="module")
def subnet(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The smallest subnet with its shipped weights."""
    path = tmp_path_factory.mktemp("subnet") / "smallest.onnx"
    weights = open_supernet(require_supernet(SPACE.name, dataset), SPACE, dataset)
    export_subnet(weights, SPACE.smallest, dataset, path)
    return load_model(path)


# --- figures -----------------------------------------------------------------------------------------------------


def test_the_interval_of_a_paired_loss_is_the_published_one() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = before.copy()
    after[:6] = False
    after[90:92] = True
    loss = PairedLoss.of(before, after)
    assert (loss.n, loss.lost, loss.gained, loss.points) == (100, 6, 2, 4.0)
    # By hand: p12 = 7/102, p21 = 3/102, difference 0.03922, standard error √((0.09804 − 0.00154)/102).
    assert loss.low == pytest.approx(100 * (0.039216 - 1.959964 * 0.030758), abs=1e-3)
    assert loss.high == pytest.approx(100 * (0.039216 + 1.959964 * 0.030758), abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_a_loss_mirrors_the_gain_and_no_change_is_within_it(pairs: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(column) for column in zip(*pairs, strict=True))
    loss, gain = PairedLoss.of(before, after), PairedLoss.of(after, before)
    assert loss.points == pytest.approx(100 * (before.mean() - after.mean()))
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert -100 <= loss.low <= loss.high <= 100
    same = PairedLoss.of(before, before)
    assert same.points == 0
    assert same.low < 0 < same.high


# --- calibration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_a_scale_covers_what_occurs_and_not_more(method: Calibration) -> None:
    model = random_network(0)
    sample = noise(6, side_of(model))
    tensors = sorted({tensor for layer in quantisable_layers(model) for tensor in layer.tensors})
    largest = activation_scales(model, tensors, sample, "min-max", Silent())
    scales = activation_scales(model, tensors, sample, method, Silent())
    assert set(scales) == set(tensors)
    for tensor in tensors:
        # A histogram's edge may lie one bin beyond the largest value.
        assert 0.05 * largest[tensor] < scales[tensor] <= 1.01 * largest[tensor], tensor
    images = next(sample.batches(side_of(model), 6)).numpy()
    assert largest["input"] == pytest.approx(np.abs(images).max() / 127)


def test_a_batch_calibrates_as_its_images_do() -> None:
    one, four = random_network(1), random_network(1, batch=4)
    sample = noise(6, side_of(one))  # six images in batches of four: padding is no image
    tensors = [tensor for layer in quantisable_layers(one) for tensor in layer.tensors]
    alone = activation_scales(one, tensors, sample, "min-max", Silent())
    together = activation_scales(four, tensors, sample, "min-max", Silent())
    assert alone == pytest.approx(together, rel=1e-4)


def test_an_activation_that_is_not_finite_is_named() -> None:
    model = random_network(2)
    for tensor in model.graph.initializer:
        if tensor.name == "1.depthwise.conv.bias":
            bias = numpy_helper.to_array(tensor).copy()
            bias[0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    with pytest.raises(ExportError, match=r"(not finite for image 0 of the (a|b|c) images)"):
        quantize(model, three(model), OWN)
    tensors = [tensor for layer in quantisable_layers(model) for tensor in layer.tensors]
    with pytest.raises(ExportError, match=r"Activation '1\..*' is not finite for image 0 of the noise images"):
        activation_scales(model, tensors, noise(2, side_of(model)), "percentile", Silent())


# --- whole models ------------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), remainder=st.sampled_from(["fp32", "fp16"]))
def test_a_calibrated_random_subnet_computes_nearly_what_it_did(seed: int, remainder: Remainder) -> None:
    model = random_network(seed)
    sample = noise(4, side_of(model))
    layers = quantisable_layers(model)
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    scales = activation_scales(model, tensors, sample, "min-max", Silent())
    quantised = OnnxRuntimeQuantizer(model, scales).quantize(layers, remainder)
    onnx.checker.check_model(quantised, full_check=True)
    exact, found = (logits(form, sample, Silent()) for form in (model, quantised))
    assert 0 < np.linalg.norm(found - exact) < 0.5 * np.linalg.norm(exact)


def test_a_subnet_in_int8_on_real_pictures(subnet: ModelProto, dataset: Dataset) -> None:
    images = quantization_images(subnet, dataset, calibration=200, choice=400, scored=1000)
    result = quantize(subnet, images, OWN)
    record = result.record
    onnx.checker.check_model(result.model, full_check=True)
    assert record.kept == (record.scores["int8"].loss.points <= 0.5)  # type: ignore[union-attr]
    assert record.scores["int8"].loss.points <= 1.0  # type: ignore[union-attr]
    assert list(record.scores) == ["fp32", "fp16", "int8"]
    assert record.scores["fp32"].size_bytes > record.scores["fp16"].size_bytes > record.scores["int8"].size_bytes
    assert abs(record.scores["fp16"].loss.points) <= 0.5  # type: ignore[union-attr]
    used = [record.calibrated_on, record.chosen_on, record.scored_on]
    assert [(use.split, use.images) for use in used if use] == [("training", 200), ("validation", 400), ("test", 1000)]
    assert {name.split(".", 1)[1] for name in record.never} == {"se.reduce", "se.expand"}
    properties = {entry.key: entry.value for entry in result.model.metadata_props}
    source = {entry.key: entry.value for entry in subnet.metadata_props}
    assert properties.items() >= source.items()
    assert properties["hwnas.precision"] == "int8"
    assert json.loads(properties["hwnas.quantization"])["left"] == list(record.left)


def test_sensitive_layers_stay_until_the_loss_is_within_the_limit(subnet: ModelProto, dataset: Dataset) -> None:
    broken = ModelProto()
    broken.CopyFrom(subnet)
    # A channel of a depthwise convolution with a huge scale that the next layer takes back: a range of 1 in 3000.
    enlarge(broken, "2.depthwise.conv", "2.project.conv", 3000.0)
    images = quantization_images(broken, dataset, calibration=100, choice=300, scored=400)
    result = quantize(broken, images, OWN)
    record = result.record
    assert record.left[0] == "2.project.conv"  # whose input it is
    assert list(record.sensitivities)[: len(record.left)] == list(record.left)
    assert record.choice_loss is not None and record.choice_loss.points <= 0.5
    floating = {node.name for node in result.model.graph.node if node.op_type == "Conv" and is_float(node.input[1])}
    assert set(record.left) <= floating


def is_float(name: str) -> bool:
    return not name.endswith(".dequantized")


def enlarge(model: ModelProto, first: str, second: str, factor: float) -> None:
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, axis, by in (
        (f"{first}.weight", 0, factor),
        (f"{first}.bias", 0, factor),
        (f"{second}.weight", 1, 1 / factor),
    ):
        array = numpy_helper.to_array(arrays[name]).copy()
        array[(slice(None),) * axis + (0,)] *= by
        arrays[name].CopyFrom(numpy_helper.from_array(array, name))


def test_a_limit_that_cannot_be_kept_is_told_with_the_best_reached(subnet: ModelProto, dataset: Dataset) -> None:
    images = quantization_images(subnet, dataset, calibration=20, choice=50, scored=100)
    options = QuantizationOptions(tool="onnxruntime", remainder="fp32", max_drop=-50)
    record = quantize(subnet, images, options).record
    assert not record.kept
    with pytest.raises(AccuracyLostError, match=r"out\.onnx loses -?[\d.]+ points .* -50 are allowed.*best that was"):
        record.require_kept(Path("out.onnx"))


def test_nvidias_quantiser_where_it_is_installed(subnet: ModelProto, dataset: Dataset) -> None:
    pytest.importorskip("modelopt", reason="needs nvidia-modelopt (hwnas[modelopt])")
    images = quantization_images(subnet, dataset, calibration=64, choice=100, scored=300)
    for remainder in ("fp32", "fp16"):
        options = QuantizationOptions(tool="nvidia-modelopt", calibration="entropy", max_drop=2, remainder=remainder)
        result = quantize(subnet, images, options)
        assert result.record.scores["int8"].made_by.startswith("nvidia-modelopt ")
        assert "AutoCast" in result.record.scores["fp16"].made_by
        assert result.record.scores["int8"].loss.points <= 3  # type: ignore[union-attr]
        onnx.checker.check_model(result.model, full_check=True)
        assert build(result.model) > 0
        # It keeps to the layers asked for, but for a small matrix product.
        assert {name for name in result.record.never if ".se." not in name} <= {"9.classifier"}
    with pytest.raises(UserError, match="calibrates by entropy and min-max, not by percentile"):
        quantize(subnet, images, QuantizationOptions(tool="nvidia-modelopt"))


def test_without_nvidias_quantiser_onnx_runtime_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert chosen_tool("auto") == "onnxruntime"
    with pytest.raises(ExportError, match=r"install hwnas\[modelopt\] or choose onnxruntime"):
        chosen_tool("nvidia-modelopt")


def test_half_precision_alone(subnet: ModelProto, dataset: Dataset) -> None:
    images = quantization_images(subnet, dataset, calibration=1, choice=1, scored=200)
    for keep_io, kind in ((True, TensorProto.FLOAT), (False, TensorProto.FLOAT16)):
        model, made_by = half_precision(subnet, tool="onnxruntime", keep_io=keep_io)
        assert {end.type.tensor_type.elem_type for end in [*model.graph.input, *model.graph.output]} == {kind}
        assert made_by.startswith("onnxruntime ")
        onnx.checker.check_model(model, full_check=True)
    record = quantize(subnet, images, QuantizationOptions(precision="fp16", tool="onnxruntime", keep_io=keep_io)).record
    assert list(record.scores) == ["fp32", "fp16"]
    assert (record.calibration, record.calibrated_on, record.left) == (None, None, ())
    assert record.kept


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [({0}, 0), ({1, 2, 3, 4, 5, 6, 7, 8, 9}, 1), ({6, 7, 8, 9}, 6), ({9}, 9), (set(), None)],
)
def test_the_fewest_layers_are_left(accepted: set[int], expected: int | None) -> None:
    ranked = [f"layer {number}" for number in range(10)]

    def attempt(left: object) -> Attempt:
        names = tuple(left)  # type: ignore[arg-type, var-annotated]
        lost = 0 if len(names) in accepted else 20 - len(names)
        hits: npt.NDArray[np.bool_] = np.ones(100, bool)
        return Attempt(names, PairedLoss.of(hits, np.arange(100) >= lost))

    found = fewest_left(ranked, attempt, 0.5)
    assert found.left == tuple(ranked[: 9 if expected is None else expected])


# --- fine-tuning -------------------------------------------------------------------------------------------------


def test_what_is_trained_is_what_onnx_computes() -> None:
    model = prepare(random_network(5))
    layers = quantisable_layers(model)
    sample = noise(4, side_of(model))
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    scales = activation_scales(model, tensors, sample, "min-max", Silent())
    network = _Network(model)
    images = next(sample.batches(side_of(model), 4))
    with torch.no_grad():
        plain = network(images).numpy()
        network.quantise(layers, scales)
        fake = network(images).numpy()
    exact = logits(model, sample, Silent())
    quantised = logits(insert_qdq(model, layers, scales), sample, Silent())
    np.testing.assert_allclose(plain, exact, atol=1e-4 * np.abs(exact).max())
    # A value that lies between two steps may fall to either, for convolutions sum in another order.
    assert np.linalg.norm(fake - quantised) < 0.1 * np.linalg.norm(quantised - exact) + 1e-3 * np.linalg.norm(exact)
    assert network.model().SerializeToString() == model.SerializeToString()


def test_fine_tuning_brings_int8_nearer_to_the_floating_point_model(subnet: ModelProto, dataset: Dataset) -> None:
    model = prepare(subnet)
    layers = quantisable_layers(model)
    images = quantization_images(subnet, dataset, calibration=50, scored=300)
    assert images.training is not None
    tensors = [tensor for layer in layers for tensor in layer.tensors]
    # Four times too coarse: about six bits, where there is something to learn.
    scales = {t: 4 * s for t, s in activation_scales(model, tensors, images.calibration, "min-max", Silent()).items()}
    tuned, report = finetune(model, layers, scales, images.training, FineTuning(steps=40), Silent())
    assert report["divergence_last"] < 0.8 * report["divergence_first"]
    exact = torch.from_numpy(logits(model, images.scored, Silent())).log_softmax(1)

    def divergence(form: ModelProto) -> float:
        answers = torch.from_numpy(logits(insert_qdq(form, layers, scales), images.scored, Silent())).log_softmax(1)
        return float((exact.exp() * (exact - answers)).sum(1).mean())

    assert divergence(tuned) < 0.8 * divergence(model)


def test_fine_tuning_is_done_where_quantisation_alone_misses(subnet: ModelProto, dataset: Dataset) -> None:
    images = quantization_images(subnet, dataset, calibration=20, choice=40, scored=50)
    options = QuantizationOptions(tool="onnxruntime", remainder="fp32", max_drop=-50, finetuning=FineTuning(steps=2))
    record = quantize(subnet, images, options).record
    assert record.finetuning["steps"] == 2
    easy = QuantizationOptions(tool="onnxruntime", remainder="fp32", max_drop=50, finetuning=FineTuning(steps=2))
    assert not quantize(subnet, images, easy).record.finetuning


def test_bad_fine_tunings_are_refused() -> None:
    model = prepare(random_network(6))
    layers = quantisable_layers(model)
    scales = dict.fromkeys((tensor for layer in layers for tensor in layer.tensors), 0.05)
    with pytest.raises(UserError, match="takes 64 images a step, but the noise split gives 3"):
        finetune(model, layers, scales, noise(3, side_of(model)), FineTuning(), Silent())
    fast = FineTuning(steps=20, batch_size=4, learning_rate=1e37)
    with pytest.raises(DivergedError, match="lower its learning rate"):
        finetune(model, layers, scales, noise(8, side_of(model)), fast, Silent())


# --- inputs that are refused -------------------------------------------------------------------------------------


def small(op: str, shape: list[int | str], weight: bool) -> ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "weight")] if weight else []
    node = helper.make_node(op, ["input", *(["weight"] if weight else [])], ["output"])
    graph = helper.make_graph([node], "small", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_models_that_cannot_be_quantised_are_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"no layer that can be quantised: none of its operators \(Softmax\)"):
        prepare(small("Softmax", [1, 3, 8, 8], weight=False))
    with pytest.raises(UserError, match="not one static input"):
        prepare(small("Conv", ["n", 3, 8, 8], weight=True))
    with pytest.raises(UserError, match="not one static input"):
        prepare(small("Conv", [1, 3, 8, 4], weight=True))
    old = small("Conv", [1, 3, 8, 8], weight=True)
    old.opset_import[0].version = 11
    with pytest.raises(UserError, match="opset 11, but Q and DQ need 13"):
        prepare(old)
    with pytest.raises(UserError, match="float16 already"):
        prepare(half_precision(random_network(0), tool="onnxruntime")[0])


def test_a_quantised_model_is_not_quantised_again() -> None:
    model = random_network(0)
    layers = quantisable_layers(model)
    scales = dict.fromkeys((tensor for layer in layers for tensor in layer.tensors), 0.05)
    with pytest.raises(UserError, match=r"quantised already \(it has QuantizeLinear\)"):
        quantize(insert_qdq(model, layers, scales), three(model), OWN)


def test_images_are_needed_for_every_use(subnet: ModelProto, dataset: Dataset) -> None:
    model = random_network(0)
    some, none = noise(2, side_of(model)), noise(0, side_of(model))
    for name, images in {
        "calibration": Images(none, some, some),
        "choice": Images(some, none, some),
        "scored": Images(some, some, none),
    }.items():
        with pytest.raises(UserError, match=f"no {name} images"):
            quantize(model, images, OWN)
    with pytest.raises(UserError, match="no calibration images with 0"):
        quantization_images(subnet, dataset, calibration=0)
    with pytest.raises(UserError, match="1000 classes, data set fashion-mnist 10"):
        quantization_images(network_graph(get_space("mobilenet_v3/small", 1000).blocks(SPACE.smallest)), dataset)


def test_options_that_would_do_nothing_are_refused() -> None:
    model = random_network(0)
    with pytest.raises(UserError, match="--half-io"):
        quantize(model, three(model), QuantizationOptions(keep_io=False))
    with pytest.raises(UserError, match="--finetune"):
        quantize(model, three(model), QuantizationOptions(precision="fp16", finetuning=FineTuning()))


def test_an_operator_without_int8_stays_as_it_is() -> None:
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 8, 8])]
    outs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3])]
    weights = [numpy_helper.from_array(np.random.default_rng(0).standard_normal((3, 3, 1, 1)).astype(np.float32), "w")]
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], name="conv"),
        helper.make_node("Conv", ["a", "a_weight"], ["b"], name="dynamic"),
        helper.make_node("GlobalMaxPool", ["b"], ["c"], name="max"),
        helper.make_node("Flatten", ["c"], ["output"], name="flatten"),
    ]
    nodes.insert(1, helper.make_node("Slice", ["a", "start", "end"], ["cut"], name="cut"))
    nodes.insert(2, helper.make_node("Reshape", ["cut", "shape"], ["a_weight"], name="weight"))
    weights += [
        numpy_helper.from_array(np.array([0, 0, 0, 0], np.int64), "start"),
        numpy_helper.from_array(np.array([1, 3, 1, 3], np.int64), "end"),
        numpy_helper.from_array(np.array([3, 3, 1, 1], np.int64), "shape"),
    ]
    graph = helper.make_graph(nodes, "mixed", ends, outs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    images = Images(noise(4, 8, "a", 1), noise(4, 8, "b", 2), noise(4, 8, "c", 3))
    options = QuantizationOptions(tool="onnxruntime", max_drop=100)
    record = quantize(model, images, options).record
    assert record.layers == 1
    assert record.never == ("dynamic",)


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------


def lite0_images(shared_data: Path, calibrate: int, choose: int, scored: int | None) -> Images:
    efficientnet = pytest.importorskip("efficientnet_lite0")
    path = shared_data / "imagenet_sample_1000.parquet"
    if not path.exists():
        pytest.skip(f"needs {path}")
    pictures = efficientnet.pictures(path)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pictures)))

    def sample(name: str, begin: int, end: int | None) -> Sample:
        rows = order[begin:end]
        return Sample(name, ImageSet(pictures.pixels[rows], pictures.labels[rows]), efficientnet.MEAN, efficientnet.STD)

    end = None if scored is None else calibrate + choose + scored
    return Images(
        sample("calibration", 0, calibrate),
        sample("choice", calibrate, calibrate + choose),
        sample("scored", calibrate + choose, end),
    )


@pytest.fixture(scope="module")
def lite0() -> ModelProto:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs hwnas[dev]")
    import efficientnet_lite0

    model: ModelProto = efficientnet_lite0.exported()
    return model


def test_efficientnet_lite0_in_int8_on_some_training_pictures(lite0: ModelProto, shared_data: Path) -> None:
    options = QuantizationOptions(tool="onnxruntime", remainder="fp32", max_drop=4, calibration="min-max")
    result = quantize(lite0, lite0_images(shared_data, 30, 50, 120), options)
    scores = result.record.scores
    assert scores["fp32"].top1 > 0.8  # training pictures, not ImageNet accuracy
    assert scores["int8"].loss is not None
    assert scores["int8"].loss.low <= 1.0
    assert scores["int8"].loss.points <= 4
    require_rtx()
    assert build(result.model) > 0


def test_nvidias_builder_takes_efficientnet_lite0_in_fp16_and_int8(lite0: ModelProto) -> None:
    require_rtx()
    assert build(half_precision(lite0, tool="onnxruntime")[0]) > 0
    model = prepare(lite0)
    layers = quantisable_layers(model)
    scales = dict.fromkeys((tensor for layer in layers for tensor in layer.tensors), 0.05)
    for left in (layers, layers[3:-1]):
        assert build(OnnxRuntimeQuantizer(model, scales).quantize(left, "fp16")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lite0", "winner"])
def test_int8_keeps_its_limit_on_all_pictures(network: str, shared_data: Path) -> None:
    import subprocess

    command = [sys.executable, "scripts/bench_quantization.py", "--network", network, "--json"]
    command += ["--pictures", str(shared_data / "imagenet_sample_1000.parquet")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout.splitlines()[-1])[network]
    assert record["scores"]["int8"]["loss"]["points"] <= {"lite0": 1.0, "winner": 0.5}[network]
    assert record["scored_on"]["images"] == {"lite0": 800, "winner": 10_000}[network]

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from hwnas.agent.knobs import WarmUp
from hwnas.data import Dataset, ImageSet, to_input
from hwnas.data.detection import DetectionDataset
from hwnas.devices import CompileOptions, Device, Measurement, MeasureOptions, load_target, open_device
from hwnas.errors import BadFileError, DeviceError, UserError
from hwnas.export import BenchmarkOptions, BenchmarkResult, Timing, benchmark, export_onnx
from hwnas.export.engine_scores import IMAGES_AT_ONCE
from hwnas.progress import Silent
from hwnas.spaces import get_space
from hwnas.supernet import PlainNetwork, recalibrate

SIDE, CLASSES = 24, 4


def a_dataset(images: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, 20, 20), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    return Dataset(
        name="noise",
        class_names=tuple("abcd"),
        mean=(0.5, 0.5, 0.5),
        std=(0.3, 0.3, 0.3),
        fingerprint="0" * 64,
        readers={"test": lambda: ImageSet(pixels, labels)},
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return a_dataset(IMAGES_AT_ONCE + 30)


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> Tensor:
    return to_input(dataset.test.pixels, SIDE, dataset.mean, dataset.std)


@pytest.fixture(scope="module")
def network(images: Tensor) -> PlainNetwork:
    torch.manual_seed(0)
    space = get_space("mobilenet_v3/small", CLASSES)
    network = PlainNetwork(space.blocks(space.smallest))
    torch.nn.init.normal_(cast(torch.nn.Linear, network[-1].classifier).weight)
    recalibrate(network, [images])
    return network


@pytest.fixture(scope="module", params=[1, 4])
def model(network: PlainNetwork, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("models") / "model.onnx"
    export_onnx(network, SIDE, path, metadata={}, batch=request.param)
    return path


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device(load_target("host-cpu")) as device:
        yield device


class Bars(Silent):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.totals: list[float] = []
        self.done: list[float] = []
        self.finished = 0

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        self.totals.append(total)
        self.done.append(done)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.done[-1] += amount

    def finish(self) -> None:
        self.finished += 1


QUICK = BenchmarkOptions(measure=MeasureOptions(min_samples=70, max_seconds=0.3), max_seconds=2.0)


def test_a_real_engine_is_timed_weighed_and_scored(
    device: Device, network: PlainNetwork, model: Path, dataset: Dataset, images: Tensor, tmp_path: Path
) -> None:
    bars = Bars()
    result = benchmark(device, "smallest", model, dataset, SIDE, options=QUICK, progress=bars)
    with torch.no_grad():
        expected = float((network(images).argmax(1) == dataset.test.labels).float().mean())
    assert 0 < expected < 1
    # The compiled engine may break a near tie otherwise than torch.
    assert result.top1 == pytest.approx(expected, abs=1.01 / len(images))
    assert (result.top1_images, result.top1_missing) == (len(images), None)
    assert result.classification is not None
    assert (result.classification.top1, result.classification.images) == (result.top1, len(images))
    assert [scores.name for scores in result.classification.classes] == list(dataset.class_names)

    assert result.onnx_bytes == model.stat().st_size
    assert result.engine_bytes > 0
    assert 0 < result.engine_memory_mib < result.peak_memory_mib
    assert result.identity8 == device.fingerprint().identity8
    assert (result.batch, result.resolution) in [(1, SIDE), (4, SIDE)]
    assert (result.runtime, result.precision, result.threads) == ("onnxruntime", "fp32", 1)

    samples = [time for measurement in result.measurements for batch in measurement.samples_ns for time in batch]
    assert result.ungated.n == len(samples) >= result.gated.n
    assert result.ungated.p50_ms == sorted(samples)[-(-len(samples) // 2) - 1] / 1e6
    assert result.ungated.images_per_s == pytest.approx(result.batch * len(samples) / (sum(samples) / 1e9))
    assert result.ungated.p99_ms is None or len(samples) >= 662

    assert bars.totals == [70, len(images)]
    assert bars.done[0] <= 70
    assert bars.done[1] == len(images)
    assert bars.finished == 2
    assert BenchmarkResult.model_validate_json(result.model_dump_json()) == result


def test_an_untrained_network_has_a_reason_in_place_of_an_accuracy(device: Device, model: Path) -> None:
    result = benchmark(device, "untrained", model, None, SIDE, top1_missing="its weights are random", options=QUICK)
    assert (result.top1, result.top1_missing, result.top1_images) == (None, "its weights are random", 0)
    with pytest.raises(ValidationError, match="either top1 or the reason"):
        BenchmarkResult.model_validate({**result.model_dump(by_alias=True), "top1_missing": None})


@pytest.mark.parametrize("reason", [None, "both"])
def test_accuracy_and_its_absence_exclude_each_other(device: Device, dataset: Dataset, reason: str | None) -> None:
    with pytest.raises(ValueError, match="either a data set or the reason"):
        benchmark(device, "x", Path("x"), dataset if reason else None, SIDE, top1_missing=reason)


def test_what_does_not_fit_is_refused_and_leaves_nothing_on_the_device(device: Device, model: Path) -> None:
    three = Dataset("three", ("a", "b", "c"), (0.5,) * 3, (0.5,) * 3, "0" * 64, {})
    with pytest.raises(UserError, match="has 4 classes, data set three 3"):
        benchmark(device, "x", model, three, SIDE)
    with pytest.raises(UserError, match=r"takes \[3, 24, 24\], not images of 32 pixels"):
        benchmark(device, "x", model, None, 32, top1_missing="random")
    with pytest.raises(UserError, match="gives logits, and data set boxes holds pictures with boxes"):
        benchmark(device, "x", model, DetectionDataset("boxes", tuple("abcd"), (0.5,) * 3, (0.5,) * 3, "0", {}), SIDE)
    with pytest.raises(BadFileError, match=r"missing\.onnx does not exist"):
        benchmark(device, "x", model.with_name("missing.onnx"), None, SIDE, top1_missing="random")


class FakeDevice:
    """A device whose measurements are given, each ``(samples a batch, canary, fast state known after it)`` in µs."""

    target = load_target("host-cpu").model_copy(update={"name": "fake"})

    def __init__(self, pieces: list[tuple[int, int, int]], logits: float = 0.0) -> None:
        self.pieces = pieces
        self.logits = logits
        self.asked: list[int] = []
        self.soaked: list[float] = []
        self.released: list[str] = []

    def default_options(self) -> CompileOptions:
        return CompileOptions()

    def fingerprint(self, options: CompileOptions) -> Any:
        return SimpleNamespace(identity8="01234567")

    def compile(self, onnx: bytes, options: CompileOptions) -> Any:
        tensors = [
            SimpleNamespace(name="image", shape=(1, 3, SIDE, SIDE)),
            SimpleNamespace(name="logits", shape=(1, CLASSES)),
        ]
        figures = {"size_bytes": 1, "build_s": 1.0, "load_s": 1.0, "onnx_sha256": "0" * 64}
        return SimpleNamespace(id="e", inputs=tensors[:1], outputs=tensors[1:], options=options, **figures)

    def measure(self, engine: Any, options: MeasureOptions) -> Measurement:
        self.asked.append(options.min_samples)
        self.soaked.append(options.soak_seconds)
        count, canary, fast = self.pieces[min(len(self.asked), len(self.pieces)) - 1]
        return Measurement(
            protocol=options.as_protocol(),
            samples_ns=((1000 * canary,) * count,),
            canary_ns=((1000 * canary,) * 2,),
            clocks_moved=(False,),
            preempted=(False,),
            fast_state_ns=1000.0 * fast,
            complete=True,
            warmup=WarmUp(runs=1, seconds=0.1, stable=True, last_median_ns=1000),
            clocks=(),
            upload_ns=(1,),
            download_ns=(1,),
            timer_overhead_ns=0,
            canary_sha256="0" * 64,
            elapsed_s=1.0,
        )

    def peak_memory(self, engine: Any) -> Any:
        return SimpleNamespace(peak_bytes=2**21, engine_mib=1.0)

    def infer_all(self, engine: Any, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return {"logits": np.full((len(images), CLASSES), self.logits, np.float32)}

    def release(self, engine: Any) -> None:
        self.released.append(engine.id)

    def benchmark(self, path: Path, dataset: Dataset | None = None, **options: Any) -> BenchmarkResult:
        path.write_bytes(b"a model")
        missing = None if dataset else "fake"
        device = cast(Device, self)
        settings = BenchmarkOptions(measure=MeasureOptions(min_samples=100), **options)
        return benchmark(device, "fake", path, dataset, SIDE, top1_missing=missing, options=settings)


def test_samples_taken_before_a_faster_state_was_known_are_judged_again(tmp_path: Path) -> None:
    # The second request learns that the first ran in a slow state: none of its 80 samples counts any longer.
    fake = FakeDevice([(80, 180, 180), (60, 100, 100), (60, 100, 100)])
    result = fake.benchmark(tmp_path / "m.onnx")
    assert fake.asked == [100, 20, 40]
    assert fake.soaked == [0.0, 0.0, 0.0]
    assert result.gated.n == 120
    assert result.gated.p50_ms == pytest.approx(0.1)
    assert result.ungated.n == 200
    assert result.fast_state_ms == pytest.approx(0.1)
    assert fake.released == ["e"]


def test_a_board_of_its_own_is_soaked_once_and_timed_for_all_samples(tmp_path: Path) -> None:
    fake = FakeDevice([(80, 180, 100), (60, 180, 100)])
    fake.target = fake.target.model_copy(update={"shared": False, "soak_seconds": 12.0})
    result = fake.benchmark(tmp_path / "m.onnx")
    assert fake.asked == [100, 20]
    assert fake.soaked == [12.0, 0.0]
    assert (result.gated.n, result.ungated.n) == (0, 140)


def test_results_can_be_compared_by_one_fast_state(tmp_path: Path) -> None:
    result = FakeDevice([(120, 105, 105)]).benchmark(tmp_path / "m.onnx")
    assert result.gated.p50_ms == pytest.approx(0.105)
    faster = result.judged(0.1)
    assert faster.fast_state_ms == 0.1
    assert faster.gated.p50_ms == pytest.approx(0.1)  # the drift of 5 % is divided out
    assert faster.ungated == result.ungated
    assert result.judged(0.05).gated.n == 0
    assert BenchmarkResult.model_validate_json(faster.model_dump_json()) == faster


def test_when_the_fast_state_never_comes_nothing_is_invented(tmp_path: Path) -> None:
    fake = FakeDevice([(50, 180, 100)])
    result = fake.benchmark(tmp_path / "m.onnx", max_seconds=3.0)
    assert len(fake.asked) == 3
    assert result.gated == Timing(n=0, p50_ms=None, p90_ms=None, p99_ms=None, mad_ms=None, images_per_s=None)
    assert result.ungated.n == 150


def test_logits_that_are_not_finite_are_no_accuracy(tmp_path: Path, dataset: Dataset) -> None:
    fake = FakeDevice([(100, 100, 100)], logits=float("nan"))
    with pytest.raises(DeviceError, match=r"'fake' gives logits that are not finite; its precision \(fp32\)"):
        fake.benchmark(tmp_path / "m.onnx", dataset)
    assert fake.released == ["e"]


def test_the_first_error_is_told_though_the_engine_cannot_be_removed(tmp_path: Path, dataset: Dataset) -> None:
    class Dying(FakeDevice):
        def measure(self, engine: Any, options: MeasureOptions) -> Measurement:
            raise DeviceError("died while measuring")

        def release(self, engine: Any) -> None:
            super().release(engine)
            raise DeviceError("cannot release")

    fake = Dying([])
    with pytest.raises(DeviceError, match="died while measuring"):
        fake.benchmark(tmp_path / "m.onnx", dataset)
    assert fake.released == ["e"]


def test_as_many_samples_are_wanted_by_default_as_state_a_p99() -> None:
    wanted = BenchmarkOptions().measure.min_samples
    assert Timing.of([1000.0] * wanted, 1).p99_ms is not None
    assert Timing.of([1000.0] * (wanted - 1), 1).p99_ms is None


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=900), st.integers(1, 64))
def test_a_timing_states_only_what_its_samples_allow(samples: list[int], batch: int) -> None:
    timing = Timing.of(samples, batch)
    assert timing.n == len(samples)
    assert (timing.p90_ms is not None) == (len(samples) >= 64)
    assert (timing.p99_ms is not None) == (len(samples) >= 662)
    slowest, fastest = batch * 1e9 / max(samples), batch * 1e9 / min(samples)
    assert timing.images_per_s is not None
    assert slowest * (1 - 1e-9) <= timing.images_per_s <= fastest * (1 + 1e-9)

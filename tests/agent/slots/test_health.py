"""Real engines are built and judged: the right ones pass, and each way to be wrong is found and named."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.agent.fingerprint import probe
from hwnas.agent.knobs import MeasuringProtocol
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import RuntimeOptions, open_runtime
from hwnas.agent.sensors import Clocks, Sensors
from hwnas.agent.slots import checks, health
from hwnas.agent.slots.building import Builder
from hwnas.agent.slots.health import Health
from hwnas.agent.slots.installing import install
from hwnas.agent.slots.manifest import Budget
from hwnas.agent.slots.slot_files import open_slot
from hwnas.agent.slots.slots import Slots
from hwnas.devices.fingerprint import Fingerprint
from tests.deploy.bundles import RUNTIME, TinyBundle, tiny_bundle
from tests.deploy.fakes import board, deliver, send
from tests.deploy.faults.disks import CountingDisk, FailingDisk


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return board(tmp_path / "root")


@pytest.fixture
def memory_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the two processes that look how much memory the engines take."""
    monkeypatch.setattr(checks, "measure_peak", lambda *_, **__: {"peak_bytes": 2 << 20, "baseline_bytes": 1 << 20})


def built(slots: Slots, bundle: TinyBundle) -> str:
    send(slots, bundle.archive, bundle.sha256)
    digest = slots.verify(bundle.sha256)
    slots.build(digest, Builder())
    return digest


def failed(slots: Slots, bundle: TinyBundle, **changes: Any) -> dict[str, dict[str, Any]]:
    """The checks that a bundle failed, by name; there must be some."""
    digest = built(slots, bundle)
    result = slots.check(digest, Health(slots.root, sleep=lambda _: None, **changes))
    assert not result["healthy"]
    assert slots.slot(digest).state == "failed"
    assert slots.current() is None
    json.dumps(result, allow_nan=False)
    return {check["name"]: check for check in result["checks"] if not check["ok"]}


def test_a_whole_installation_of_two_models_with_real_engines(slots: Slots) -> None:
    bundle = tiny_bundle(models=("large", "small"), layers=2)
    told: list[str] = []
    send(slots, bundle.archive, bundle.sha256)
    assert install(slots, bundle.sha256, Builder(), Health(slots.root), told.append).outcome == "confirmed"
    assert told == ["verifying", "building", "checking", "switching", "waiting for the service"]
    result = slots.slot(bundle.digest).health or {}
    assert (result["healthy"], result["contended"], result["live"], result["service"]) == (
        True,
        False,
        None,
        False,
    )
    by_name = [(check["name"], check["model"]) for check in result["checks"]]
    assert by_name == [
        ("memory", "large"),
        ("memory", "small"),
        ("memory", "all"),
        *((name, model) for model in ("large", "small") for name in ("golden", "accuracy", "latency", "throttling")),
    ]
    assert all(check["ok"] for check in result["checks"])
    latency = next(check for check in result["checks"] if check["name"] == "latency")
    assert 0 < latency["found"] < latency["limit"]
    engine = open_slot(slots.root).engine(open_slot(slots.root).manifest.models[0])
    assert engine.record["origin"] == "built"
    assert engine.record["onnx_sha256"] == bundle.manifest["files"]["models/large/model.onnx"]["sha256"]
    assert engine.load().inputs[0].shape == (1, 3, 4, 4)


@pytest.mark.usefixtures("memory_enough")
def test_real_engines_survive_a_disk_that_fails_while_they_are_written(tmp_path: Path) -> None:
    bundle = tiny_bundle(models=("m0", "m1"))
    counting = CountingDisk()
    deliver(board(tmp_path / "counted", counting), bundle, Builder(), Health(tmp_path / "counted"))
    built_at = [n for n, call in enumerate(counting.calls) if "built" in str(call.arguments)]
    for n in built_at[:: len(built_at) // 6]:
        root = tmp_path / f"board{n}"
        with pytest.raises(AgentError) as failure:
            deliver(board(root, FailingDisk(n)), bundle, Builder(), Health(root))
        assert failure.value.kind == ErrorKind.DISK
        assert deliver(Slots(root), bundle, Builder(), Health(root)).outcome == "confirmed"
        files = open_slot(root)
        assert [files.engine(model).load().inputs[0].name for model in files.manifest.models] == ["input", "input"]


@pytest.mark.usefixtures("memory_enough")
def test_right_but_too_slow(slots: Slots) -> None:
    latency = failed(slots, tiny_bundle(budget={"latency_ms": 1e-6}))
    assert list(latency) == ["latency"]
    assert "the budget 1e-06 ms" in latency["latency"]["says"]


@pytest.mark.usefixtures("memory_enough")
def test_fast_but_wrong(slots: Slots) -> None:
    golden = failed(slots, tiny_bundle(golden_error=0.5))
    assert list(golden) == ["golden"]
    assert golden["golden"]["found"] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.usefixtures("memory_enough")
def test_answers_that_are_none(slots: Slots) -> None:
    bundle = tiny_bundle()
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 7), np.float32))
    assert list(failed(slots, with_file(bundle, "models/m0/golden-outputs.npy", buffer.getvalue()))) == ["golden"]


@pytest.mark.usefixtures("memory_enough")
def test_samples_that_are_told_wrong(slots: Slots) -> None:
    accuracy = failed(slots, tiny_bundle(wrong_labels=True))["accuracy"]
    assert (accuracy["found"], accuracy["limit"]) == (0.0, 0.9)


def test_too_big_for_its_budget_and_then_loaded_nowhere_else(slots: Slots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.Health, "_computing", lambda *_: pytest.fail("it was loaded"))
    memory = failed(slots, tiny_bundle(budget={"memory_mib": 0.5}))["memory"]
    assert memory["found"] > memory["limit"] == 0.5


def test_too_big_for_the_board_beside_the_current_one(slots: Slots) -> None:
    first, second = tiny_bundle(version=1), tiny_bundle(version=2)
    send(slots, first.archive, first.sha256)
    install(slots, first.sha256, Builder(), Health(slots.root))
    result = slots.check(built(slots, second), Health(slots.root, available_bytes=lambda: 1 << 20))
    (check,) = (check for check in result["checks"] if not check["ok"])
    assert (check["name"], check["model"], check["limit"]) == ("memory", "all", 1.0)
    assert "all engines of candidate and current slot (2)" in check["says"]
    assert slots.current() == first.digest


@pytest.mark.usefixtures("memory_enough")
def test_a_board_that_throttles(slots: Slots) -> None:
    class Hot(Sensors):
        def read(self) -> Clocks:
            return Clocks(1000.0, 2000.0, throttled=("cooling device cpufreq-cpu0 at 3 of 3",))

    throttling = failed(slots, tiny_bundle(), sensors=lambda gpu: Hot(gpu=gpu))
    assert "cpufreq-cpu0 at 3 of 3" in throttling["throttling"]["says"]


def test_an_engine_that_does_not_load(slots: Slots) -> None:
    digest = built(slots, tiny_bundle())
    directory = slots.root / "slots" / digest / "built" / "m0"
    (directory / "engine").write_bytes(b"no engine")
    with pytest.raises(AgentError) as refused:
        slots.check(digest, Health(slots.root))
    assert refused.value.kind == ErrorKind.TAMPERED_ENGINE
    record = json.loads((directory / "record.json").read_text())
    (directory / "record.json").write_text(json.dumps({**record, "sha256": hashlib.sha256(b"no engine").hexdigest()}))
    result = slots.check(digest, Health(slots.root))
    assert [check["name"] for check in result["checks"] if not check["ok"]] == ["memory"], "it was tried in a child"
    slots.build(digest, Builder())


def with_file(bundle: TinyBundle, path: str, content: bytes) -> TinyBundle:
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    files = {**bundle.files, path: content}
    return TinyBundle({**bundle.manifest, "files": {**bundle.manifest["files"], path: entry}}, files, bundle.keys)


@pytest.mark.usefixtures("memory_enough")
def test_an_array_that_would_have_to_be_unpickled_is_none(slots: Slots) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    digest = built(slots, with_file(tiny_bundle(), "models/m0/golden-outputs.npy", buffer.getvalue()))
    with pytest.raises(AgentError, match="is no array"):
        slots.check(digest, Health(slots.root))


@pytest.mark.usefixtures("memory_enough")
def test_samples_that_do_not_fit_the_network(slots: Slots) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((8, 1, 2, 2), np.float32))
    digest = built(slots, with_file(tiny_bundle(), "samples/images.npy", buffer.getvalue()))
    with pytest.raises(AgentError, match="the engine takes"):
        slots.check(digest, Health(slots.root))
    assert slots.slot(digest).state == "failed"


def prebuilt(identity: str, content: bytes, version: int = 1) -> TinyBundle:
    """A bundle with an engine that was built elsewhere."""
    bundle = with_file(tiny_bundle(version=version), "models/m0/engines/0.engine", content)
    engine = {
        "file": "models/m0/engines/0.engine",
        "runtime": "onnxruntime",
        "identity": identity,
        "fingerprint": {"identity": {}},
        "options": RUNTIME,
    }
    return bundle.with_manifest(models=[{**bundle.manifest["models"][0], "engines": [engine]}])


@pytest.mark.usefixtures("memory_enough")
def test_a_prebuilt_engine_is_taken_where_the_identity_is_the_very_same(slots: Slots, tmp_path: Path) -> None:
    runtime, options = open_runtime("onnxruntime"), RuntimeOptions("CPUExecutionProvider")
    bundle = tiny_bundle()
    runtime.compile(bundle.files["models/m0/model.onnx"], options, tmp_path / "engine")
    content = (tmp_path / "engine").read_bytes()
    with Sensors() as sensors:
        here = Fingerprint.model_validate(probe(runtime, options, sensors.read()))
    same, other = prebuilt(here.sha256, content), prebuilt("0" * 64, content, version=2)
    records = {}
    for bundle in (same, other):
        digest = built(slots, bundle)
        records[bundle.digest] = slots.build(digest, Builder())["m0"]
        assert slots.check(digest, Health(slots.root))["healthy"]
    assert (records[same.digest]["origin"], records[same.digest]["new"]) == ("prebuilt", False)
    assert records[other.digest]["origin"] == "built"
    assert "built on a device of identity 00000000" in records[other.digest]["not_taken"]["models/m0/engines/0.engine"]


def test_an_engine_of_another_version_of_the_runtime_is_built_anew(slots: Slots) -> None:
    digest = built(slots, tiny_bundle())
    path = slots.root / "slots" / digest / "built" / "m0" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "runtime_version": "0.1"}))
    assert slots.build(digest, Builder())["m0"]["new"]
    assert not slots.build(digest, Builder())["m0"]["new"]


def test_a_precision_that_the_board_does_not_run(slots: Slots) -> None:
    bundle = tiny_bundle().with_manifest(runtime={**RUNTIME, "precision": "fp4"})
    with pytest.raises(AgentError, match="not fp4"):
        built(slots, bundle)


def samples(limit_ms: float | None, durations_ns: list[int], statistic: str = "p99") -> checks.Check:
    gathered = checks.Samples(Budget(statistic, limit_ms, None))
    gathered.take({"samples_ns": [durations_ns]})
    return gathered.verdict("m0")


@pytest.mark.parametrize(
    ("durations", "statistic", "ok"),
    [
        ([1_000_000] * 656 + [9_000_000] * 6, "p99", True),
        ([1_000_000] * 655 + [9_000_000] * 7, "p99", False),
        ([1_000_000] * 331 + [9_000_000] * 331, "p50", True),
        ([1_000_000] * 330 + [9_000_000] * 332, "p50", False),
        ([1_000_000] * 661, "p99", False),
        ([9_000_000] * 7, "p99", False),
    ],
)
def test_a_percentile_is_stated_of_enough_runs(durations: list[int], statistic: str, ok: bool) -> None:
    check = samples(1.0, durations, statistic)
    assert check.ok is ok
    gathered = checks.Samples(Budget(statistic, 1.0, None))
    assert not gathered.enough()
    gathered.take({"samples_ns": [durations]})
    assert gathered.enough() == (len(durations) != 661), "it ends as soon as the verdict is sure"


def test_without_a_budget_latency_is_told_all_the_same() -> None:
    check = samples(None, [2_000_000] * 662)
    assert (check.ok, check.found, check.limit) == (True, 2.0, None)


def test_a_slice_is_shorter_than_the_service_waits() -> None:
    protocol: MeasuringProtocol = checks.Samples(Budget("p99", 1.0, None)).next_protocol()
    assert protocol.max_seconds + protocol.warmup_max_seconds + 0.1 < health._PAUSE_S
    assert not protocol.gate
    assert protocol.min_samples == 662


class Service:
    """A service that does as it is told, in the place of the client."""

    def __init__(self, pauses: Iterator[bool | str | None], said: Callable[..., dict[str, Any]]) -> None:
        self._pauses = pauses
        self.health = said
        self.paused = 0

    @contextmanager
    def quiesced(self, seconds: float) -> Iterator[Any]:
        held = next(self._pauses)
        if held is None:
            raise AgentError(ErrorKind.BUSY, "it does not answer")
        self.paused += 1

        class Pause:
            pass

        pause = Pause()
        yield pause
        if held == "gone":
            raise AgentError(ErrorKind.BUSY, "it died")
        pause.held = held  # type: ignore[attr-defined]


@pytest.mark.usefixtures("memory_enough")
@pytest.mark.parametrize(("held", "contended"), [(True, False), (False, True), (None, True), ("gone", True)])
def test_what_is_measured_beside_requests_is_called_contended(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, held: bool | str | None, contended: bool
) -> None:
    digest = built(slots, tiny_bundle())
    service = Service(iter(lambda: held, ...), lambda _: {"lately": {"p99_ms": 1.5}})
    monkeypatch.setattr(health, "find_service", lambda root: {"address": "here"})
    judge = Health(slots.root, sleep=lambda _: None)
    monkeypatch.setattr(judge, "_service", service)
    result = slots.check(digest, judge)
    assert result["healthy"]
    assert (result["contended"], result["live"], result["service"]) == (contended, {"p99_ms": 1.5}, True)
    assert (service.paused > 0) == (held is not None)


DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("said", "alive", "served_before", "told"),
    [
        ({"digest": DIGEST, "ready": True}, True, True, None),
        ({"digest": OTHER, "ready": True, "problem": f"slot {DIGEST[:12]} cannot be served: no"}, True, True, "no"),
        ({"digest": OTHER, "ready": True}, True, True, "still serves bbbbbbbbbbbb"),
        (None, False, True, "no service has answered since"),
        (None, False, False, None),
    ],
)
def test_the_service_takes_a_slot_or_says_why_not(
    slots: Slots,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any] | None,
    alive: bool,
    served_before: bool,
    told: str | None,
) -> None:
    def answer() -> dict[str, Any]:
        if said is None:
            raise AgentError(ErrorKind.BUSY, "no service lives there")
        return said

    monkeypatch.setattr(health, "find_service", lambda root: {} if alive else None)
    judge = Health(slots.root, patience_s=0.0)
    monkeypatch.setattr(judge, "_service", Service(iter(()), answer))
    refusal = judge.refusal(DIGEST, served_before)
    assert refusal is None if told is None else told in str(refusal)

"""What everything that times models must do: a device behind any connection, and the simulated board, which has none.

A new one is one more line in ``DEVICES_HERE``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hwnas.agent.canary import canary_onnx
from hwnas.agent.protocol import ErrorKind
from hwnas.devices import CompileOptions, Device, Measurement, MeasureOptions, RefusedError, load_target
from hwnas.devices.local import LocalConnection
from hwnas.devices.simulated import SHARED, SimulatedBoard
from hwnas.devices.ssh import SshConnection
from hwnas.latency import TimingDevice
from tests.sshd import Sshd

QUICK = MeasureOptions(min_samples=8, max_seconds=10.0)
Opener = Callable[[pytest.FixtureRequest], TimingDevice]


def over_ssh(request: pytest.FixtureRequest) -> Device:
    server: Sshd = request.getfixturevalue("sshd")
    return Device(load_target("host-cpu"), SshConnection(server.settings()))


DEVICES_HERE: dict[str, Opener] = {
    "local": lambda _: Device(load_target("host-cpu"), LocalConnection()),
    "ssh": over_ssh,
    "simulated": lambda _: SimulatedBoard(conditions=SHARED),
}


@pytest.fixture(params=list(DEVICES_HERE), scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[TimingDevice]:
    opened = DEVICES_HERE[request.param](request)
    yield opened
    if isinstance(opened, Device):
        opened.close()


def test_it_is_the_same_device_whenever_it_is_probed(device: TimingDevice) -> None:
    first, second = device.fingerprint(), device.fingerprint(device.default_options())
    assert first.identity == second.identity
    assert len(first.identity8) == 8
    assert first.differences(second) == []


def test_every_compilation_is_a_build_of_its_own(device: TimingDevice) -> None:
    one, two = (device.compile(canary_onnx()) for _ in range(2))
    assert one.id != two.id
    assert one.onnx_sha256 == two.onnx_sha256
    assert one.options == device.default_options()
    assert [(tensor.dtype, tensor.shape) for tensor in one.inputs] == [("float32", (1, 3, 32, 32))]
    assert one.outputs[0].shape == (1, 24, 32, 32)
    device.release(one)
    assert device.measure(two, QUICK).ungated.n >= 8
    device.release(two)


def test_a_measurement_keeps_every_batch_and_survives_a_file(device: TimingDevice) -> None:
    found = device.measure(device.compile(canary_onnx()), QUICK)
    assert found.ungated.n == sum(map(len, found.samples_ns)) >= 8
    assert all(pair is not None and min(pair) > 0 for pair in found.canary_ns)
    assert found.protocol.min_samples == 8
    assert min(*found.upload_ns, *found.download_ns) > 0
    again = Measurement.model_validate_json(found.model_dump_json())
    assert again == found
    assert again.gated == found.gated


def test_the_fast_state_is_learned_and_handed_on(device: TimingDevice) -> None:
    learned = device.learn_fast_state(0.1)  # until it is settled: it is never raised afterwards
    assert learned > 0
    found = device.measure(device.compile(canary_onnx()), QUICK)
    assert found.fast_state_ms is not None
    assert found.fast_state_ms <= learned


def test_without_a_gate_every_sample_counts_and_no_canary_runs(device: TimingDevice) -> None:
    ungated = MeasureOptions(min_samples=8, max_seconds=10.0, gate=False)
    found = device.measure(device.compile(canary_onnx()), ungated)
    assert found.fast_state_ms is None
    assert all(pair is None for pair in found.canary_ns)
    assert found.ungated.n >= 8


def test_a_released_engine_is_gone(device: TimingDevice) -> None:
    engine = device.compile(canary_onnx())
    device.release(engine)
    device.release(engine)
    with pytest.raises(RefusedError, match="was released") as refused:
        device.measure(engine, QUICK)
    assert refused.value.kind == ErrorKind.UNKNOWN_ENGINE


@pytest.mark.parametrize(
    ("content", "options", "kind"),
    [
        (b"no model", None, ErrorKind.MODEL_REFUSED),
        (canary_onnx()[:1000], None, ErrorKind.MODEL_REFUSED),
        (canary_onnx(), CompileOptions(runtime="abacus"), ErrorKind.BAD_REQUEST),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_a_sentence(
    device: TimingDevice, content: bytes, options: CompileOptions | None, kind: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        device.compile(content, options)
    assert refused.value.kind == kind
    assert "\n" not in str(refused.value)
    assert device.fingerprint(), "the device lives on"

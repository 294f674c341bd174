"""What a board costs that answers garbage, late, twice or never, by every way to one: one request, in one sentence."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwnas.agent.canary import canary_onnx
from hwnas.agent.protocol import ErrorKind
from hwnas.devices import (
    AgentLostError,
    AgentTimeoutError,
    CompileOptions,
    Connection,
    Device,
    MeasureOptions,
    RefusedError,
    load_target,
)
from hwnas.devices.device import CONNECTIONS
from hwnas.errors import DeviceError
from hwnas.latency import LatencyTable, ProfileOptions, profile
from hwnas.latency.journal import open_journal
from hwnas.spaces import get_space
from tests.agents import eventually, gone, locally, over_ssh, pid_of

DEVICES = Path(__file__).parents[1] / "devices"
FAULTY = CompileOptions(runtime="faulty", timeout_s=60)
QUICK = MeasureOptions(min_samples=8, max_seconds=1.0)
HASTY = CompileOptions(runtime="faulty", timeout_s=1)

Open = Callable[..., Device]

WAYS: dict[str, Callable[[pytest.FixtureRequest, Path, str], Connection]] = {
    "local": lambda _, program, fault: locally(program, fault),
    "ssh": lambda request, program, fault: over_ssh(
        request.getfixturevalue("sshd"), program, fault, request.getfixturevalue("tmp_path")
    ),
}


@pytest.fixture(params=list(WAYS))
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a device whose agent is a program of these tests."""
    with contextlib.ExitStack() as stack:

        def open_with(program: str, fault: str = "none") -> Device:
            connection = WAYS[request.param](request, DEVICES / program, fault)
            return stack.enter_context(Device(load_target("host-cpu"), connection))

        yield open_with


@pytest.fixture
def faulty(opened: Open) -> Device:
    return opened("faulty_agent.py")


def test_every_registered_connection_is_tested_here() -> None:
    assert set(CONNECTIONS) == set(WAYS)


def test_an_agent_that_hangs_is_killed_in_time_with_all_that_it_started(faulty: Device) -> None:
    pid = pid_of(faulty)
    with pytest.raises(AgentTimeoutError, match="while compiling a model: it did not answer within 1 s"):
        faulty.compile(b"compile:descend", HASTY)
    assert eventually(lambda: gone(pid))
    with pytest.raises(AgentTimeoutError, match="while measuring an engine: it did not answer within 1 s"):
        faulty.measure(faulty.compile(b"run:hang", FAULTY), MeasureOptions(timeout_s=1))
    assert faulty.compile(b"fine", FAULTY).outputs[0].shape == (1, 2)


def test_the_last_words_of_an_agent_that_dies_are_told(faulty: Device) -> None:
    with pytest.raises(
        AgentLostError, match=r"while compiling a model: .*; its last words: about to be killed"
    ) as lost:
        faulty.compile(b"compile:kill", FAULTY)
    assert "\n" not in str(lost.value)
    assert faulty.fingerprint()


def test_noise_on_stdout_does_not_reach_the_protocol(faulty: Device) -> None:
    engine = faulty.compile(b"run:chatter", FAULTY)
    assert faulty.measure(engine, MeasureOptions(min_samples=4, max_seconds=0.1)).ungated.n >= 4


def test_the_agent_outlives_what_a_runtime_raises(faulty: Device) -> None:
    pid = pid_of(faulty)
    for what, kind in (("memory", ErrorKind.OUT_OF_MEMORY), ("bug", ErrorKind.INTERNAL)):
        with pytest.raises(RefusedError) as refused:
            faulty.compile(f"compile:{what}".encode(), FAULTY)
        assert refused.value.kind == kind
    assert pid_of(faulty) == pid


def test_an_agent_killed_in_the_midst_costs_one_request_and_no_engine(faulty: Device) -> None:
    engine, deadly = faulty.compile(canary_onnx(), CompileOptions()), faulty.compile(b"run:kill", FAULTY)
    pid = pid_of(faulty)
    with pytest.raises(AgentLostError, match="was lost while measuring an engine: it was killed by SIGKILL"):
        faulty.measure(deadly, QUICK)
    assert faulty.measure(engine, QUICK).ungated.n >= 8
    assert pid_of(faulty) != pid
    assert gone(pid)


NONSENSE = {
    "garbage": "it answered something else",
    "other": "it answered something else",
    "list": "it answered something else",
    "torn": "it ended with exit code 0|killed by SIGKILL",
    "hollow": "it answered something else",
    "endless": "it answered without end",
    "version": "speaks protocol 99",
}


def test_agents_that_answer_nonsense_are_given_up_one_after_the_other(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local", "ssh.process"):
        monkeypatch.setattr(f"hwnas.devices.{module}.MAX_LINE_BYTES", 1 << 20)
    device = opened("lying_agent.py", ",".join(NONSENSE))
    for sentence in NONSENSE.values():
        with pytest.raises(DeviceError, match=sentence) as given_up:
            device.fingerprint()
        assert str(given_up.value).isprintable()


def test_an_agent_that_answers_twice_is_not_believed_the_second_time(opened: Open) -> None:
    device = opened("lying_agent.py", "twice")
    assert device.fingerprint().identity == {}
    with pytest.raises(AgentLostError, match="something else"):
        device.fingerprint()
    assert device.fingerprint().identity == {}


def test_an_agent_that_complains_without_end_is_heard_out(opened: Open) -> None:
    device = opened("lying_agent.py", "flood")
    for _ in range(2):
        assert device.fingerprint().identity == {}


PROFILE = ProfileOptions(
    resolutions=(24,),
    networks_only=5,
    validation_networks=2,
    builds=1,
    network_builds=1,
    network_protocol=MeasureOptions(min_samples=4, max_seconds=1.0, gate=False, timeout_s=5.0),
)


def profiled(device: Device, tables: Path) -> LatencyTable:
    return profile(device, get_space("mobilenet_v3/small"), tables, PROFILE)[0]


def test_a_profile_loses_no_measurement_by_a_board_that_fails_in_every_way(opened: Open, tmp_path: Path) -> None:
    device = opened("failing_agent.py", "garbage,twice,torn,die,late")
    table = profiled(device, tmp_path)
    assert len(table.networks) == 7
    assert table.missing.failures == ()
    told = errors(device, tmp_path)
    assert len(told) == 4, "a second answer costs nothing: the first one was right"
    for sentence, error in zip(
        ("something else", "something else", "SIGKILL", "not answer within 5 s"), told, strict=True
    ):
        assert re.fullmatch(rf"the agent on 'host-cpu' was lost while measuring an engine: .*{sentence}.*\.", error)


def test_a_board_that_answers_nothing_but_garbage_ends_a_profile_in_a_sentence_and_keeps_what_was_measured(
    tmp_path: Path,
) -> None:
    program = DEVICES / "failing_agent.py"
    with Device(load_target("host-cpu"), locally(program, ",".join(["garbage"] * 99))) as device:
        with pytest.raises(DeviceError, match="lost while measuring an engine: it answered something else") as failed:
            profiled(device, tmp_path)
        assert str(failed.value).isprintable()
    with Device(load_target("host-cpu"), locally(program, "none")) as device:
        assert len(profiled(device, tmp_path).networks) == 7


def errors(device: Device, tables: Path) -> list[str]:
    """What the journal says went wrong, in order."""
    [path] = tables.rglob("*.jsonl")
    with open_journal(path, device.fingerprint(), fresh=False) as journal:
        return [error for unit in journal._failures for error in journal.failures(unit)]

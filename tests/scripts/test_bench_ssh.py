"""Profiles that go on in turn, and what is made of them: a difference is found, and none is made."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices import Device, Engine, Measurement, MeasureOptions, load_target
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.latency import ProfileOptions
from hwnas.progress import Silent
from hwnas.spaces import get_space
from tests.latency.fake_device import FakeDevice
from tests.sshd import Sshd

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from bench_ssh import Builds, Turns, compared, judged_together, profile_in_turn

SMALL = ProfileOptions(resolutions=(24,), calibration_networks=4, validation_networks=4, builds=1, network_builds=1)


class Shifted(FakeDevice):
    """One that is slower, or that does not know its fast state as well."""

    def __init__(self, opened: list[str], name: str, slower: float = 1.0, state: float = 1.0) -> None:
        super().__init__()
        self._opened, self._name, self._slower, self._state = opened, name, slower, state
        opened.append(name)

    def compile(self, onnx: bytes, options: Any = None) -> Engine:
        self._opened.append(f"{self._name} builds")
        return super().compile(onnx, options)

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        found = super().measure(engine, options)
        samples = tuple(tuple(round(self._slower * run) for run in batch) for batch in found.samples_ns)
        assert found.fast_state_ns
        return found.model_copy(update={"samples_ns": samples, "fast_state_ns": self._state * found.fast_state_ns})

    def close(self) -> None:
        self._opened.append(f"{self._name} closed")


def in_turn(tmp_path: Path, events: list[str], **ways: Any) -> dict[str, Builds]:
    def opened(name: str, how: dict[str, float]) -> Callable[[], Device]:
        return partial(Shifted, events, name, **how)  # type: ignore[arg-type]

    devices = {name: opened(name, how) for name, how in ways.items()}
    space = get_space("mobilenet_v3/small")
    return judged_together(profile_in_turn(devices, space, SMALL, 10, tmp_path, Silent()))


def test_a_way_that_slows_down_is_found_and_one_that_knows_its_fast_state_less_well_is_not(tmp_path: Path) -> None:
    events: list[str] = []
    found = in_turn(tmp_path, events, direct={}, ssh={"slower": 1.05}, again={"state": 1.05})
    ssh, again = compared(found["ssh"], found["direct"]), compared(found["again"], found["direct"])
    assert ssh["all"]["median"] == pytest.approx(1.05, abs=1e-3)
    assert again["all"]["median"] == pytest.approx(1.0, abs=1e-3)
    assert ssh["pairs"] == ssh["of"] == ssh["blocks"]["units"] + ssh["networks"]["units"]
    assert ssh["networks"]["units"] == 8

    builds = [event.split()[0] for event in events if event.endswith("builds")]
    assert builds[:12] == ["again", "ssh", "direct", "direct", "ssh", "again"] * 2, "the first turn is for learning"
    assert events.count("ssh") == events.count("ssh closed") == -(-builds.count("ssh") // 10)


def test_a_profile_that_fails_keeps_no_other_from_its_turn() -> None:
    turns = Turns(["a", "b", "c"])
    order: list[str] = []

    def go_on(name: str) -> None:
        for _ in range(3):
            turns.take(name)
            order.append(name)
            if name == "b":
                break
            turns.give()
        turns.leave(name)

    threads = [threading.Thread(target=go_on, args=name) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "c", "a", "a", "c"]


@pytest.mark.slow
def test_a_profile_over_ssh_equals_a_direct_one(sshd: Sshd, tmp_path: Path) -> None:
    target = load_target("host-cpu")
    ways: dict[str, Callable[[], Device]] = {
        "direct": lambda: Device(target, LocalConnection()),
        "ssh": lambda: Device(target, SshConnection(sshd.settings())),
    }
    space = get_space("mobilenet_v3/small")
    found = judged_together(profile_in_turn(ways, space, SMALL, 4, tmp_path, Silent()))
    assert 0.98 <= compared(found["ssh"], found["direct"])["all"]["median"] <= 1.02

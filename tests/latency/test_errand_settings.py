"""What a board that no host reaches does by itself: settings, pauses, and an end when it stays too hot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent import cooling, errand
from hwnas.agent.cooling import Heat, TooHotError
from hwnas.agent.protocol import Fields
from hwnas.devices import DeviceSettings, MeasureOptions
from hwnas.devices.zipapp import agent_zipapp
from hwnas.latency import ProfileOptions
from hwnas.latency.errand import import_errand, write_errand
from hwnas.spaces import get_space
from tests.agent.fake_jetson import FakeJetson
from tests.agent.test_settings import wait_for_keeper
from tests.devices.test_settings import target

SPACE = get_space("mobilenet_v3/small")
OPTIONS = ProfileOptions(
    networks_only=5,
    validation_networks=2,
    network_builds=1,
    network_protocol=MeasureOptions(min_samples=4, max_seconds=1.0, gate=False),
)


def start_agent(directory: Path) -> subprocess.Popen[bytes]:
    (directory / "hwnas-agent.pyz").write_bytes(agent_zipapp())
    command = [sys.executable, "-I", "hwnas-agent.pyz", "profile", "plan.json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=directory, start_new_session=True, **pipes)


@pytest.mark.parametrize("mode", ["MAXN_SUPER", "7W"])
def test_a_plan_carries_settings_to_the_board_and_the_board_is_set_back(
    tmp_path: Path, jetson: FakeJetson, mode: str
) -> None:
    before = jetson.state()
    write_errand(target(), SPACE, OPTIONS, tmp_path / "plan.json", DeviceSettings(mode, lock_clocks=True))
    agent = start_agent(tmp_path)
    results, words = agent.communicate()
    assert jetson.state() == before
    if mode == "7W":
        assert agent.returncode == 1
        assert b"takes a restart of the board" in words
        return
    assert agent.returncode == 0, words
    (tmp_path / "results.jsonl").write_bytes(results)
    (table,) = import_errand(tmp_path / "results.jsonl", tmp_path / "tables")
    assert table.fingerprint.context["settings"]["power_mode"] == "MAXN_SUPER"
    assert table.conditions is not None and table.conditions.readings > 0
    assert table.conditions.after[""]["settings"]["clocks"]["cpu_mhz"] == 1728.0


def test_the_board_is_set_back_when_the_agent_is_killed_there(tmp_path: Path, jetson: FakeJetson) -> None:
    before = jetson.state()
    write_errand(target(), SPACE, OPTIONS, tmp_path / "plan.json", DeviceSettings("MAXN_SUPER", lock_clocks=True))
    jetson.mark("hang", "jetson_clocks --show")
    agent = start_agent(tmp_path)
    jetson.wait_until_hanging()
    jetson.unmark("hang")
    assert jetson.state() != before
    os.killpg(agent.pid, signal.SIGKILL)
    agent.communicate()
    wait_for_keeper(tmp_path / "cache/hwnas/settings")
    assert jetson.state() == before


class HotBoard:
    """An agent whose board is as hot as it is told to be, at each question."""

    def __init__(self, heats: Iterator[Heat]) -> None:
        self._heats = heats
        self.asked: list[str] = []

    def ask(self, request: str, **_: Any) -> dict[str, Any]:
        self.asked.append(request)
        if request == "heat":
            return next(self._heats).as_record()
        return {"fingerprint": {"identity": {}}, "compile": {"engine": "e"}, "measure": {"samples_ns": []}}.get(
            request, {}
        )


def run(board: HotBoard) -> list[dict[str, Any]]:
    unit = {"unit": "u", "sha256": "0", "protocol": {"temperature_limit_c": 80.0}}
    plan = {"asked": {}, "compile": {}, "canaries": [], "learn_s": 0.0, "models": {"0": ""}, "units": [unit, unit]}
    told: list[dict[str, Any]] = []
    errand.run(Fields(plan), board.ask, told.append)
    return told


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes at once."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(cooling.cool_down, "__defaults__", (600.0, lambda _: None, sleep, lambda: now[0]))


@pytest.mark.usefixtures("no_waiting")
def test_a_hot_board_pauses_and_writes_it_down(capsys: pytest.CaptureFixture[str]) -> None:
    heats = [Heat(79.0), Heat(81.0), Heat(78.0), Heat(74.0)]
    _, first, second, _ = run(HotBoard(iter(heats)))
    assert first["measurement"]["pause"] is None
    pause = second["measurement"]["pause"]
    assert (pause["from_c"], pause["to_c"], pause["seconds"], pause["cooled"]) == (81.0, 74.0, 4.0, True)
    assert "paused to cool down: 81.0 °C, limit of 80 °C reached" in capsys.readouterr().err


@pytest.mark.usefixtures("no_waiting")
def test_a_board_that_stays_too_hot_measures_no_more() -> None:
    board = HotBoard(Heat(90.0) for _ in range(1000))
    with pytest.raises(TooHotError, match="still too hot"):
        run(board)
    assert "measure" not in board.asked

"""A device whose settings are changed while it is used: the real agent, on a Jetson of files and programs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.devices import AgentLostError, Device, DeviceSettings, Target, load_target
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.errors import UserError
from tests.agent.fake_jetson import FakeJetson
from tests.agent.test_settings import wait_for_keeper
from tests.agents import pid_of
from tests.sshd import serving

ROOT = Path(__file__).resolve().parents[2]
FASTEST = DeviceSettings(power_mode="MAXN_SUPER", lock_clocks=True)


def target() -> Target:
    """This machine, whose power modes are those of an Orin Nano."""
    modes = {"15W": {"id": 0}, "7W": {"id": 1}, "MAXN_SUPER": {"id": 2}}
    facts = {"power_modes": {"value": modes, "source": "the test"}}
    described = load_target("host-cpu").model_dump(by_alias=True, mode="json", exclude_none=True)
    return Target.model_validate({**described, "facts": facts})


def opened() -> Device:
    return Device(target(), LocalConnection())


def test_settings_hold_while_entered_and_are_told_in_the_fingerprint(jetson: FakeJetson) -> None:
    before = jetson.state()
    with opened() as device:
        identity = device.fingerprint().identity
        with device.changed(FASTEST) as changed:
            assert str(changed) == "power mode MAXN_SUPER, clocks locked (cpu 1728 MHz, gpu 1020 MHz, memory 2133 MHz)"
            found = device.fingerprint()
            assert found.context["settings"]["power_mode"] == "MAXN_SUPER"
            assert str(found.identity["power_mode"]).startswith("MAXN_SUPER")
            assert jetson.state() != before
        assert jetson.state() == before
        assert device.fingerprint().identity == identity
        assert device.fingerprint().context["settings"] == {}
    assert jetson.calls().count("nvpmodel -m") == 2


def test_nothing_is_changed_unless_asked_for(jetson: FakeJetson) -> None:
    with opened() as device, device.changed(DeviceSettings()) as changed:
        assert str(changed) == ""
        device.fingerprint()
    assert set(jetson.calls()) == {"nvpmodel -q"}


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("7W", "takes a restart of the board, which is still in 15W; run `sudo nvpmodel -m 1` there, answer yes"),
        ("MAXN", "power mode 'MAXN' is unknown; the nearest known name is 'MAXN_SUPER'"),
    ],
)
def test_what_cannot_be_set_is_the_users_mistake(jetson: FakeJetson, mode: str, sentence: str) -> None:
    before = jetson.state()
    with opened() as device, pytest.raises(UserError, match=sentence), device.changed(DeviceSettings(mode)):
        pass
    assert jetson.state() == before


def test_an_agent_that_takes_over_sets_the_same_again(jetson: FakeJetson, monkeypatch: pytest.MonkeyPatch) -> None:
    before = jetson.state()
    with opened() as device:
        with device.changed(FASTEST):
            changed = jetson.state()
            pid, agent = pid_of(device), device._dialogue.agent
            assert agent is not None
            exchange = agent.exchange

            def dying(line: bytes, timeout_s: float) -> bytes:
                os.kill(pid, signal.SIGKILL)  # before, it would depend on the moment whether it is found dead or lost
                return exchange(line, timeout_s)

            monkeypatch.setattr(agent, "exchange", dying)
            with pytest.raises(Exception, match="was lost"):
                pid_of(device)
            pid_of(device)
            assert jetson.state() == changed
        assert jetson.state() == before


def test_all_is_set_back_after_an_error_and_by_another_agent_where_this_one_died(jetson: FakeJetson) -> None:
    before = jetson.state()
    with opened() as device, pytest.raises(KeyboardInterrupt), device.changed(FASTEST):
        os.kill(pid_of(device), signal.SIGKILL)
        raise KeyboardInterrupt
    assert jetson.state() == before


HOST = """
import sys
from tests.devices.test_settings import FASTEST, opened
device = opened()
with device.changed(FASTEST):
    print("changed", flush=True)
    sys.stdin.read()
"""


def test_all_is_set_back_when_the_host_is_killed(jetson: FakeJetson, tmp_path: Path) -> None:
    before = jetson.state()
    host = subprocess.Popen(
        [sys.executable, "-c", HOST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert host.stdout is not None
    assert host.stdout.readline() == b"changed\n"
    assert jetson.state() != before
    host.kill()
    host.communicate()
    # Whoever comes next waits until the agent or its keeper is done, and does what they left.
    with opened() as device, device.changed(DeviceSettings(lock_clocks=True)):
        assert jetson.state()["var/lib/nvpmodel/status"] in ("pmode:0000", "pmode:0002")
    assert jetson.state() == before
    assert not (tmp_path / "cache/hwnas/settings/before.json").exists()


def test_a_board_whose_wire_breaks_sets_itself_back_and_the_session_that_returns_sets_it_again(tmp_path: Path) -> None:
    jetson = FakeJetson(tmp_path / "board")
    before = jetson.state()
    with serving(tmp_path, environment={"PATH": jetson.path}) as server:
        device = Device(target(), SshConnection(server.settings()))
        with device, device.changed(FASTEST):
            changed = jetson.state()
            assert changed != before
            server.stop()
            wait_for_keeper(tmp_path / "cache/hwnas/settings")
            assert jetson.state() == before
            server.start()
            with contextlib.suppress(AgentLostError):  # of the connection that broke
                pid_of(device)
            pid_of(device)
            assert jetson.state() == changed
        assert jetson.state() == before

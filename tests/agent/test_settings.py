"""Power modes and clocks that are set while a device is measured, and set back whoever is killed and when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent import clocklock, fingerprint, privileged, settings_record
from hwnas.agent.protocol import AgentError, ErrorKind, Fields
from hwnas.agent.settings import Settings, Wish
from hwnas.agent.settings_record import SettingsRecord
from tests.agent.fake_jetson import LEAST_KHZ, MODES, TAKES_RESTART, FakeJetson

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {"10W": 9, "25W": 1}
EVENTUALLY_S = 60.0
FASTEST = Wish(power_mode="MAXN_SUPER", lock_clocks=True)


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJetson:
    made = FakeJetson(tmp_path / "board")
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.setattr(privileged, "_SUPERUSERS_PATH", ())
    return made


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "settings"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a keeper, as where it was killed too."""
    monkeypatch.setattr(Settings, "_start_keeper", lambda _: None)


def on(jetson: FakeJetson, kept: Path) -> Settings:
    return Settings(jetson.root, kept)


@pytest.mark.usefixtures("alone")
def test_what_was_really_set_is_told_and_all_is_set_back(jetson: FakeJetson, kept: Path) -> None:
    before, here = jetson.state(), on(jetson, kept)
    assert here.change(FASTEST) == {
        "power_mode": "MAXN_SUPER",
        "clocks": {"cpu_mhz": 1728.0, "gpu_mhz": 1020.0, "memory_mhz": 2133.0},
    }
    changed = jetson.state()
    assert changed["var/lib/nvpmodel/status"] == "pmode:0002"
    assert changed["sys/devices/system/cpu/cpu1/cpufreq/scaling_min_freq"] == "1728000"
    assert here.restore() == ["power-mode", "jetson-clocks"]
    assert jetson.state() == before
    assert here.told == {}
    assert not list(kept.glob("before*"))
    assert here.restore() == [], "there is nothing left to set back"


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("wish", [Wish(power_mode="MAXN_SUPER"), Wish(lock_clocks=True)])
def test_only_what_is_asked_for_is_changed(jetson: FakeJetson, kept: Path, wish: Wish) -> None:
    before, here = jetson.state(), on(jetson, kept)
    here.change(wish)
    changed = jetson.state()
    assert (changed["var/lib/nvpmodel/status"] == "pmode:0000") == (wish.power_mode is None)
    locked = changed["sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq"] != str(LEAST_KHZ)
    assert locked == wish.lock_clocks
    here.restore()
    assert jetson.state() == before


@pytest.mark.usefixtures("alone")
def test_clocks_that_somebody_had_locked_are_locked_again(jetson: FakeJetson, kept: Path) -> None:
    subprocess.run([jetson.programs / "jetson_clocks"], check=True)
    before, here = jetson.state(), on(jetson, kept)
    here.change(Wish(power_mode="MAXN_SUPER", lock_clocks=True))
    assert jetson.state() != before
    here.restore()
    assert jetson.state() == before


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("wish", "behaviour", "kind", "sentence"),
    [
        (Wish(power_mode=TAKES_RESTART), None, ErrorKind.BAD_REQUEST, "takes a restart.*still in 15W.*nvpmodel -m 1`"),
        (
            Wish(power_mode="maxn_supper"),
            None,
            ErrorKind.BAD_REQUEST,
            "unknown; the nearest known name is 'MAXN_SUPER'",
        ),
        (Wish(power_mode="11W", known_modes=KNOWN), None, ErrorKind.BAD_REQUEST, "unknown; the nearest.*'1.W'"),
        (Wish(power_mode="25W", known_modes=KNOWN), None, ErrorKind.BAD_REQUEST, "not of this one, which has 15W, 7W"),
        (Wish(power_mode="MAXN_SUPER"), "stubborn", ErrorKind.DEVICE_FAULT, "still in power mode 15W.*Error writing"),
        (FASTEST, "lazy", ErrorKind.DEVICE_FAULT, "left the clock of cpu0 unlocked"),
    ],
)
def test_what_is_not_set_is_said_and_nothing_stays_changed(
    jetson: FakeJetson, kept: Path, wish: Wish, behaviour: str | None, kind: str, sentence: str
) -> None:
    before = jetson.state()
    if behaviour is not None:
        jetson.mark(behaviour)
    with pytest.raises(AgentError, match=sentence) as refused:
        on(jetson, kept).change(wish)
    assert refused.value.kind == kind
    assert jetson.state() == before
    assert not (kept / "before.json").exists()
    assert not (jetson.root / "answered").exists(), "the board's question about a restart is never answered"


@pytest.mark.usefixtures("alone")
def test_a_mode_of_the_target_serves_where_the_board_tells_none(jetson: FakeJetson, kept: Path) -> None:
    before, here = jetson.state(), Settings(jetson.root / "without configuration", kept)
    assert here.change(Wish(power_mode="MAXN_SUPER", known_modes={"MAXN_SUPER": 2})) == {"power_mode": "MAXN_SUPER"}
    here.restore()
    assert jetson.state() == before


@pytest.mark.usefixtures("alone")
def test_where_a_setting_cannot_go_back_it_stays_on_disk_for_the_next(jetson: FakeJetson, kept: Path) -> None:
    before, here = jetson.state(), on(jetson, kept)
    here.change(FASTEST)
    jetson.mark("stuck")
    with pytest.raises(AgentError, match=r"could be set back.*Failed to restore.*next agent"):
        here.restore()
    assert list(json.loads((kept / "before.json").read_text())["before"]) == ["jetson-clocks"]
    jetson.unmark("stuck")
    assert on(jetson, kept).restore_left() == ["jetson-clocks"]
    assert jetson.state() == before


@pytest.mark.usefixtures("alone")
def test_after_a_restart_of_the_board_only_the_power_mode_is_set_back(
    jetson: FakeJetson, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on(jetson, kept)
    here.change(FASTEST)
    here._record.unlock()  # as by its end
    monkeypatch.setattr(settings_record, "boot_id", lambda: "another start")
    assert on(jetson, kept).restore_left() == ["power-mode"]
    assert jetson.state()["var/lib/nvpmodel/status"] == "pmode:0000"
    assert jetson.calls()[-2:] == ["nvpmodel -m", "nvpmodel -q"]


@pytest.mark.usefixtures("alone")
def test_settings_of_a_living_process_are_left_alone(
    jetson: FakeJetson, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = on(jetson, kept), on(jetson, kept)
    first.change(FASTEST)
    changed = jetson.state()
    assert second.restore_left() == []
    monkeypatch.setattr(SettingsRecord.lock, "__defaults__", (0.0,))
    with pytest.raises(AgentError, match="another session") as refused:
        second.change(Wish(lock_clocks=True))
    assert refused.value.kind == ErrorKind.IN_USE
    assert jetson.state() == changed


@pytest.mark.usefixtures("alone")
def test_the_next_in_a_session_keeps_in_mind_how_things_were_at_first(jetson: FakeJetson, kept: Path) -> None:
    before, first, second = jetson.state(), on(jetson, kept), on(jetson, kept)
    first.change(FASTEST)
    first._record.unlock()  # as by its end
    second.change(FASTEST)
    second.restore()
    assert jetson.state() == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"before": 3, "boot": 1}', '{"before": {"fan": 3}, "boot": %s}'])
def test_what_is_not_understood_on_the_disk_is_no_crash(jetson: FakeJetson, kept: Path, content: str) -> None:
    before = jetson.state()
    kept.mkdir(mode=0o700)
    (kept / "before.json").write_text(content.replace("%s", json.dumps(settings_record.boot_id())))
    if "fan" in content:
        with pytest.raises(AgentError, match="'fan' is a setting of another version"):
            on(jetson, kept).restore_left()
        assert (kept / "before.json").exists()
    else:
        assert on(jetson, kept).restore_left() == []
        assert not (kept / "before.json").exists()
    assert jetson.state() == before


CHANGING = """
import sys
from pathlib import Path
from hwnas.agent import privileged
from hwnas.agent.settings import Settings, Wish
from hwnas.agent.settings_record import SettingsRecord
privileged._SUPERUSERS_PATH = ()
Settings(Path(sys.argv[1]), Path(sys.argv[2])).change(Wish(power_mode="MAXN_SUPER", lock_clocks=True))
print("changed", flush=True)
sys.stdin.read()
"""
STEPS = ["nvpmodel -m", "jetson_clocks lock", "jetson_clocks --show", None]
"""At which program the process is killed; ``None``: when all is set."""


@pytest.fixture
def changing(jetson: FakeJetson, kept: Path) -> Iterator[Callable[[str | None], subprocess.Popen[str]]]:
    """A process that changes settings, at the step at which it is to be killed."""
    started: list[subprocess.Popen[str]] = []

    def start(step: str | None) -> subprocess.Popen[str]:
        if step is not None:
            jetson.mark("hang", step)
        process = subprocess.Popen(
            [sys.executable, "-c", CHANGING, str(jetson.root), str(kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        started.append(process)
        if step is not None:
            jetson.wait_until_hanging()
            jetson.unmark("hang")
        else:
            assert process.stdout is not None
            assert process.stdout.readline() == "changed\n"
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def kill_with_all_it_started(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_keeper(kept: Path) -> None:
    """Until its work is done; the lock is left alone, since the keeper wants it."""
    deadline = time.monotonic() + EVENTUALLY_S
    while (kept / "before.json").exists():
        assert time.monotonic() < deadline, "the keeper sets nothing back"
        time.sleep(0.02)


@pytest.mark.parametrize("step", STEPS)
def test_the_keeper_sets_back_what_a_killed_process_changed(
    jetson: FakeJetson, kept: Path, changing: Callable[[str | None], subprocess.Popen[str]], step: str | None
) -> None:
    before = jetson.state()
    process = changing(step)
    assert step == STEPS[0] or jetson.state() != before
    kill_with_all_it_started(process)
    wait_for_keeper(kept)
    assert jetson.state() == before


@pytest.mark.parametrize("step", STEPS)
def test_the_next_agent_does_it_where_the_keeper_was_killed_too(
    jetson: FakeJetson, kept: Path, changing: Callable[[str | None], subprocess.Popen[str]], step: str | None
) -> None:
    before = jetson.state()
    process = changing(step)
    os.kill(keeper_of(kept), signal.SIGKILL)
    kill_with_all_it_started(process)
    assert on(jetson, kept).restore_left()
    assert jetson.state() == before
    assert on(jetson, kept).restore_left() == []


@pytest.mark.usefixtures("alone")
def test_a_board_is_as_it_was_before_its_lease_is_another_sessions(
    jetson: FakeJetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before, agent = jetson.state(), Settings(jetson.root)
    agent.change(FASTEST)
    agent._record.unlock()  # as by its end
    done = subprocess.run(
        [sys.executable, "-m", "hwnas.agent", "hold", "session", "me"],
        input=b"end\n",
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "HWNAS_LOCK": str(tmp_path / "lease")},
    )
    assert done.stdout.splitlines() == 2 * [b'{"ready": true}']
    assert jetson.state() == before


def keeper_of(kept: Path) -> int:
    """The process that was started to set things back."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"hwnas.agent.settings" in arguments and str(kept).encode() in arguments:
            return int(folder.name)
    raise AssertionError("no keeper runs")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "script",
    [
        "echo 'sudo: a password is required' >&2; exit 1",
        "echo 'Sorry, user me is not allowed to execute this as root on nano.' >&2; exit 1",
        None,
    ],
)
def test_a_user_without_roots_rights_is_told_so_and_nothing_is_changed(
    jetson: FakeJetson, kept: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    monkeypatch.setattr(privileged, "_is_root", lambda: False)
    jetson.install("sudo", f"#!/bin/sh\n{script}\n")
    if script is None:  # there is no sudo
        (jetson.programs / "sudo").unlink()
        monkeypatch.setenv("PATH", str(jetson.programs))
    before = jetson.state()
    with pytest.raises(AgentError, match=r"root's rights.*sudo.*NOPASSWD") as refused:
        on(jetson, kept).change(FASTEST)
    assert refused.value.kind == ErrorKind.NOT_PERMITTED
    assert jetson.state() == before
    assert not jetson.calls()


@pytest.mark.usefixtures("alone")
def test_sudo_that_asks_nobody_serves_as_well_as_root(
    jetson: FakeJetson, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileged, "_is_root", lambda: False)
    before, here = jetson.state(), on(jetson, kept)
    here.change(FASTEST)
    assert jetson.state() != before
    here.restore()
    assert jetson.state() == before


class FakeCard:
    """A graphics card's driver."""

    def __init__(self, permits: bool) -> None:
        self.permits, self.locked = permits, None  # type: bool, int | None

    def steady_mhz(self) -> int:
        return 1410

    def lock_clocks(self, mhz: int) -> bool:
        self.locked = mhz if self.permits else None
        return self.permits

    def unlock_clocks(self) -> bool:
        self.locked = None
        return self.permits

    def uuid(self) -> str:
        return "GPU-1"

    def read(self) -> Any:
        return type("Reading", (), {"mhz": self.locked})


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("permits", [True, False])
def test_a_graphics_cards_clock_is_locked_by_its_driver_or_its_program(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, permits: bool
) -> None:
    card = FakeCard(permits)
    monkeypatch.setattr(clocklock, "open_nvml", lambda: card)
    monkeypatch.setattr(privileged, "_SUPERUSERS_PATH", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    here = Settings(tmp_path, kept)
    told = dict(here.change(Wish(lock_clocks=True, gpu=True)))
    assert told == {"clocks": {"asked_gpu_mhz": 1410, "gpu_mhz": 1410 if permits else None}}
    assert "GPU locked at 1410 MHz" in str(fingerprint._power_mode(told))
    assert here.restore() == ["card-clocks"]
    assert "locked at" not in str(fingerprint._power_mode(here.told))
    assert card.locked is None
    by_program = [] if permits else ["--id=GPU-1 --lock-gpu-clocks=1410,1410", "--id=GPU-1 --reset-gpu-clocks"]
    assert ((tmp_path / "log").read_text().splitlines() if by_program else []) == by_program


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The processor of a machine that is no Jetson."""
    monkeypatch.setattr(privileged, "_SUPERUSERS_PATH", ())
    monkeypatch.setenv("PATH", "/nowhere")
    for core in range(2):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        texts = {"scaling_min_freq": "600000", "scaling_max_freq": "2400000", "scaling_governor": "schedutil"}
        for name, text in {**texts, "scaling_available_governors": "performance schedutil"}.items():
            (folder / name).write_text(text + "\n")
    return tmp_path


@pytest.mark.usefixtures("alone")
def test_a_processors_clocks_are_locked_and_set_back(cores: Path, kept: Path) -> None:
    def texts() -> list[str]:
        files = sorted(cores.rglob("scaling_[mg]*"))
        return [file.read_text().strip() for file in files]

    before, here = texts(), Settings(cores, kept)
    assert here.change(Wish(lock_clocks=True)) == {"clocks": {"cpu_mhz": 2400.0}}
    assert texts() == 2 * ["performance", "2400000", "2400000"]
    assert here.restore() == ["cpu-clocks"]
    assert texts() == before


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (Wish(power_mode="MAXN"), "it has no power modes: there is no nvpmodel"),
        (Wish(lock_clocks=True), "its kernel has no cpufreq"),
        (Wish(lock_clocks=True, gpu=True), "no GPU answers"),
    ],
)
def test_a_machine_without_such_settings_says_so(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, wish: Wish, sentence: str
) -> None:
    monkeypatch.setattr(privileged, "_SUPERUSERS_PATH", ())
    monkeypatch.setattr(clocklock, "open_nvml", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AgentError, match=sentence):
        Settings(tmp_path, kept).change(wish)


@pytest.mark.parametrize(
    "message", [{"power_mode": 2}, {"lock_clocks": "yes"}, {"known_modes": {"15W": -1}}, {"known_modes": 1}]
)
def test_a_malformed_wish_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(AgentError, match="field"):
        Wish.from_message(Fields(message), gpu=False)


def test_modes_of_the_fake_board_are_those_that_its_programs_know(jetson: FakeJetson) -> None:
    told = subprocess.run([jetson.programs / "nvpmodel", "-q"], capture_output=True, text=True, check=True).stdout
    assert told == "NV Power Mode: 15W\n0\n"
    assert set(MODES) >= {TAKES_RESTART, "15W"}

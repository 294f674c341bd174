"""``hwnas profile --power-mode`` and ``--lock-clocks``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from hwnas.cli.main import app
from tests.agent.fake_jetson import FakeJetson

QUICK = ("--networks-only", "6", "--minutes", "0.05", "--fresh")


@pytest.fixture
def jetson(jetson: FakeJetson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJetson:
    """The board, of which a target ``nano`` is."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    modes = {"15W": {"id": 0}, "7W": {"id": 1}, "MAXN_SUPER": {"id": 2}}
    nano = {
        "schema": 1,
        "name": "nano",
        "extends": "host-cpu",
        "description": "This machine as a board",
        "facts": {"power_modes": {"value": modes, "source": "the test"}},
    }
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets/nano.yaml").write_text(yaml.safe_dump(nano))
    return jetson


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["profile", "--target", "nano", *QUICK, *arguments])
    return done.exit_code, done.stdout, " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--power-mode", "8W"), "power mode '8W' is unknown; the nearest known name is '7W'."),
        (("--power-mode", "7W"), "takes a restart of the board, which is still in 15W; run `sudo nvpmodel -m 1` there"),
    ],
)
def test_a_mode_that_cannot_be_set_is_refused_in_one_sentence(
    jetson: FakeJetson, arguments: tuple[str, ...], sentence: str
) -> None:
    before = jetson.state()
    code, _, words = run(*arguments)
    assert code == 2
    assert words.startswith("Error: target 'nano', changing its settings:") and sentence in words
    assert jetson.state() == before


def test_what_was_set_is_said_and_set_back(jetson: FakeJetson) -> None:
    before = jetson.state()
    _, _, words = run("--power-mode", "MAXN_SUPER", "--lock-clocks")  # too short a profile for a table
    assert "Set on nano: power mode MAXN_SUPER, clocks locked (cpu 1728 MHz" in words
    assert jetson.state() == before
    assert "nvpmodel -m" in jetson.calls()


def test_a_plan_carries_what_is_to_be_set(jetson: FakeJetson, tmp_path: Path) -> None:
    code, _, words = run("--power-mode", "MAXN_SUPER", "--plan", str(tmp_path / "plan.json"))
    assert code == 0, words
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["settings"] == {
        "power_mode": "MAXN_SUPER",
        "lock_clocks": False,
        "known_modes": {"15W": 0, "7W": 1, "MAXN_SUPER": 2},
    }
    assert jetson.calls() == []

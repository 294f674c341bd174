"""``hwnas targets`` and its commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from hwnas.cli.main import app
from tests.sshd import Sshd, serving


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["targets", *map(str, arguments)])


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    return tmp_path


def test_targets_are_listed_with_and_without_saying_so() -> None:
    plain, said = run(), run("list")
    assert plain.exit_code == said.exit_code == 0
    assert plain.stdout == said.stdout
    assert "jetson-tx2" in plain.stdout and "facts only" in plain.stdout
    names = [target["name"] for target in json.loads(run("--json").stdout)]
    assert names == sorted(names) == [target["name"] for target in json.loads(run("list", "--json").stdout)]


def test_nothing_heavy_is_loaded_to_list_targets() -> None:
    program = (
        "import sys; sys.argv = ['hwnas', 'targets', 'list', '--json']\nfrom hwnas.cli.main import main\ntry: main()\n"
    )
    program += "except SystemExit: print([m for m in ('torch', 'onnx', 'asyncssh', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_target_is_shown_with_the_source_of_each_fact() -> None:
    shown = words(run("show", "jetson-orin-nano-8gb-super").stdout)
    assert "extends: jetson-orin-nano-8gb " in shown
    assert "hwnas targets add NAME --ssh USER@HOST" in shown
    assert "compute_capability: 8.7 jetson_stats" in shown
    assert "25W: id 1, tpcs 4, gpu_max_mhz 918, emc_max_mhz 3199, default True" in shown
    assert "cuda_cores: 512 unverified: NVIDIA's data sheet" in words(run("show", "jetson-orin-nano-4gb").stdout)
    told = json.loads(run("show", "jetson-nano-4gb", "--json").stdout)["target"]
    assert told["support"] == "facts-only" and told["facts"]["tensor_cores"]["unverified"] is True
    assert run("show", "jetson-nano").exit_code == 2
    refused = run("show", "jetson-nano-4gb", "--live")
    assert refused.exit_code == 2 and "facts alone" in refused.stderr


def test_right_files_are_called_right_and_wrong_ones_with_what_is_wrong(tmp_path: Path) -> None:
    assert run("validate").exit_code == 0
    good = tmp_path / "good.yaml"
    good.write_text("schema: 1\nname: good\nextends: host-cpu\ndescription: Mine\n")
    bad = tmp_path / "bad.yaml"
    bad.write_text("schema: 1\nname: bad\nextends: host-cpu\ndescription: 5\ndefualts: {}\n")
    result = run("validate", good, bad, tmp_path / "none.yaml")
    assert result.exit_code == 2
    told = words(result.stdout)
    assert f"{good} is right" in told
    assert f"target {bad}: field 'description': input should be a valid string, found 5" in told
    assert "field 'defualts' is unknown; the nearest known name is 'defaults'" in told
    assert "none.yaml does not exist" in told
    errors = {Path(one["file"]).stem: one["error"] for one in json.loads(run("validate", good, bad, "--json").stdout)}
    assert errors["good"] is None and "defualts" in errors["bad"]


def test_the_schema_is_printed_as_it_is_published() -> None:
    published = Path(__file__).resolve().parents[2] / "targets" / "target.schema.json"
    assert run("schema").stdout == published.read_text()


@pytest.mark.parametrize("command", ["profile", "search", "bench", "run"])
def test_what_needs_a_device_refuses_one_of_which_only_facts_are_known(command: str, tmp_path: Path) -> None:
    needed = {"search": ["--budget", "1", "--out", "s"], "bench": ["m.onnx"], "run": ["--name", "x"]}.get(command, [])
    done = CliRunner().invoke(app, [command, "--target", "jetson-tx2", *needed])
    assert done.exit_code == 2, done.output
    assert words(done.stderr).startswith("Error: Target 'jetson-tx2' is described by facts alone")


def test_this_machine_is_added(home: Path) -> None:
    result = run("add", "desk", "--local")
    assert result.exit_code == 0, result.output
    assert "next: hwnas profile --target desk" in words(result.stdout)
    written = yaml.safe_load((home / "targets" / "desk.yaml").read_text())
    assert (written["name"], written["connection"]) == ("desk", {"kind": "local"})
    assert written["facts"]["cpu_cores"]["value"] >= 1
    again = run("add", "desk", "--local")
    assert again.exit_code == 2 and "give --force" in again.stderr
    assert run("add", "desk", "--local", "--force", "--extends", "raspberry-pi-5", "--json").exit_code == 0
    assert json.loads(run("show", "desk", "--json").stdout)["target"]["extends"] == "raspberry-pi-5"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "box").mkdir()
    with serving(tmp_path / "box") as started:
        yield started


def test_a_board_is_added_over_ssh(server: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, beside = server.config, "box/config"
    monkeypatch.chdir(home)
    result = run("add", "box", "--ssh", "box", "--config", beside, "--python", sys.executable, "--json")
    assert result.exit_code == 0, result.output
    written = yaml.safe_load((home / "targets" / "box.yaml").read_text())
    assert written["connection"] == {"kind": "ssh", "host": "box", "config": str(config), "python": sys.executable}
    assert written["facts"]["memory_gib"]["source"].startswith("/proc/meminfo, 20")
    (server.home / "known_hosts").write_text("")
    unknown = run("show", "box", "--live", "--json")
    assert unknown.exit_code == 1 and "give it --accept-new" in words(unknown.stderr)
    shown = json.loads(run("show", "box", "--live", "--accept-new", "--json").stdout)
    assert shown["target"]["name"] == "box" and len(shown["identity8"]) == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["x"], "Say where the board is"),
        (["x", "--ssh", "a", "--local"], "Say where the board is"),
        (["x", "--local", "--key", "k"], "belong to --ssh"),
        (["x", "--ssh", "a:b:c"], "not 'a:b:c'"),
        (["X!", "--local"], "field 'name'"),
        (["x", "--local", "--extends", "y"], "y.yaml does not exist"),
    ],
)
def test_a_mistake_in_adding_is_one_sentence_and_writes_nothing(
    arguments: list[str], sentence: str, home: Path
) -> None:
    done = run("add", *arguments)
    assert done.exit_code == 2
    assert sentence in words(done.stderr)
    assert not list(home.glob("targets/*.yaml"))

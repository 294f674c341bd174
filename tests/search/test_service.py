"""Searches with real workers under NNI's training service; each start takes seconds, so each test looks at much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hwnas.errors import BadFileError, UserError
from hwnas.files import read_json_lines
from hwnas.search.service import Machine, Recipe, machines_from, read_machines

sys.path.insert(0, str(Path(__file__).parent))
import service_fakes
from service_fakes import evaluated

PROGRAM = Path(service_fakes.__file__)
PATIENCE_S = 300.0


def start(directory: Path, seconds: float, machines: list[dict[str, object]]) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(directory), str(seconds), json.dumps(machines)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


ROOT = PROGRAM.parents[2]


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end; returns what was said of it."""
    said = process.communicate(timeout=PATIENCE_S)[1]
    return said


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def listening(processes: list[psutil.Process]) -> list[str]:
    """Addresses on which any of the processes listens."""
    found = []
    for process in processes:
        found += [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return found


def candidates(directory: Path) -> list[dict[str, object]]:
    lines = read_json_lines(directory / "evaluations.jsonl")
    for line in lines:
        del line["seconds"]
    return lines


@pytest.fixture(scope="module")
def sequential(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    directory = tmp_path_factory.mktemp("sequential")
    process = start(directory, 0.0, [])
    finish(process)
    assert process.returncode == 0
    return candidates(directory)


def test_killed_workers_and_a_killed_search_change_nothing(
    tmp_path: Path, sequential: list[dict[str, object]]
) -> None:
    """A worker and then the search are killed with -9 amid evaluations; the same command ends as if unbroken."""
    directory = tmp_path / "with space"
    home = {path.name for path in Path.home().iterdir()}
    process = start(directory, 0.3, [{"workers": 2}])
    wait_until(lambda: len(evaluated(directory, "begun")) >= 3, process)
    assert set(listening(family(process))) == {"127.0.0.1"}
    begun = read_json_lines(directory / service_fakes.LOG)[-1]
    os.kill(begun["pid"], signal.SIGKILL)
    wait_until(lambda: len(evaluated(directory, "done")) >= 11, process)
    processes = family(process)
    process.kill()
    process.wait()
    # Nothing is left running, without anybody ending it.
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes))

    before = (directory / "evaluations.jsonl").read_bytes()
    arrived = [line["id"] for line in read_json_lines(directory / "arrivals.jsonl")]
    again = start(directory, 0.0, [{"workers": 2}])
    said = finish(again)
    assert again.returncode == 0, said
    assert (directory / "evaluations.jsonl").read_bytes().startswith(before)
    assert candidates(directory) == sequential
    count = Counter(evaluated(directory, "begun"))
    assert len(count) == 24
    assert all(count[architecture] == 1 for architecture in arrived if architecture != begun["id"])
    assert count[begun["id"]] <= 2
    assert {path.name for path in Path.home().iterdir()} == home


def test_machines_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "machines.yaml"
    path.write_text("schema: 1\nmachines:\n  - workers: 2\n  - {host: me@box, python: /opt/a b/python, workers: 3}\n")
    here, box = read_machines(path)
    assert (here.host, here.workers, box.workers) == (None, 2, 3)
    assert here.command() == [sys.executable, "-m", "hwnas.search.service.worker"]
    command = box.command()
    assert command[-2:] == ["me@box", "'/opt/a b/python' -m hwnas.search.service.worker"]
    for option in ("BatchMode=yes", "PasswordAuthentication=no", "StrictHostKeyChecking=yes", "ForwardAgent=no"):
        assert command[command.index(option) - 1] == "-o"
    assert machines_from(0, None) == ()
    assert machines_from(3, None) == (Machine(workers=3),)
    with pytest.raises(UserError, match="not both"):
        machines_from(1, path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("machines: [", "not YAML"),
        ("schema: 1\nmachines: []\n", "machines"),
        ("machines: [{workers: 0}]", "workers"),
        ("machines: [{host: box}]", "'python' is missing"),
        ("machines: [{host: -oProxyCommand=x, python: p}]", "one word that does not begin with"),
        ("machines: [{password: x}]", "password"),
    ],
)
def test_a_wrong_list_of_machines_is_refused_by_field(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "machines.yaml"
    path.write_text(text)
    with pytest.raises(BadFileError, match=complaint):
        read_machines(path)


def test_a_recipe_is_made_only_where_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROGRAM.parent)
    recipe = Recipe(maker="service_fakes:HashedAccuracy", settings={}, identity="hashed")
    assert Recipe.read(recipe.model_dump_json(by_alias=True)).make().identity == "hashed"
    with pytest.raises(UserError, match="the evaluator made here is hashed, not other"):
        recipe.model_copy(update={"identity": "other"}).make()
    with pytest.raises(UserError, match="hwnas is .* here, not 0.0"):
        recipe.model_copy(update={"versions": {"hwnas": "0.0"}}).make()

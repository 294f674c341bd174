"""Searches with real workers under NNI's training service; each start takes seconds, so each test looks at much."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hwnas.errors import BadFileError, HwnasError, UserError
from hwnas.files import read_json_lines, write_json
from hwnas.search.service import Machine, Recipe, machines_from, read_machines
from hwnas.search.service.arrivals import Arrivals
from hwnas.search.service.pool import Pool
from hwnas.search.service.server import ServerRecord, end_leftover
from hwnas.spaces import Architecture, get_space
from tests.programs import ROOT, home_of, started
from tests.sshd import Sshd

sys.path.insert(0, str(Path(__file__).parent))
import service_fakes
from service_fakes import evaluated

PROGRAM = Path(service_fakes.__file__)
SPACE = get_space("mobilenet_v3/small")
PATIENCE_S = 300.0


def nothing() -> None:
    """No complaint."""


def start(directory: Path, seconds: float, machines: list[dict[str, object]]) -> subprocess.Popen[str]:
    return started(PROGRAM, directory, str(seconds), json.dumps(machines))


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


def test_killed_workers_and_a_killed_search_change_nothing(tmp_path: Path, sequential: list[dict[str, object]]) -> None:
    """A worker and then the search are killed with -9 amid evaluations; the same command ends as if unbroken."""
    directory = tmp_path / "with space"
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
    assert list(home_of(directory).iterdir()) == []


@pytest.fixture
def box(sshd: Sshd) -> dict[str, object]:
    """A machine behind a real SSH server on the loopback interface."""
    if shutil.which("ssh") is None:
        pytest.skip("needs an SSH client and server, see scripts/system-packages.sh")
    python = sshd.home / "python"
    paths = os.pathsep.join([str(ROOT), str(PROGRAM.parent)])
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(paths)} exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return {"host": "box", "python": str(python), "ssh_config": str(sshd.config)}


def test_workers_over_ssh_are_killed_and_the_search_goes_on_without_them(
    tmp_path: Path, box: dict[str, object], sequential: list[dict[str, object]]
) -> None:
    """Begun with workers on another machine, ended in one process: the candidates are the same."""
    process = start(tmp_path, 0.3, [{**box, "workers": 2}])
    wait_until(lambda: len(evaluated(tmp_path, "begun")) >= 3, process)
    worker = read_json_lines(tmp_path / service_fakes.LOG)[-1]["pid"]
    assert worker not in [child.pid for child in family(process)]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(evaluated(tmp_path, "done")) >= 9, process)
    pids = {line["pid"] for line in read_json_lines(tmp_path / service_fakes.LOG)}
    process.kill()
    process.wait()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    recorded = len(candidates(tmp_path))
    assert 8 <= recorded < 24
    again = start(tmp_path, 0.0, [])
    said = finish(again)
    assert again.returncode == 0, said
    assert candidates(tmp_path) == sequential


def test_an_unknown_host_and_a_host_without_key_are_refused(tmp_path: Path, box: dict[str, object]) -> None:
    config = Path(str(box["ssh_config"])).read_text()
    for wrong, complaint in (
        (config.replace("known_hosts", "nobody"), "Host key verification failed"),
        (config.replace("/user\n", "/host\n"), "Permission denied"),
    ):
        (tmp_path / "config").write_text(wrong)
        machine = Machine.model_validate({**box, "ssh_config": str(tmp_path / "config")})
        done = subprocess.run(machine.command(), input="", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 255
        assert complaint in done.stderr


class Worker:
    """A trial as the pool sees it."""

    def __init__(self, path: Path, place: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rw")
        self.say({"place": place})
        self.command = self.hear()["command"]
        self.recipe = self.hear()

    def say(self, value: object) -> None:
        self._lines.write(json.dumps(value) + "\n")
        self._lines.flush()

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self._lines.readline()))

    def ready(self) -> Worker:
        self.say({"ready": "hashed"})
        return self

    def end(self, **last_words: str) -> None:
        if last_words:
            self.say(last_words)
        self._lines.close()
        self._socket.close()


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[tuple[Pool, Path]]:
    recipe = Recipe(maker="service_fakes:HashedAccuracy", settings={}, identity="hashed")
    with tempfile.TemporaryDirectory() as short:
        path = Path(short) / "sock"
        pool = Pool(path, [Machine(workers=2)], recipe, Arrivals(tmp_path))
        yield pool, path
        pool.close()


def test_an_architecture_whose_worker_ends_is_given_to_another(pool: tuple[Pool, Path], tmp_path: Path) -> None:
    workers, path = pool
    first, second = SPACE.smallest, SPACE.largest
    workers.begin([first, second])
    lost = Worker(path, 0).ready()
    assert lost.hear() == first.to_json()
    lost.end()
    other = Worker(path, 1).ready()
    for _ in range(2):
        architecture = Architecture.from_json(other.hear())
        other.say({"id": architecture.id, "top1": 0.5, "seconds": 1.0})
    assert [workers.answer(a, nothing).id for a in (first, second)] == [first.id, second.id]
    assert {line["id"] for line in read_json_lines(tmp_path / "arrivals.jsonl")} == {first.id, second.id}


def test_an_architecture_that_ends_every_worker_ends_the_search(pool: tuple[Pool, Path]) -> None:
    workers, path = pool
    workers.begin([SPACE.smallest])
    for place in (0, 1, 0):
        worker = Worker(path, place).ready()
        worker.hear()
        worker.end(ended="Out of memory")
    with pytest.raises(HwnasError, match=f"3 workers ended while they evaluated {SPACE.smallest.id}.*Out of memory"):
        workers.answer(SPACE.smallest, nothing)


def test_a_search_without_workers_ends_with_the_last_words(pool: tuple[Pool, Path]) -> None:
    workers, path = pool
    for place in (0, 0, 0, 1, 1, 1):
        assert not workers.places[place].given_up
        Worker(path, place).end(ended="Host key verification failed.")
        wait_until(lambda place=place: workers.places[place].failures > 0)
    with pytest.raises(HwnasError, match=r"No worker is left.*this machine: Host key verification failed\."):
        workers.answer(SPACE.smallest, nothing)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ({"error": "no such weights"}, "failed: no such weights"),
        ({"id": "another", "top1": 0.5, "seconds": 1.0}, "answers for another architecture"),
        ({"id": SPACE.smallest.id, "top1": 1.5, "seconds": 1.0}, "gave field 'top1'"),
    ],
)
def test_a_wrong_answer_ends_the_search(pool: tuple[Pool, Path], answer: dict[str, object], complaint: str) -> None:
    workers, path = pool
    workers.begin([SPACE.smallest])
    worker = Worker(path, 0).ready()
    worker.hear()
    worker.say(answer)
    with pytest.raises(HwnasError, match=complaint):
        workers.answer(SPACE.smallest, nothing)


def test_a_worker_that_cannot_evaluate_ends_the_search(pool: tuple[Pool, Path]) -> None:
    workers, path = pool
    Worker(path, 0).say({"error": "the evaluator made here is another"})
    with pytest.raises(UserError, match="on this machine cannot evaluate: the evaluator made here is another"):
        workers.answer(SPACE.smallest, nothing)


def test_a_server_left_over_is_ended_and_no_other_process(tmp_path: Path) -> None:
    process = psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    created = process.create_time()
    for recorded, ended in ((created - 60, False), (created, True)):
        write_json(tmp_path / "server.json", ServerRecord(pid=process.pid, created=recorded, page="http://127.0.0.1"))
        end_leftover(tmp_path)
        assert (process.poll() is not None) is ended
        assert not (tmp_path / "server.json").exists()
    end_leftover(tmp_path)


def test_a_damaged_list_of_arrivals_is_refused(tmp_path: Path) -> None:
    (tmp_path / "arrivals.jsonl").write_text('{"schema": 1, "id": "a", "top1": 3, "seconds": 0}\n')
    with pytest.raises(BadFileError, match="line 1: field 'top1'"):
        Arrivals(tmp_path)


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
    with pytest.raises(UserError, match=r"hwnas is .* here, not 0\.0"):
        recipe.model_copy(update={"versions": {"hwnas": "0.0"}}).make()

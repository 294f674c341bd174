"""A board in a directory: slots that are signed, a service as a process, and a client that never rests."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hwnas.agent.environment import undisturbed
from hwnas.agent.protocol import AgentError
from hwnas.agent.service.client import ServiceClient
from hwnas.agent.service.record import find_service
from hwnas.devices.zipapp import agent_zipapp
from tests.deploy.bundles import TinyBundle, keyid, make_key, public_hex, tiny_bundle

PATIENCE_S = 60.0
"""For whatever must come, on however slow a machine."""
PERIOD_S = 0.02


def pareto_bundle(version: int, *, slow_layers: int = 5) -> TinyBundle:
    """A bundle of two models, the more accurate of which is many times slower."""
    budget = {"statistic": "p50"}  # a p99 may say otherwise where others work on the machine
    slow = tiny_bundle(version=version, models=("slow",), layers=slow_layers, budget=budget)
    fast = tiny_bundle(version=version, models=("fast",), budget=budget)
    files = {**slow.files, **fast.files}
    manifest = {
        **slow.manifest,
        "models": [*slow.manifest["models"], *fast.manifest["models"]],
        "files": {**slow.manifest["files"], **fast.manifest["files"]},
    }
    return TinyBundle(manifest, files, slow.keys)


def golden(bundle: TinyBundle, model: str) -> tuple[np.ndarray, np.ndarray]:
    """What a model of the bundle takes and gives."""
    arrays = (np.load(io.BytesIO(bundle.files[f"models/{model}/golden-{side}.npy"])) for side in ("inputs", "outputs"))
    inputs, outputs = arrays
    return inputs, outputs


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def until(happens: Callable[[], Any]) -> Any:
    """What ``happens`` gives as soon as that is true; a refusal is not."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = None
        with contextlib.suppress(AgentError):
            found = happens()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Board:
    """A root in which one key is trusted, and heat that the test makes."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir(mode=0o700)
        self.agent = directory / "hwnas-agent.pyz"
        self.agent.write_bytes(agent_zipapp())
        self.thermal = directory / "thermal"
        self.cooling = self.thermal / "cooling_device0"
        self.cooling.mkdir(parents=True)
        for name, content in {"type": "cpufreq-cpu0", "max_state": "3"}.items():
            (self.cooling / name).write_text(content)
        self.heat(0)
        self.client = ServiceClient(self.root)
        self.trust()

    def trust(self, revoked: Sequence[str] = ()) -> None:
        """Trust the key of the tests."""
        key = make_key()
        keys = {keyid(key): {"public": public_hex(key), "comment": "", "added": ""}}
        record = {"schema": 1, "keys": keys, "revoked": {name: {"reason": "lost", "revoked": ""} for name in revoked}}
        (self.root / "trusted_keys.json").write_text(json.dumps(record))

    def heat(self, state: int) -> None:
        """Have the kernel slow the processor down by so many of 3 steps."""
        (self.cooling / "cur_state").write_text(str(state))

    def install(self, bundle: TinyBundle) -> Path:
        """Lay a bundle down as a slot, unless there is one of that name."""
        slot = self.root / "slots" / bundle.digest
        for name, content in () if slot.exists() else bundle.members:
            (slot / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (slot / name).write_bytes(content)
        return slot

    def point(self, bundle: TinyBundle) -> None:
        """Make a bundle the current one."""
        self.install(bundle)
        link = self.root / "current.new"
        link.symlink_to(f"slots/{bundle.digest}")
        link.rename(self.root / "current")

    def switch(self, bundle: TinyBundle) -> dict[str, Any]:
        """The same, and wait until it is served."""
        self.point(bundle)
        return self.when(digest=bundle.digest, problem=None)

    def when(self, **state: Any) -> dict[str, Any]:
        """The state of the service as soon as it is so."""

        def is_so() -> dict[str, Any] | None:
            found = self.client.health()
            return found if all(found.get(name) == value for name, value in state.items()) else None

        found: dict[str, Any] = until(is_so)
        return found

    def command(self, *options: str, address: str = "127.0.0.1:0") -> list[str]:
        """The service's command line."""
        given = ["--root", str(self.root), "--address", address, "--thermal", str(self.thermal), *options]
        return [sys.executable, "-E", str(self.agent), "serve", *given]

    def refused(self, *options: str) -> str:
        """What a service says that does not begin."""
        command, variables = self.command(*options), undisturbed(os.environ)
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert ended.returncode == 2, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stderr

    @contextlib.contextmanager
    def serving(
        self, *options: str, address: str = "127.0.0.1:0", environment: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A service, killed in the end if the test has not ended it."""
        variables = undisturbed({**os.environ, **(environment or {})})  # else it starts itself anew
        with subprocess.Popen(self.command(*options, address=address), env=variables) as process:
            try:
                until(lambda: self.record() or process.poll() is not None)
                assert process.poll() is None, "the service did not start"
                yield process
            finally:
                process.kill()

    def record(self) -> dict[str, Any] | None:
        """What a living service says of itself."""
        return find_service(self.root)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the service."""
        record = self.record()
        assert record is not None
        return http.client.HTTPConnection(record["address"], timeout=PATIENCE_S)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content."""
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    @property
    def bearer(self) -> dict[str, str]:
        record = self.record()
        assert record is not None
        return {"Authorization": f"Bearer {record['token']}"}


class Poller:
    """A client that asks 50 times a second on one connection, and checks each answer with the model that gave it."""

    def __init__(self, board: Board, *bundles: TinyBundle) -> None:
        self._connect = board.connect
        self._expected = {
            (bundle.digest, model["id"]): golden(bundle, model["id"])
            for bundle in bundles
            for model in bundle.manifest["models"]
        }
        self._inputs = {npy(inputs[:2]): {} for inputs, _ in self._expected.values()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.answers: list[tuple[str, str]] = []
        """Slot and model of each."""
        self.failures: list[str] = []

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more answers have come."""
        goal = len(self.answers) + more
        until(lambda: len(self.answers) >= goal or self.failures)

    def _poll(self) -> None:
        connection = self._connect()
        inputs, _ = next(iter(self._expected.values()))
        body = npy(inputs[:2])
        while not self._stop.wait(PERIOD_S):
            try:
                connection.request("POST", "/infer", body)
                response = connection.getresponse()
                self._check(inputs[:2], response, response.read())
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                return
        connection.close()

    def _check(self, inputs: np.ndarray, response: http.client.HTTPResponse, content: bytes) -> None:
        if response.status != 200:
            self.failures.append(f"{response.status}: {content!r}")
            return
        origin = (str(response.headers["Hwnas-Slot"]), str(response.headers["Hwnas-Model"]))
        known, outputs = self._expected[origin]
        found = np.load(io.BytesIO(content), allow_pickle=False)
        if np.array_equal(known[:2], inputs) and not np.allclose(found, outputs[:2], rtol=1e-2, atol=1e-3):
            self.failures.append(f"{origin} answered {found}")
        self.answers.append(origin)


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask a service to end; gives its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_S)

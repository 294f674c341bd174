"""NNI's server, started so that it listens on the loopback interface alone and ends with who started it."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import requests

import hwnas
from hwnas.errors import BadFileError, HwnasError
from hwnas.files import Document, explain_os_errors, read_model, write_json
from hwnas.search.service.trial import HOME, PARENT, SOCKET

SERVER_FILE = "server.json"
LOG_FILE = "server.txt"
START_S = 60.0
STOP_S = 20.0
SEARCH_TRIAL = "hwnas.search.service.trial"
PRELOADED = Path(__file__).with_name("loopback.js")


class ServerRecord(Document):
    """The server that runs, or ran last, for a search.

    Attributes:
        pid, created: its process and when that was started, s since 1970.
        page: address of its web page on this machine; whoever knows it can start programs as the user.
    """

    pid: int
    created: float
    page: str


class Server:
    """NNI's server for one search or one tuning.

    Args:
        directory: for what NNI writes; each start has a directory of its own below.
        experiment: NNI's id of this start.
        trial: the module that is a trial's program, and its arguments.

    Attributes:
        directory: as given.
        prefix: of every address; a secret, since whoever knows it can start programs as the user.
        port: on the loopback interface, once started.
        work: where NNI works.
    """

    def __init__(self, directory: Path, experiment: str, trial: Sequence[str] = (SEARCH_TRIAL,)) -> None:
        self.directory = directory
        self.experiment = experiment
        self._trial = trial
        self._temporary = tempfile.TemporaryDirectory(prefix="hwnas-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.prefix = secrets.token_urlsafe(16).replace("-", "_")
        self.port = 0
        # NNI quotes no path, so it is given one without spaces.
        self.work = Path(self._temporary.name) / "nni"
        with explain_os_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o700)  # NNI's logs hold the secret prefix
            self.work.symlink_to(directory.absolute(), target_is_directory=True)

    @property
    def socket(self) -> Path:
        """Where trials find the search: in a directory of the user alone, with a short path."""
        return Path(self._temporary.name) / "search.sock"

    @property
    def page(self) -> str:
        """Address of the web page."""
        return f"http://127.0.0.1:{self.port}/{self.prefix}/"

    @property
    def channel(self) -> str:
        """Where NNI's server talks with the search."""
        return f"ws://localhost:{self.port}/{self.prefix}/tuner"

    def start(self, config: dict[str, Any]) -> None:
        """Start the server and the experiment.

        Args:
            config: NNI's, canonical; what is run and where is set here.

        Raises:
            HwnasError: it does not answer.
        """
        self.port = _free_port()
        _spare_proxies()
        log_path = self.directory / LOG_FILE
        with explain_os_errors(log_path), log_path.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, cwd=self._temporary.name, process_group=0,
            )  # fmt: skip
        created = psutil.Process(self._process.pid).create_time()
        path = self.directory / SERVER_FILE
        path.touch(0o600)
        write_json(path, ServerRecord(pid=self._process.pid, created=created, page=self.page))
        path.chmod(0o600)
        listed = {"id": self.experiment, "port": self.port, "pid": self._process.pid, "status": "INITIALIZED"}
        write_json(self.directory / "nni-experiments" / ".experiment", {self.experiment: listed})
        self._wait_until_it_answers()
        trial = shlex.join([sys.executable, "-m", *self._trial])
        where = {"trialCommand": trial, "trialCodeDirectory": self._temporary.name}
        content = config | where | {"trainingService": config["trainingService"] | where}
        try:
            self._request("POST", "experiment", content)
        except requests.RequestException as error:
            raise HwnasError(f"NNI's server refuses the experiment ({error}); see {log_path}.") from error

    def check(self) -> None:
        """Whether the server still runs.

        Raises:
            HwnasError: it does not.
        """
        if self._process is None or self._process.poll() is not None:
            raise HwnasError(
                f"NNI's server ended early; {self.directory / LOG_FILE} may say why. The same command goes on."
            )

    def stop(self) -> None:
        """End the server, gently if it lets itself."""
        if self._process is not None:
            try:
                self._request("DELETE", "experiment")
            except requests.RequestException:
                self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._temporary.cleanup()

    def _command(self) -> list[str]:
        import nni_node

        node = Path(nni_node.__path__[0])
        arguments = {
            "port": self.port,
            "experiment-id": self.experiment,
            "action": "create",
            "mode": "local",
            "experiments-directory": self.work,
            "log-level": "warning",
            "foreground": "false",
            "python-interpreter": sys.executable,
        }
        words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        return [str(node / "node"), "--max-old-space-size=4096", str(node / "main.js"), *words]

    def _environment(self) -> dict[str, str]:
        """NNI's own HOME, so that the user's is left alone; trials and workers are given the user's again."""
        paths = [str(Path(hwnas.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        return os.environ | {
            "HOME": str(self.directory),
            "NODE_OPTIONS": f'--require "{PRELOADED}"',
            "NNI_FRAMEWORK": "none",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "HWNAS_SERVICE_PREFIX": self.prefix,
            "HWNAS_SERVICE_CHANNEL": self.channel,
            PARENT: str(os.getpid()),
            HOME: str(Path.home()),
            SOCKET: str(self.socket),
        }

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + START_S
        while True:
            self.check()
            try:
                # Until it is ready it answers with its web page, which is not JSON.
                self._request("GET", "check-status").json()
            except requests.RequestException as error:
                if time.monotonic() > until:
                    raise HwnasError(
                        f"NNI's server does not answer after {START_S:.0f} s; see {self.directory / LOG_FILE}."
                    ) from error
                time.sleep(0.1)
            else:
                return

    def _request(self, method: str, what: str, body: Any = None) -> requests.Response:
        response = requests.request(method, f"{self.page}api/v1/nni/{what}", json=body, timeout=STOP_S)
        response.raise_for_status()
        return response


def end_leftover(directory: Path) -> None:
    """End the server of a search that was killed, should it still run; what it works for must be locked."""
    path = directory / SERVER_FILE
    if not path.exists():
        return
    with suppress(BadFileError, psutil.Error):
        record = read_model(path, ServerRecord, what="record of NNI's server")
        process = psutil.Process(record.pid)
        if abs(process.create_time() - record.created) < 1:
            process.terminate()
            try:
                process.wait(STOP_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
    path.unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _spare_proxies() -> None:
    """NNI reaches its server over HTTP, for which no proxy is of use."""
    for name in ("NO_PROXY", "no_proxy"):
        others = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*others, "127.0.0.1", "localhost"]))

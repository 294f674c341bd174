"""Boards over SSH, by a real server: who is let in, what breaks, what is found there afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from hwnas.agent.canary import canary_onnx
from hwnas.agent.lease import HeldError, Lease
from hwnas.agent.lodging import LEASE_S, RETURN_S
from hwnas.agent.protocol import ErrorKind
from hwnas.devices import AgentLostError, Device, MeasureOptions, RefusedError, load_target
from hwnas.devices.device import CONNECTIONS
from hwnas.devices.errors import UnreachableError
from hwnas.devices.ssh import SshConnection
from hwnas.devices.ssh.dialling import Dialler, Hop, hang_up
from hwnas.devices.ssh.loop import LoopThread
from hwnas.devices.ssh.process import RemoteProcess
from hwnas.devices.target import Ssh
from hwnas.devices.zipapp import agent_zipapp
from hwnas.errors import DeviceError, UserError
from hwnas.latency import ProfileOptions, profile
from hwnas.questions import Nobody
from hwnas.spaces import get_space
from tests.agents import eventually, gone, pid_of
from tests.sshd import Sshd, free_port, make_key, serving

QUICK = MeasureOptions(min_samples=8, max_seconds=1.0)
ENDLESS = MeasureOptions(min_samples=10**9, max_seconds=10**4)
EVENTUALLY_S = 30.0
NEAR = f"hwnas-n{os.getpid()}"
"""This end of a wire; other runs of these tests have others."""


class Answers(Nobody):
    """Answers as told, and keeps what was asked."""

    def __init__(self, trust: bool = False, secrets: tuple[str, ...] = ()) -> None:
        self.trust, self.secrets, self.asked = trust, list(secrets), list[str]()

    def trusts(self, host: str, fingerprint: str) -> bool:
        self.asked.append(f"{host} {fingerprint}")
        return self.trust

    def secret(self, what: str) -> str | None:
        self.asked.append(what)
        return self.secrets.pop(0) if self.secrets else None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A server that a test may stop."""
    with serving(tmp_path) as started:
        yield started


def board(settings: Ssh, questions: Answers | None = None) -> Device:
    target = load_target("host-cpu").model_copy(update={"connection": settings})
    return Device(target, SshConnection(settings, questions, returns_within_s=EVENTUALLY_S))


def refusal(settings: Ssh, questions: Answers | None = None) -> str:
    """The sentence with which a connection fails."""
    with board(settings, questions) as device, pytest.raises(DeviceError) as refused:
        device.fingerprint()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_target_says_where_its_board_is(sshd: Sshd) -> None:
    target = load_target("host-cpu").model_copy(update={"connection": sshd.settings()})
    connection = CONNECTIONS["ssh"](target)
    connection.start_agent().stop()
    connection.close()
    with pytest.raises(UserError, match="hwnas targets add NAME --ssh USER@HOST"):
        SshConnection(sshd.settings(host=None))


def test_a_new_host_is_remembered_once_somebody_trusts_it_and_refused_when_its_key_changes(server: Sshd) -> None:
    known = server.home / "known_hosts"
    known.write_text("other ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA==")  # without an end of line
    asked = Answers(trust=False)
    assert "was never seen before" in refusal(server.settings(), asked)
    assert len(asked.asked) == 1

    trusting = Answers(trust=True)
    with board(server.settings(), trusting) as device:
        device.fingerprint()
    fingerprint = subprocess.run(["ssh-keygen", "-lf", server.home / "host.pub"], capture_output=True, check=True)
    assert trusting.asked == [f"[127.0.0.1]:{server.port} {fingerprint.stdout.decode().split()[1]}"]
    assert len(known.read_text().splitlines()) == 2
    with board(server.settings()) as device:
        device.fingerprint()

    server.stop()
    make_key(server.home / "host")
    server.start()
    late = Answers(trust=True, secrets=("secret",))
    said = refusal(server.settings(), late)
    assert "WARNING" in said and "HAS CHANGED" in said and "ssh-keygen -R" in said and str(known) in said
    assert late.asked == []


def test_a_wrong_password_is_one_sentence(tmp_path: Path) -> None:
    with serving(tmp_path, "PasswordAuthentication yes\nPermitRootLogin yes\n") as server:
        make_key(tmp_path / "none")
        server.config.write_text(server.config.read_text().replace("/user\n", "/none\n"))
        assert "no password was given" in refusal(server.settings())
        for wrong in (("wrong", "wrong again"), ("wrong", "wrong again", "wrong still", "one too many")):
            asked = Answers(secrets=wrong)
            said = refusal(server.settings(), asked)
            assert "did not accept the password" in said and "wrong" not in said
            assert len(asked.asked) == 3


@pytest.fixture
def somebody() -> Iterator[tuple[str, str]]:
    """A user of this machine with a password, for as long as the test runs."""
    name, password = f"hwnas-{os.getpid()}", secrets.token_hex(8)
    if os.geteuid() != 0 or shutil.which("useradd") is None or shutil.which("chpasswd") is None:
        pytest.skip("needs root, useradd and chpasswd for a user with a password")
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}".encode(), check=True)
        yield name, password
    finally:
        subprocess.run(["userdel", name], check=True)


def test_a_right_password_after_a_wrong_one_lets_in_and_is_used_again(
    tmp_path: Path, somebody: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    name, password = somebody
    caplog.set_level("DEBUG")
    with serving(tmp_path, "PasswordAuthentication yes\n") as server:
        (tmp_path / "user").unlink()
        asked, loop = Answers(secrets=("wrong", password)), LoopThread()
        dialler = Dialler(loop, server.settings(), asked)
        for _ in range(2):
            hang_up(loop, dialler.dial(Hop("box", name)))
        loop.close()
    assert asked.asked == [f"Password of {name}@[127.0.0.1]:{server.port}"] * 2
    assert password not in caplog.text


def test_a_password_is_asked_once_and_used_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Against a server of asyncssh, which lets nobody in that the system would have to know."""

    class Gate(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return password == "open sesame"

    loop = LoopThread()
    port = free_port()
    key = asyncssh.generate_private_key("ssh-ed25519")

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen("127.0.0.1", port, server_factory=Gate, server_host_keys=[key])

    caplog.set_level("DEBUG")
    make_key(tmp_path / "none")
    acceptor = loop.run(listen())
    (tmp_path / "config").write_text(
        f"Host *\nUserKnownHostsFile {tmp_path}/known_hosts\nIdentityFile {tmp_path}/none\n"
    )
    asked = Answers(trust=True, secrets=("wrong", "open sesame"))
    dialler = Dialler(loop, Ssh(kind="ssh", host="127.0.0.1", config=str(tmp_path / "config")), asked)
    hop = Hop("127.0.0.1", "ali", port)
    for _ in range(2):
        hang_up(loop, dialler.dial(hop))
    assert asked.asked[1:] == [f"Password of ali@[127.0.0.1]:{port}"] * 2
    assert "sesame" not in caplog.text

    async def end() -> None:
        acceptor.close()

    loop.run(end())  # in its own thread: a server of asyncio closes itself with its last connection
    loop.close()


def test_an_identity_of_the_configuration_that_is_missing_or_none_is_left_out_as_openssh_does(server: Sshd) -> None:
    broken = server.home / "broken"
    broken.write_text("no key")
    named = f"IdentityFile {server.home}/gone\nIdentityFile {broken}\nIdentityFile none\n"
    whole = server.config.read_text()
    server.config.write_text(whole.replace("IdentityFile", f"{named}IdentityFile"))
    openssh = subprocess.run(["ssh", "-F", server.config, "box", "true"], capture_output=True, check=False)
    assert openssh.returncode == 0, openssh.stderr
    loop = LoopThread()
    hang_up(loop, Dialler(loop, server.settings(), Answers()).dial(Hop("box")))
    loop.close()
    server.config.write_text(whole.replace(f"IdentityFile {server.home}/user\nIdentitiesOnly yes\n", named))
    said = refusal(server.settings())
    assert f"accepted no key ({server.home}/gone: No such file or directory; {broken}: " in said


def test_the_users_own_configuration_is_read_where_none_is_named(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where the host is, which key it has, and with which of ours it lets us in."""
    home = tmp_path / "someone"
    (home / ".ssh").mkdir(parents=True)
    shutil.copy(server.config, home / ".ssh" / "config")
    monkeypatch.setenv("HOME", str(home))
    with board(Ssh(kind="ssh", host="box", python=sys.executable)) as device:
        assert device.fingerprint().identity


def test_keys_come_from_files_with_a_passphrase_or_from_the_ssh_agent_which_is_not_forwarded(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(server.home / "none")
    config = server.config.read_text().replace("/user\nIdentitiesOnly yes\n", "/none\nForwardAgent yes\n")
    server.config.write_text(config)
    shutil.copy(server.home / "user", tmp_path / "locked")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open", "-f", tmp_path / "locked"], check=True)
    settings = server.settings(keys=[str(tmp_path / "locked")])
    asked = Answers(secrets=("wrong", "open"))
    with board(settings, asked) as device:
        device.fingerprint()
    assert asked.asked == [f"Passphrase of {tmp_path}/locked"] * 2
    with board(settings) as device, pytest.raises(UserError, match="is encrypted and was not opened"):
        device.fingerprint()
    with board(server.settings(keys=["/no/key"])) as device, pytest.raises(UserError, match="/no/key cannot be read"):
        device.fingerprint()
    with board(server.settings(keys=[__file__])) as device, pytest.raises(UserError, match="holds no private key"):
        device.fingerprint()

    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert eventually(socket.exists)
        subprocess.run(["ssh-add", "-q", server.home / "user"], check=True)
        with board(server.settings()) as device:
            assert b"SSH_AUTH_SOCK" not in Path(f"/proc/{pid_of(device)}/environ").read_bytes()
        agent.terminate()


@pytest.mark.parametrize("way", ["configuration", "target"])
def test_hosts_are_jumped_through(server: Sshd, way: str) -> None:
    with server.config.open("a") as config:
        config.write(f"Host inner\nHostName localhost\nHostKeyAlias [127.0.0.1]:{server.port}\n")
        config.write(
            f"Port {server.port}\nUserKnownHostsFile {server.home}/known_hosts\nIdentityFile {server.home}/user\n"
        )
        config.write("ProxyJump box\n" if way == "configuration" else "")
    connection = SshConnection(server.settings(host="inner", jump=[] if way == "configuration" else ["box"]))
    connection.start_agent().stop()
    assert len(connection._way) == 2
    connection.close()


def test_a_hop_is_a_user_a_host_and_a_port() -> None:
    assert Hop.parse("me@box:2222") == Hop("box", "me", 2222)
    assert Hop.parse("[fe80::1]:22") == Hop("fe80::1", None, 22)
    assert Hop.parse("box") == Hop("box")
    for wrong in ("", "a b", "box:", "box:ssh", "@box", "fe80::1"):
        with pytest.raises(UserError, match=r"is named \[user@\]host\[:port\]"):
            Hop.parse(wrong)


def test_a_host_that_is_not_there_is_one_sentence(server: Sshd) -> None:
    server.stop()
    assert "cannot be reached" in refusal(server.settings())
    assert "cannot be reached" in refusal(server.settings(host="no.such.host.invalid"))


def test_a_board_without_a_fit_python_is_one_sentence(tmp_path: Path) -> None:
    pythons = {
        "python3": {"python": [3, 6, 9], "numpy": True, "received": 0},
        "python3.9": {"python": [3, 9, 1], "numpy": False, "received": 0},
    }
    cases = [f"'exec {name} '*) echo '{json.dumps(answer)}';;" for name, answer in pythons.items()]
    shell = tmp_path / "shell"
    shell.write_text("\n".join(["#!/bin/sh", 'case "$SSH_ORIGINAL_COMMAND" in', *cases, "*) exit 127;;", "esac\n"]))
    shell.chmod(0o755)
    with serving(tmp_path, f"ForceCommand {shell}\n") as server:
        said = refusal(server.settings(python=None))
        assert "has no Python 3.8 or newer with NumPy" in said
        assert "(python3 is Python 3.6.9; python3.9, Python 3.9.1, has no NumPy)" in said
        assert "there is no /no/python" in refusal(server.settings(python="/no/python"))


def test_a_board_without_any_python_is_one_sentence(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"PATH": str(tmp_path)}) as server:
        said = refusal(server.settings(python=None))
    assert "has no Python 3.8 or newer with NumPy, which the agent needs (there is no python3)" in said


def test_a_shell_that_prints_is_one_sentence(tmp_path: Path) -> None:
    with serving(tmp_path, "ForceCommand echo Welcome to the board\n") as server:
        assert "says 'Welcome to the board' where only a program's output is expected" in refusal(server.settings())


def test_a_full_disk_is_one_sentence(tmp_path: Path, small_disk: Path) -> None:
    with serving(tmp_path, environment={"XDG_CACHE_HOME": str(small_disk)}) as server:
        said = refusal(server.settings())
    assert "cannot take the agent" in said and "No space left on device" in said


def test_a_disk_that_fills_up_later_costs_one_request(tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "cache" / "hwnas").mkdir(parents=True)
    (tmp_path / "cache" / "hwnas" / "sessions").symlink_to(small_disk)
    with serving(tmp_path) as server, board(server.settings()) as device:
        pid = pid_of(device)
        with pytest.raises(RefusedError, match=r"compiling a model: the device's disk is full; free .*") as refused:
            for _ in range(2):  # so that there is no room for both engines
                device.compile(canary_onnx())
        assert refused.value.kind == ErrorKind.DISK
        assert device.fingerprint()
        assert pid_of(device) == pid


def test_the_agent_is_sent_once_and_an_upload_goes_on_where_it_broke_off(
    server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = agent_zipapp()
    sent: list[int] = []
    write = RemoteProcess.write

    def counted(self: RemoteProcess, data: bytes) -> None:
        sent.append(len(data))
        write(self, data)

    monkeypatch.setattr(RemoteProcess, "write", counted)
    agents = server.home / "cache" / "hwnas" / "agents"
    agents.mkdir(parents=True)
    (agents / "older.pyz").write_bytes(b"of another version")
    path = agents / f"{hashlib.sha256(content).hexdigest()}.pyz"
    for here, expected in (
        (content[:100_000], [len(content) - 100_000]),
        (None, [0]),  # it is there from the first time
        (b"x" * 1000, [len(content) - 1000, len(content)]),  # damaged, which its hash tells
    ):
        if here is not None:
            path.unlink(missing_ok=True)
            path.with_suffix(".part").write_bytes(here)
        sent.clear()
        connection = SshConnection(server.settings())
        connection.start_agent().stop()
        assert sent[: len(expected)] == expected
        connection.close()
    path.write_bytes(b"damaged later")
    with board(server.settings()) as device:
        device.fingerprint()
    assert path.read_bytes() == content
    assert [file.name for file in agents.iterdir()] == [path.name]


def test_a_board_is_one_session_s(server: Sshd) -> None:
    with board(server.settings()) as first:
        first.fingerprint()
        said = refusal(server.settings())
        assert "is in use by" in said and f"(process {os.getpid()})" in said
        assert first.fingerprint()
        assert len(list((server.home / "cache" / "hwnas" / "sessions").iterdir())) == 1
    assert not list((server.home / "cache" / "hwnas" / "sessions").iterdir())
    with board(server.settings()) as second:
        second.fingerprint()


def test_a_session_that_left_its_things_is_cleared_away(server: Sshd) -> None:
    left = server.home / "cache" / "hwnas" / "sessions" / "left"
    left.mkdir(parents=True)
    (server.home / "lock").write_text(
        json.dumps({"owner": "nobody", "session": "left", "boot": "earlier", "until": 1e9})
    )
    with board(server.settings()) as device:
        device.fingerprint()
        assert not left.exists()


def test_a_host_killed_outright_leaves_no_agent_and_soon_no_claim(server: Sshd) -> None:
    host = (
        "import os, sys, json\n"
        "from hwnas.devices.ssh import SshConnection\n"
        "from hwnas.devices.target import Ssh\n"
        "agent = SshConnection(Ssh.model_validate_json(sys.argv[1])).start_agent()\n"
        'reply = json.loads(agent.exchange(b\'{"id": 1, "request": "hello"}\\n\', 60))\n'
        "print(reply['result']['pid'], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", host, server.settings().model_dump_json()]
    pid = int(subprocess.run(command, capture_output=True, check=False).stdout)
    assert eventually(lambda: gone(pid))

    def soon_free() -> bool:
        return bool(json.loads((server.home / "lock").read_text())["until"] - time.monotonic() <= RETURN_S)

    assert eventually(soon_free)


def test_a_lease_runs_out_or_ends_with_its_boot(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    mine, other = Lease("1", "me", path), Lease("2", "you", path)
    mine.take(LEASE_S)
    mine.take(LEASE_S)
    with pytest.raises(HeldError, match=r"held by me for another (89|90) s"):
        other.take(LEASE_S)
    other.release()
    assert not other.shorten(0.0)
    assert mine.shorten(0.0)
    other.take(LEASE_S)
    assert not mine.shorten(LEASE_S)
    path.write_text(path.read_text().replace(other._boot, "another boot"))
    mine.take(LEASE_S)
    mine.release()
    other.take(LEASE_S)
    for torn in ("", '{"session": "3", "until"', "[]", '{"owner": 1, "until": "late"}'):
        path.write_text(torn)
        mine.take(LEASE_S)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        mine.take(LEASE_S)


@pytest.fixture
def in_the_midst(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], None]:
    """Does something as soon as the next measurement was asked for."""

    def once(action: Callable[..., object]) -> None:
        write = RemoteProcess.write

        def writing(self: RemoteProcess, data: bytes) -> None:
            write(self, data)
            if b'"request":"measure"' in data:
                monkeypatch.setattr(RemoteProcess, "write", write)
                threading.Thread(target=action).start()

        monkeypatch.setattr(RemoteProcess, "write", writing)

    return once


def test_a_server_killed_in_the_midst_costs_one_request_and_no_engine(
    server: Sshd, in_the_midst: Callable[[Callable[..., object]], None]
) -> None:
    with board(server.settings()) as device:
        engine = device.compile(canary_onnx())
        pid = pid_of(device)
        in_the_midst(server.stop)
        with pytest.raises(AgentLostError, match="was lost while measuring an engine: the SSH connection"):
            device.measure(engine, ENDLESS)
        threading.Timer(1.0, server.start).start()
        assert device.measure(engine, QUICK).ungated.n >= 8
        assert pid_of(device) != pid
        assert gone(pid)
        server.stop()
        dialogue = device._dialogue
        assert eventually(lambda: dialogue.agent is not None and not dialogue.agent.alive)  # else it costs a request
        dialogue._connection._returns_within_s = 0.1  # type: ignore[attr-defined]
        with pytest.raises(UnreachableError, match="cannot be reached"):
            device.measure(engine, QUICK)


def test_a_profile_goes_on_when_the_server_is_killed_and_restarted(server: Sshd, tmp_path: Path) -> None:
    restarts: list[threading.Timer] = []

    class Restarting:
        """Stops the server when the third unit is done, and starts it while the next waits for it."""

        steps = 0

        def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
            pass

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            self.steps += 1
            if self.steps == 3:
                server.stop()
                restarts.append(threading.Timer(0.3, server.start))
                restarts[0].start()

        def finish(self) -> None:
            pass

    options = ProfileOptions(
        minutes=None,
        resolutions=(24,),
        networks_only=5,
        validation_networks=2,
        builds=1,
        network_builds=1,
        network_protocol=MeasureOptions(min_samples=4, max_seconds=1.0, gate=False),
    )
    with board(server.settings()) as device:
        table, _ = profile(device, get_space("mobilenet_v3/small"), tmp_path / "tables", options, Restarting())
    restarts[0].join()
    assert len(table.networks) == 7


@pytest.fixture
def cuttable(tmp_path: Path) -> Iterator[Sshd]:
    """A server in a network of its own, at the other end of a wire :data:`NEAR`."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and `ip netns` to cut a wire")
    far, space = f"hwnas-f{os.getpid()}", f"hwnas-{os.getpid()}"
    ours, theirs = (f"10.254.{os.getpid() % 250}.{host}" for host in (1, 2))
    commands = [
        f"ip netns add {space}",
        f"ip link add {NEAR} type veth peer name {far} netns {space}",
        f"ip addr add {ours}/30 dev {NEAR}",
        f"ip link set {NEAR} up",
        f"ip -n {space} addr add {theirs}/30 dev {far}",
        f"ip -n {space} link set {far} up",
        f"ip -n {space} link set lo up",
    ]
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"cannot make a network: {command}: {done.stderr.decode().strip()}")
        server = Sshd(tmp_path, address=theirs, prefix=("ip", "netns", "exec", space))
        server.start()
        yield server
        server.stop()
    finally:
        subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", NEAR], capture_output=True, check=False)


def test_a_wire_that_is_cut_costs_one_request_and_no_engine(
    cuttable: Sshd, in_the_midst: Callable[[Callable[..., object]], None]
) -> None:
    """Nothing says that it was cut, so silence must; the board has the agent before still running when we return."""
    with cuttable.config.open("a") as config:
        config.write("ServerAliveInterval 1\nServerAliveCountMax 1\n")

    def wire(state: str) -> None:
        subprocess.run(["ip", "link", "set", NEAR, state], check=True)

    with board(cuttable.settings()) as device:
        engine = device.compile(canary_onnx())
        pid = pid_of(device)
        in_the_midst(lambda: wire("down"))
        with pytest.raises(AgentLostError, match="the SSH connection broke"):
            device.measure(engine, ENDLESS)
        assert not gone(pid)
        wire("up")
        assert device.measure(engine, QUICK).ungated.n >= 8
        assert gone(pid)


def test_the_environment_of_an_agent_on_a_board_is_undisturbed(tmp_path: Path) -> None:
    disturbing = {"OMP_NUM_THREADS": "7", "PYTHONSTARTUP": "x", "HWNAS_KEPT": "7"}
    with serving(tmp_path, environment=disturbing) as server, board(server.settings()) as device:
        environment = Path(f"/proc/{pid_of(device)}/environ").read_bytes()
    assert b"HWNAS_KEPT=7" in environment
    assert b"OMP_NUM" not in environment and b"PYTHON" not in environment


def test_the_same_source_gives_the_same_archive() -> None:
    code = (
        "import hashlib, os; os.umask(0o077)\n"
        "from hwnas.devices.zipapp import agent_zipapp\n"
        "print(hashlib.sha256(agent_zipapp()).hexdigest())"
    )
    for zone in ("UTC", "Asia/Kolkata"):
        command, environment = [sys.executable, "-c", code], {**os.environ, "TZ": zone, "LC_ALL": "C"}
        printed = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode().strip()
        assert printed == hashlib.sha256(agent_zipapp()).hexdigest()


def test_a_loop_gives_up_what_takes_too_long() -> None:
    loop = LoopThread()
    with pytest.raises(TimeoutError):
        loop.run(asyncio.sleep(100), 0.01)
    assert loop.run(asyncio.sleep(0, "done"), 10) == "done"
    loop.start(asyncio.sleep(100))
    loop.close()
    loop.close()
    loop.call(print, "never")

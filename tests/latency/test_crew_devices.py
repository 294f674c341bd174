"""Boards that measure together are real agents here: over SSH, one of whose servers dies, and on this machine."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from hwnas.devices import Device, Engine, Measurement, MeasureOptions, boards_at, load_target
from hwnas.devices.errors import AgentLostError
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.devices.target import Ssh, Target
from hwnas.graphs import network_graph
from hwnas.latency import Board, ProfileOptions, profile_together
from hwnas.latency.crew import Crew
from hwnas.spaces import get_space
from tests.sshd import Sshd, serving

SPACE = get_space("mobilenet_v3/small")
SHORT = MeasureOptions(min_samples=8, max_seconds=0.2, warmup_max_seconds=0.05, transfer_runs=1)


class Steady(Device):
    """Measures where it is, and tells of times that follow from the model alone, so that load disturbs no test."""

    dies_after: tuple[int, Sshd] | None = None
    measured = 0

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        found = super().measure(engine, options)
        self.measured += 1
        if self.dies_after is not None and self.measured == self.dies_after[0]:
            self.dies_after[1].stop()
        fixed = {
            "samples_ns": [[engine.size_bytes] * 8] * len(found.samples_ns),
            "canary_ns": [[100_000, 100_000]] * len(found.samples_ns),
            "clocks_moved": [False] * len(found.samples_ns),
            "preempted": [False] * len(found.samples_ns),
            "fast_state_ns": 100_000.0,
        }
        return Measurement.model_validate(found.model_dump() | fixed)


def boards_on(servers: dict[str, Sshd], home: Path) -> list[Target]:
    """Targets of this machine's processor, each behind one of the servers, which an SSH configuration names."""
    hosts = [server.config.read_text().replace("Host box", f"Host {name}") for name, server in servers.items()]
    config = home / "ssh_config"
    config.write_text("\n".join(hosts))
    settings = Ssh(kind="ssh", config=str(config), python=sys.executable)
    return boards_at(load_target("host-cpu").model_copy(update={"connection": settings}), list(servers))


def test_two_boards_over_ssh_make_one_table_although_one_dies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    options = ProfileOptions(networks_only=6, validation_networks=2, network_builds=1, network_protocol=SHORT)
    with serving(tmp_path / "a") as first, serving(tmp_path / "b") as second:
        targets = boards_on({"a": first, "b": second}, tmp_path)
        devices = [Steady(each, SshConnection(each.connection, returns_within_s=0.0)) for each in targets]  # type: ignore[arg-type]
        devices[1].dies_after = (3, second)
        boards = [Board(each.target.address, each, interrupt=each.interrupt) for each in devices]
        try:
            table, _ = profile_together(boards, SPACE, tmp_path / "tables", options)
        finally:
            for device in devices:
                device.close()
    assert [board.name for board in table.boards] == ["a", "b"]
    assert len(table.networks) == 8 and table.missing.calibration == table.missing.validation == 0
    assert devices[1].measured == 3 and 2 <= table.boards[1].networks <= 3
    left = table.boards[1].left
    assert left is not None and "cannot be reached" in left
    assert all(board.factor == pytest.approx(1.0, abs=1e-9) for board in table.boards)
    assert {ms for entry in table.networks for ms in entry.build_medians_ms} == {
        entry.median_ms for entry in table.networks
    }


def test_an_interrupted_crew_ends_what_its_agents_are_at() -> None:
    target = load_target("host-cpu")
    endless = MeasureOptions(min_seconds=3600.0, max_seconds=3600.0)
    model = network_graph(SPACE.blocks(SPACE.decode(SPACE.smallest_genome)[0])).SerializeToString()
    ended: list[BaseException] = []
    begun = threading.Event()
    with Device(target, LocalConnection()) as busy, Device(target, LocalConnection()) as free:
        engine = busy.compile(model)

        def job_for(board: Board) -> object:
            def measures() -> None:
                begun.set()
                try:
                    busy.measure(engine, endless)
                except AgentLostError as error:
                    ended.append(error)
                    with pytest.raises(AgentLostError, match="was interrupted"):
                        busy.release(engine)

            def interrupts() -> None:
                begun.wait()
                raise KeyboardInterrupt

            return measures if board.device is busy else interrupts

        boards = [Board(name, device, interrupt=device.interrupt) for name, device in (("b", busy), ("f", free))]
        with pytest.raises(KeyboardInterrupt), Crew[None](boards) as crew:
            list(crew.results(job_for))  # type: ignore[arg-type]
        assert len(ended) == 1
        assert busy.fingerprint().identity == free.fingerprint().identity, "whoever interrupted may go on"

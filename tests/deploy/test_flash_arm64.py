"""A bundle of this machine on a board of another architecture, which builds its own engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.deploy.board import BoardSlots
from hwnas.deploy.flash import flash, parcel
from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device
from hwnas.devices.ssh import SshConnection
from hwnas.progress import Silent
from tests.arm64 import Arm64Board
from tests.deploy.bundles import make_key, public_hex, tiny_bundle

ROOT = "/home/board/hwnas-test"


@pytest.mark.slow
def test_a_bundle_of_this_machine_is_built_and_serves_on_another_architecture(
    arm64_board: Arm64Board, tmp_path: Path
) -> None:
    key, bundle = PublicKey(public_hex(make_key())), tiny_bundle(budget={"latency_ms": 10_000.0})
    arm64_board.run("rm", "-rf", ROOT)
    device = Device(arm64_board.target(), SshConnection(arm64_board.settings()))
    with device, parcel(bundle.write(tmp_path), [key]) as sent:
        slots = BoardSlots(device, ROOT)
        slots.trust(key, "")
        outcome = flash("arm64", sent, slots, Silent())
        assert (outcome.fate, outcome.why) == ("updated", None)
        status = slots.status()
    assert (status.current, status.state_of(bundle.digest)) == (bundle.digest, "confirmed")
    record = arm64_board.run("cat", f"{ROOT}/slots/{bundle.digest}/built/m0/record.json")
    assert '"origin": "built"' in record
    assert arm64_board.run("uname", "-m") == "aarch64\n"
    arm64_board.run("rm", "-rf", ROOT)

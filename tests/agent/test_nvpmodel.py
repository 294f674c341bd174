"""What NVIDIA's power tool prints, as boards of several JetPacks print it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent import nvpmodel, privileged
from hwnas.agent.nvpmodel import ModeLimits, PowerMode, parse_configuration, parse_query, parse_status

CONFIGURATION = """\
# The defaults of a board, shortened
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 0
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ -1
GPU MIN_FREQ 0
GPU MAX_FREQ -1
EMC MAX_FREQ 0

< POWER_MODEL ID=1 NAME=7W >
CPU_ONLINE CORE_0 1
CPU_A78_0 MAX_FREQ 960000
GPU MAX_FREQ 408000000
GPU_POWER_CONTROL_DISABLE GPU_PWR_CNTL_DIS auto
EMC MAX_FREQ 2133000000

# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=0 >
"""


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", PowerMode("MAXN", 0)),
        ("NV Power Mode: MAXN_SUPER\n2\n", PowerMode("MAXN_SUPER", 2)),
        ("NV Fan Mode:cool\nNV Power Mode: MODE_30W_4CORE\n5\n", PowerMode("MODE_30W_4CORE", 5)),
        (
            "NVPM VERB: Config file: /etc/nvpmodel.conf\nNVPM VERB: parsing done for /etc/nvpmodel.conf\n"
            "NV Fan Mode:quiet\nNVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE\n2\n"
            "NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/devices/system/cpu/cpu0/online: REAL_VAL: 1\n",
            PowerMode("MODE_15W_6CORE", 2),
        ),
        ("NV Power Mode: 25W\r\n1\r\n", PowerMode("25W", 1)),
        (
            "NVPM ERROR: failed to read PARAM GPU: ARG MAX_FREQ\nNVPM ERROR: optMask is 1, no request for power mode\n",
            None,
        ),
        ("NV Power Mode: MAXN\n", None),
        ("", None),
    ],
)
def test_the_mode_is_read_from_what_the_tool_prints(text: str, mode: PowerMode | None) -> None:
    assert parse_query(text) == mode


def test_the_mode_is_read_from_what_the_tool_keeps() -> None:
    assert [parse_status(text) for text in ("pmode:0002", "pmode:0000 fmode:quiet\n", "fmode:cool", "")] == [
        2,
        0,
        None,
        None,
    ]


def test_modes_are_read_from_the_configuration() -> None:
    assert parse_configuration(CONFIGURATION) == {
        "15W": ModeLimits(0, 2, None, None, default=True),
        "7W": ModeLimits(1, 1, 408.0, 2133.0, default=False),
    }


@given(st.text() | st.lists(st.sampled_from(CONFIGURATION.splitlines())).map("\n".join))
def test_no_text_confuses_the_readers(text: str) -> None:
    parse_query(text), parse_status(text)
    assert all(mode.id >= 0 for mode in parse_configuration(text).values())


def test_a_tool_that_fails_or_is_not_there_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(privileged, "_SUPERUSERS_PATH", (str(tmp_path / "nowhere"),))
    assert nvpmodel.query() is None
    tool = tmp_path / "nvpmodel"
    for script, told in (("echo 'NV Power Mode: MAXN'; echo 0", "NV Power Mode: MAXN\n0\n"), ("exit 1", None)):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert nvpmodel.query() == told

"""A board's own words become facts, and those a target of the right kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent.board import describe_board
from hwnas.devices import FactsOnly, Target, list_targets, load_description, load_target, open_device
from hwnas.devices.addition import new_target, recognise, surprises, write_target
from hwnas.devices.board import BoardRecord, facts_of, parse_release, parse_version
from hwnas.devices.target import Ssh
from hwnas.errors import BadFileError, UserError

DATE = "2026-11-26"
RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan 8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"
)
PACKAGES = (
    "cuda-cudart-12-6\t12.6.68-1",
    "libnvinfer10\t10.3.0.30-1+cuda12.5",
    "libnvinfer-bin\t10.3.0.30-1+cuda12.5",
    "nvidia-jetpack\t6.2+b77",
    "nvidia-l4t-core\t36.4.3-20250107174145",
)
CONFIGURATION = (
    "< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 612000000\n< POWER_MODEL ID=1 NAME=25W >\nGPU MAX_FREQ 918000000\n"
)
SUPER = CONFIGURATION + "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=1 >\n"
GPU = {
    "name": "Orin",
    "compute_capability": [8, 7],
    "multiprocessors": 8,
    "memory_bytes": 7650336 * 1024,
    "integrated": True,
    "runtime_version": "12.6",
    "driver_version": "12.6",
}
ORIN_NANO = {
    "machine": "aarch64",
    "emulator": None,
    "model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    "compatible": ["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"],
    "nv_tegra_release": RELEASE,
    "nvpmodel": "NV Power Mode: 25W\n1\n",
    "nvpmodel_status": "pmode:0002 fmode:quiet",
    "nvpmodel_conf": SUPER,
    "packages": PACKAGES,
    "python_tensorrt": "10.3.0",
    "gpu": GPU,
    "cpu": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    "cpu_cores": 6,
    "cpu_max_mhz": 1728.0,
    "gpu_max_mhz": 918.0,
    "memory_mhz": 3199.0,
    "memory_bytes": 7650336 * 1024,
    "disk_bytes": 120 * 2**30,
    "disk_free_bytes": 89 * 2**30,
    "python": "3.10.12",
}
BARE: dict[str, Any] = {
    **dict.fromkeys(ORIN_NANO),
    "machine": "x86_64",
    "compatible": [],
    "packages": [],
    "cpu": "AMD EPYC",
    "disk_bytes": 2**30,
    "disk_free_bytes": 2**30,
    "python": "3.11.7",
}
AT = Ssh(kind="ssh", host="192.168.55.1", user="jetson")


def record(base: dict[str, Any] = ORIN_NANO, **others: Any) -> BoardRecord:
    return BoardRecord.model_validate({**base, **others})


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (RELEASE, "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: …", "38.2.0"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: …", "35.4.1"),
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64, DATE: …", "32.7.1"),
        ("# R36 (release), REVISION: 3.0\n", "36.3.0"),
        ("R36.4", None),
        ("", None),
    ],
)
def test_the_release_of_jetson_linux_is_read(text: str, release: str | None) -> None:
    assert parse_release(text) == release


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("10.3.0.30-1+cuda12.5", "10.3.0.30"),
        ("8.5.2-1+cuda11.4", "8.5.2"),
        ("1:6.2+b77", "6.2"),
        ("12.6.68-1", "12.6.68"),
        ("10.3.0.post1", "10.3.0"),
        ("none", None),
        ("", None),
    ],
)
def test_versions_are_what_the_authors_call_them(text: str, version: str | None) -> None:
    assert parse_version(text) == version


@given(st.text(), st.text(), st.lists(st.text()), st.text())
def test_no_text_of_a_board_confuses_the_readers(release: str, mode: str, packages: list[str], conf: str) -> None:
    odd = record(
        nv_tegra_release=release,
        nvpmodel=mode,
        nvpmodel_status=mode,
        packages=packages,
        nvpmodel_conf=conf,
        compatible=packages,
    )
    assert facts_of(odd)["cpu_cores"].value == 6
    assert isinstance(odd.is_super, bool) and isinstance(odd.part_numbers, list)


def test_facts_name_the_place_where_they_stood() -> None:
    found = facts_of(record())
    assert {name: (one.value, one.source) for name, one in found.items() if name in ("l4t", "cuda", "power_mode")} == {
        "l4t": ("36.4.3", "/etc/nv_tegra_release"),
        "cuda": ("12.6.68", "dpkg, cuda-cudart-12-6"),
        "power_mode": ("25W", "nvpmodel -q"),
    }
    assert found["tensorrt"].value == "10.3.0"
    assert facts_of(record(python_tensorrt=None))["tensorrt"] == ("10.3.0.30", "dpkg, libnvinfer10")
    kept = facts_of(record(nvpmodel=None))["power_mode"]
    assert kept == ("MAXN_SUPER", "/var/lib/nvpmodel/status and /etc/nvpmodel.conf")
    assert "power_mode" not in facts_of(record(nvpmodel=None, nvpmodel_conf=None))
    both = (*PACKAGES, "libnvinfer8\t8.6.2.3-1+cuda12.2")
    assert facts_of(record(python_tensorrt=None, packages=both))["tensorrt"].value == "10.3.0.30"
    assert "cpu" not in found, "an Arm board's model is not its CPU's"
    assert found["power_modes"].value["25W"] == {"id": 1, "gpu_max_mhz": 918.0, "default": True}


KINDS = [
    ({}, "jetson-orin-nano-8gb-super"),
    ({"nvpmodel_conf": CONFIGURATION, "compatible": ["nvidia,p3768-0000+p3767-0005"]}, "jetson-orin-nano-8gb"),
    ({"compatible": ["nvidia,p3768-0000+p3767-0004-super"]}, "jetson-orin-nano-4gb-super"),
    ({"compatible": ["nvidia,p3768-0000+p3767-0001"], "nvpmodel_conf": None}, "jetson-orin-nx-8gb"),
    ({"compatible": ["nvidia,p3768-0000+p3767-0000-super"]}, "jetson-orin-nx-16gb-super"),
    ({"compatible": ["nvidia,p3737-0000+p3701-0005"], "nvpmodel_conf": None}, "jetson-agx-orin-64gb"),
    ({"compatible": ["nvidia,p3737-0000+p3701-0004"], "nvpmodel_conf": None}, "jetson-agx-orin-32gb"),
    ({"compatible": ["nvidia,p4071-0000+p3834-0008", "nvidia,tegra264"], "nvpmodel_conf": None}, "jetson-agx-thor"),
    ({"compatible": ["nvidia,p3449-0000-b00+p3448-0000-b00"], "nvpmodel_conf": None}, "jetson-nano-4gb"),
    ({"compatible": ["nvidia,p3509-0000+p3668-0001"], "nvpmodel_conf": None}, "jetson-xavier-nx-8gb"),
    (
        {"compatible": ["nvidia,p2972-0000", "nvidia,tegra194"], "model": "Jetson-AGX", "nvpmodel_conf": None}
        | {"memory_bytes": 15 * 2**30},
        "jetson-agx-xavier-16gb",
    ),
    (
        {"compatible": ["nvidia,p2972-0000", "nvidia,tegra194"], "model": "Jetson-AGX", "nvpmodel_conf": None}
        | {"memory_bytes": 31 * 2**30},
        "jetson-agx-xavier-32gb",
    ),
]


@pytest.mark.parametrize(("others", "kind"), KINDS, ids=[kind for _, kind in KINDS])
def test_a_jetson_is_recognised_by_part_number_or_else_model_and_memory(others: dict[str, Any], kind: str) -> None:
    assert recognise(record(**others), list_targets()) == kind


@pytest.mark.parametrize(
    ("others", "kind"),
    [
        ({"model": "Raspberry Pi 5 Model B Rev 1.0", "compatible": ["raspberrypi,5-model-b"]}, "raspberry-pi-5"),
        ({"model": "Raspberry Pi 4 Model B Rev 1.4"}, "raspberry-pi-4"),
        ({"gpu": GPU | {"name": "NVIDIA GeForce RTX 4090", "integrated": False}}, "rtx-4090"),
        ({"gpu": GPU | {"name": "NVIDIA RTX A2000", "integrated": False}}, "local-gpu"),
        ({}, "host-cpu"),
    ],
)
def test_other_machines_are_recognised_by_model_or_gpu(others: dict[str, Any], kind: str) -> None:
    assert recognise(record(BARE, **others), list_targets()) == kind


def test_a_jetson_that_nobody_described_is_refused() -> None:
    unknown = record(compatible=["nvidia,p9999-0001"], model="NVIDIA Jetson Tomorrow")
    with pytest.raises(
        UserError, match=r"No target describes this Jetson \(p9999-0001, NVIDIA Jetson Tomorrow\).*--extends"
    ):
        recognise(unknown, list_targets())


def test_a_board_that_was_added_is_no_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    content = new_target("a-first", record(), AT, "jetson-orin-nano-8gb-super", DATE)
    write_target(content, tmp_path / "targets" / "a-first.yaml")
    assert "a-first" in [target.name for target in list_targets()]
    assert recognise(record(), list_targets()) == "jetson-orin-nano-8gb-super"


def test_a_written_target_has_what_was_found_and_inherits_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "kitchen.yaml"
    content = new_target("kitchen", record(), AT, "jetson-orin-nano-8gb-super", DATE)
    described = write_target(content, path)
    assert described == load_target(path)
    base = load_target("jetson-orin-nano-8gb-super")
    assert isinstance(described, Target)
    assert (described.runtimes, described.limits) == (base.runtimes, base.limits)
    assert described.connection == AT
    facts = described.facts
    assert facts.tensorrt is not None and facts.sms is not None and facts.memory_gib is not None
    assert (facts.tensorrt.value, facts.tensorrt.source) == ("10.3.0", f"the package of the agent's Python, {DATE}")
    assert (facts.sms.value, facts.sms.unverified, facts.memory_gib.value) == (8, False, 7.3)
    assert facts.part_numbers == base.facts.part_numbers
    assert "part_numbers" not in path.read_text()


def test_a_board_of_which_only_facts_are_known_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    write_target(new_target("old", record(), AT, "jetson-nano-4gb", DATE), path)
    assert isinstance(load_description(path), FactsOnly)
    with pytest.raises(UserError, match="Target 'old' is described by facts alone"):
        load_target(path)


def test_a_wrong_name_or_base_leaves_no_file(tmp_path: Path) -> None:
    for name, base, words in (("Kitchen!", "host-cpu", "field 'name'"), ("kitchen", "kitchen", "extends itself")):
        with pytest.raises(BadFileError, match=words):
            write_target(new_target(name, record(), AT, base, DATE), tmp_path / f"{name}.yaml")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"gpu": GPU | {"multiprocessors": 4}}, "In power mode 25W it should have 8 SMs, and 4 were found."),
        ({"python_tensorrt": "8.2.1"}, "TensorRT 8.2.1 is not among those known for it, 10.3 to 10.3."),
        ({"disk_free_bytes": 100 * 2**20}, "100 MiB of its disk are free, and hwnas may need 4096."),
    ],
)
def test_what_is_otherwise_than_expected_is_said(tmp_path: Path, others: dict[str, Any], words: str) -> None:
    def told(found: BoardRecord) -> list[str]:
        content = new_target("kitchen", found, AT, "jetson-orin-nano-8gb-super", DATE)
        return surprises(write_target(content, tmp_path / "kitchen.yaml"), found)

    assert told(record()) == []
    assert told(record(**others)) == [words]


def test_an_emulated_board_says_so_and_is_not_the_machine_underneath(tmp_path: Path) -> None:
    found = record(BARE, machine="aarch64", emulator="qemu-aarch64-static")
    content = new_target("arm64", found, AT, "host-cpu", DATE)
    assert content["description"] == "aarch64, emulated by qemu-aarch64-static at jetson@192.168.55.1"
    assert "cpu" not in content["facts"]
    described = write_target(content, tmp_path / "arm64.yaml")
    assert described.emulated
    (sentence,) = surprises(described, found)
    assert "emulated by qemu-aarch64-static" in sentence


def test_a_board_is_described_from_its_files(tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"NVIDIA Jetson AGX Thor Developer Kit\0")
    (tree / "compatible").write_bytes(b"nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       128825804 kB\nMemFree: 1 kB\n")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R38 (release), REVISION: 2.0, GCID: 41844464\n")
    found = BoardRecord.model_validate(describe_board(tmp_path))
    assert found.model == "NVIDIA Jetson AGX Thor Developer Kit"
    assert found.part_numbers == ["p4071-0000", "p3834-0008", "p3834-0008"]
    assert found.memory_bytes == 128825804 * 1024
    assert recognise(found, list_targets()) == "jetson-agx-thor"
    assert facts_of(found)["l4t"].value == "38.2.0"


def test_this_machine_tells_what_it_is_through_its_agent() -> None:
    with open_device(load_target("host-cpu")) as device:
        found = device.board()
    assert found.memory_bytes and found.cpu_cores and found.disk_bytes >= found.disk_free_bytes
    assert facts_of(found)["python"].value.startswith("3.")

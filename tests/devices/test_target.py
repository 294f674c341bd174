"""Descriptions of devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hwnas.agent.options import BuildOptions
from hwnas.devices import CompileOptions, list_targets, load_description, load_target, target_directories
from hwnas.errors import BadFileError, UnknownNameError, UserError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "targets").glob("*.yaml"))


@pytest.fixture
def description() -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((ROOT / "targets" / "host-cpu.yaml").read_text())
    return content


def write(folder: Path, description: object, name: str = "host-cpu") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(description) if not isinstance(description, str) else description)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_target_is_valid(path: Path) -> None:
    assert load_description(path).name == path.stem


def test_targets_are_found_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HWNAS_HOME", raising=False)
    assert load_target("host-cpu").defaults.threads == 1
    assert "host-cpu" in [target.name for target in list_targets()]


def test_one_s_own_targets_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: dict[str, object]
) -> None:
    for place, text in (("home", "from home"), ("here", "from here")):
        (tmp_path / place / "targets").mkdir(parents=True)
        write(tmp_path / place / "targets", {**description, "description": text})
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("HWNAS_HOME", raising=False)
    assert load_target("host-cpu").description == "from here"
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    assert load_target("host-cpu").description == "from home"
    assert target_directories()[0] == tmp_path / "home" / "targets"
    assert [target.description for target in list_targets() if target.name == "host-cpu"] == ["from home"]


def test_an_unknown_target_is_answered_with_near_names() -> None:
    with pytest.raises(UnknownNameError, match=r"no target 'host-gpu'.*did you mean host-cpu\?"):
        load_target("host-gpu")
    with pytest.raises(UnknownNameError, match=r"known are .*host-cpu"):
        load_target("zzz")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("runtime", {}, "field 'runtime' is unknown; the nearest known name is 'runtimes'"),
        ("defaults", {"runtime": "onnxruntime", "thread": 1}, "'defaults.thread' is unknown.*'threads'"),
        (
            "runtimes",
            {"onnxruntime": {"providers": ["CPUExecutionProvider"], "precision": ["fp32"], "precisions": ["fp32"]}},
            "'runtimes.onnxruntime.precision' is unknown.*'precisions'",
        ),
        ("schema", 2, "field 'schema'"),
        ("name", "Host CPU", "field 'name'"),
        ("name", "other", "must be the file's, 'host-cpu'"),
        ("kind", "toaster", "field 'kind'.*found 'toaster'"),
        ("connection", {"kind": "telepathy"}, "telepathy"),
        ("runtimes", {}, "field 'runtimes'"),
        ("defaults", {"runtime": "tensorrt"}, "default runtime 'tensorrt'"),
        ("defaults", {"runtime": "onnxruntime", "precision": "fp8"}, "default precision 'fp8'"),
        ("defaults", {"runtime": "onnxruntime", "provider": "X"}, "default provider 'X'"),
        ("defaults", {"runtime": "onnxruntime", "threads": 0}, "field 'defaults.threads'"),
        ("limits", {"workspace": 64}, "'limits.workspace' is unknown.*'workspace_mib'"),
        ("limits", {"workspace_mib": 0}, "field 'limits.workspace_mib'"),
        ("limits", {"dla_cores": 2}, "'limits.dla_cores' is unknown"),
        ("facts", {"memory_gib": {"value": 8}}, "field 'facts.memory_gib.source'"),
        ("facts", {"memory_gb": {"value": 8, "source": "x"}}, "'facts.memory_gb' is unknown.*'memory_gib'"),
        ("facts", {"sms": {"value": 8, "sorce": "x"}}, "'facts.sms.sorce' is unknown.*'source'"),
        ("facts", {"sms": {"value": "8", "source": "x"}}, "field 'facts.sms.value'.*integer, found '8'"),
        ("facts", {"compute_capability": {"value": 8.7, "source": "x"}}, "valid string, found 8.7"),
        (
            "facts",
            {"power_modes": {"value": {"15W": {"id": 0, "gpu_mhz": 600}}, "source": "x"}},
            "'facts.power_modes.value.15W.gpu_mhz' is unknown.*'gpu_max_mhz'",
        ),
        ("connection", {"kind": "ssh", "hots": "a"}, "'connection.ssh.hots' is unknown.*'host'"),
        ("support", "half", "field 'support'"),
    ],
)
def test_a_wrong_field_is_named(
    tmp_path: Path, description: dict[str, object], key: str, value: object, sentence: str
) -> None:
    path = write(tmp_path, {**description, key: value})
    with pytest.raises(BadFileError, match=sentence) as refused:
        load_target(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["a: [1", "", "- 1", "\x00"])
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(BadFileError, match=r"host-cpu\.yaml"):
        load_target(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="does not exist"):
        load_target(tmp_path / "none.yaml")


def test_what_options_leave_open_the_limits_say(tmp_path: Path, description: dict[str, object]) -> None:
    limits = {"workspace_mib": 512, "build_memory_mib": 2000}
    facts = {"dla_cores": {"value": 2, "source": "NVIDIA"}}
    target = load_target(write(tmp_path, {**description, "limits": limits, "facts": facts}))
    assert target.limited(CompileOptions()).build == BuildOptions(workspace_mib=512, memory_mib=2000)
    less = CompileOptions(build=BuildOptions(workspace_mib=64, dla_core=1))
    assert target.limited(less).build == BuildOptions(workspace_mib=64, memory_mib=2000, dla_core=1)
    for build, sentence in (
        (BuildOptions(workspace_mib=513), "allows a workspace of 512 MiB, and 513 were asked for"),
        (BuildOptions(memory_mib=4000), "allows build memory of 2000 MiB"),
        (BuildOptions(dla_core=2), "has 2 DLA cores, and no number 2"),
    ):
        with pytest.raises(UserError, match=sentence):
            target.limited(CompileOptions(build=build))
    assert load_target("host-cpu").limited(CompileOptions()) == CompileOptions()


BASE = """
schema: 1
name: base
description: A kind of board
kind: jetson
connection: {kind: ssh}
runtimes:
  tensorrt: {providers: [gpu], precisions: [fp16]}
  onnxruntime: {providers: [CPUExecutionProvider], precisions: [fp32]}
defaults: {runtime: tensorrt, precision: fp16}
limits: {workspace_mib: 512, disk_mib: 100}
facts:
  sms: {value: 8, source: a document}
  memory_gib: {value: 8, source: a document, unverified: true}
"""
OWN = """
schema: 1
name: own
extends: base
description: Mine
connection: {kind: ssh, host: box}
runtimes:
  tensorrt: {providers: [gpu], precisions: [fp16, int8]}
limits: {disk_mib: 200}
facts:
  memory_gib: {value: 7.3, source: /proc/meminfo}
"""


def test_a_target_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base")
    target = load_target(write(tmp_path, OWN, "own"))
    assert (target.name, target.description, target.kind) == ("own", "Mine", "jetson")
    assert target.connection.model_dump(exclude_defaults=True) == {"kind": "ssh", "host": "box"}
    assert target.runtimes["tensorrt"].precisions == ["fp16", "int8"]
    assert target.runtimes["onnxruntime"].precisions == ["fp32"]
    assert (target.limits.workspace_mib, target.limits.disk_mib) == (512, 200)
    assert target.facts.sms is not None and target.facts.sms.source == "a document"
    assert target.facts.memory_gib is not None and not target.facts.memory_gib.unverified


def test_what_is_inherited_is_looked_for_beside_the_file_and_then_where_all_targets_are(tmp_path: Path) -> None:
    shipped = OWN.replace("extends: base", "extends: jetson-orin-nano-8gb")
    assert load_target(write(tmp_path, shipped, "own")).dla_cores == 0
    write(tmp_path, BASE.replace("name: base", "name: jetson-orin-nano-8gb"), "jetson-orin-nano-8gb")
    assert load_target(tmp_path / "own.yaml").dla_cores is None


@pytest.mark.parametrize(
    ("base", "own", "sentence"),
    [
        (BASE, OWN.replace("extends: base", "extends: none"), r"none\.yaml does not exist"),
        (BASE.replace("sms:", "smz:"), OWN, r"base\.yaml: field 'facts.smz' is unknown.*'sms'"),
        (BASE, OWN.replace("memory_gib:", "memory_gob:"), r"own\.yaml: field 'facts.memory_gob' is unknown"),
        (
            BASE.replace("name: base", "name: base\nextends: own"),
            OWN,
            "extends itself: base → own → base|own → base → own",
        ),
        (BASE, OWN.replace("extends: base", "extends: own"), "extends itself: own → own"),
        (BASE, OWN.replace("extends: base", "extends: [base]"), "field 'extends'.*valid string"),
        (BASE, OWN.replace("name: own", "name: base"), "must be the file's, 'own'"),
    ],
)
def test_a_wrong_inheritance_is_told_of_the_file_that_is_wrong(
    tmp_path: Path, base: str, own: str, sentence: str
) -> None:
    write(tmp_path, base, "base")
    with pytest.raises(BadFileError, match=sentence):
        load_target(write(tmp_path, own, "own"))


def test_every_wrong_field_is_told_at_once(tmp_path: Path, description: dict[str, object]) -> None:
    path = write(tmp_path, {**description, "kind": "toaster", "sharde": True})
    with pytest.raises(BadFileError, match=r"field 'kind'.*found 'toaster'; field 'sharde' is unknown.*'shared'"):
        load_target(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="key 'sms' stands there twice"):
        load_target(write(tmp_path, BASE + "  sms: {value: 4, source: another document}\n", "base"))

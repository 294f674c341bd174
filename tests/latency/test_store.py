from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices import CompileOptions, Fingerprint
from hwnas.errors import BadFileError, StaleTableError, UserError
from hwnas.latency import TableKey, check_fingerprint, find_table, load_table, save_table, table_path
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
from tables import made_table

SPACE = get_space("mobilenet_v3/small")
SHIPPED = Path(__file__).parents[2] / "latency_tables"


def key(fingerprint: Fingerprint, **changes: Any) -> TableKey:
    options = CompileOptions(provider="CPUExecutionProvider", **changes)
    return TableKey.of("host-cpu", SPACE, options, fingerprint)


def test_a_table_has_the_name_that_says_what_it_is_of(tmp_path: Path) -> None:
    table = made_table()
    identity = table.fingerprint.identity8
    expected = tmp_path / "host-cpu" / f"mobilenet_v3-small.onnxruntime-cpu-fp32-b1-t1-{identity}.json"
    assert save_table(table, tmp_path) == expected
    assert table_path(tmp_path, key(table.fingerprint)) == expected
    other_classes = TableKey.of(
        "host-cpu",
        get_space("mobilenet_v3/small", 100),
        CompileOptions(provider="CPUExecutionProvider"),
        table.fingerprint,
    )
    assert table_path(tmp_path, other_classes).name.startswith("mobilenet_v3-small-c100.onnxruntime-cpu-fp32-b1-t1-")


def test_a_written_table_is_read_back_equal(tmp_path: Path) -> None:
    table = made_table()
    path = save_table(table, tmp_path)
    assert load_table(path) == table
    assert json.loads(path.read_text())["schema"] == 1


def test_the_live_device_s_table_is_found_and_another_s_is_refused(tmp_path: Path) -> None:
    ours = made_table(cpu="ours")
    path = save_table(ours, tmp_path)
    assert find_table(tmp_path, key(ours.fingerprint), ours.fingerprint) == path
    theirs = made_table(cpu="theirs").fingerprint
    with pytest.raises(StaleTableError, match=r"cpu: ours → theirs.*--allow-stale"):
        find_table(tmp_path, key(theirs), theirs)
    assert find_table(tmp_path, key(theirs), theirs, allow_stale=True) == path
    assert check_fingerprint(ours, ours.fingerprint)
    assert not check_fingerprint(ours, theirs, allow_stale=True)
    with pytest.raises(UserError, match="hwnas profile --target host-cpu --space mobilenet_v3/small"):
        find_table(tmp_path, key(ours.fingerprint, threads=2), ours.fingerprint)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/*.json")), ids=lambda path: path.name)
def test_a_shipped_table_is_whole_measured_and_where_its_device_s_would_be(path: Path) -> None:
    table = load_table(path)
    assert table.kind == "measured" and not table.relative
    assert table.missing.blocks == 0 and table.validation is not None and table.validation.n >= 20
    assert table_path(SHIPPED, TableKey.of_table(table)) == path


def test_a_refused_table_says_first_whose_it_is() -> None:
    ours = made_table().fingerprint.model_copy(update={"identity": {"cores": 16, "runtime": {"gpu": {"name": "H100"}}}})
    theirs = ours.model_copy(update={"identity": {"cores": 2, "runtime": {"gpu": {"name": "T4"}}}})
    assert ours.differences(theirs) == ["runtime.gpu.name: H100 → T4", "cores: 16 → 2"]


def test_the_command_that_is_told_makes_the_table_that_is_missing(tmp_path: Path) -> None:
    table = made_table()
    asked = replace(key(table.fingerprint), precision="int8", arrival="30 fps")
    with pytest.raises(UserError, match=r"--space mobilenet_v3/small --precision int8 --fps 30`"):
        find_table(tmp_path, asked, table.fingerprint)
    stale = table.model_copy(update={"precision": "int8"})
    with pytest.raises(StaleTableError, match=r"--precision int8` or pass --allow-stale"):
        check_fingerprint(stale, made_table(cpu="theirs").fingerprint)


def test_a_journal_beside_the_table_is_not_taken_for_one(tmp_path: Path) -> None:
    table = made_table()
    path = table_path(tmp_path, key(table.fingerprint))
    path.parent.mkdir(parents=True)
    path.with_suffix(".journal.jsonl").touch()
    with pytest.raises(UserError, match="no latency table"):
        find_table(tmp_path, key(made_table(cpu="b").fingerprint), table.fingerprint)


def first_block(content: dict[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = content["blocks"][0]
    return block


BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema": (lambda t: t.update(schema=2), "schema"),
    "unknown field": (lambda t: t.update(colour="red"), "colour"),
    "negative time": (lambda t: first_block(t).update(median_ms=-1.0), "blocks.0.median_ms"),
    "zero time": (lambda t: first_block(t).update(median_ms=0.0), "positive"),
    "unordered": (lambda t: first_block(t).update(p90_ms=1e-9), "decrease"),
    "count": (lambda t: first_block(t).update(ungated_n=3), "ungated_n"),
    "build medians": (lambda t: first_block(t).update(builds=2), "build_medians_ms"),
    "block twice": (lambda t: t["blocks"].append(t["blocks"][0]), "stands there twice"),
    "network twice": (lambda t: t["networks"].append(t["networks"][0]), "stands there twice"),
    "block of no space": (lambda t: first_block(t)["block"].update(out_channels=17, skip=False), "has no block"),
    "impossible block": (lambda t: first_block(t)["block"].update(skip=True), "blocks.0.block"),
    "architecture": (lambda t: t["networks"][0]["architecture"]["choices"].update(resolution=25), "resolution = 25"),
    "not an architecture": (lambda t: t["networks"][0].update(architecture=[1]), "architecture"),
    "space": (lambda t: t.update(space="mobilenet_v3/smal"), "did you mean mobilenet_v3/small"),
    "classes": (lambda t: t.update(num_classes=11), "with 11 classes has no block"),
    "resolution": (lambda t: t.update(resolutions=[25]), "has no 25 px"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_with_file_and_field(tmp_path: Path, name: str) -> None:
    spoil, complaint = BAD[name]
    path = save_table(made_table(), tmp_path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(BadFileError) as refusal:
        load_table(path)
    assert str(path) in str(refusal.value)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 1}'])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=r"table\.json"):
        load_table(path)
    with pytest.raises(BadFileError, match="does not exist"):
        load_table(tmp_path / "missing.json")


def test_an_infinite_time_is_refused(tmp_path: Path) -> None:
    path = save_table(made_table(), tmp_path)
    path.write_text(re.sub(r'"median_ms": [0-9.e-]+', '"median_ms": 1e999', path.read_text(), count=1))
    with pytest.raises(BadFileError, match="median_ms"):
        load_table(path)

"""Imported tables: what is read of them, what is refused, and what a table with gaps may be used for."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.errors import BadFileError, UnknownNameError, UserError
from hwnas.latency import LatencyTable, fit_latency_model, load_table, save_table
from hwnas.latency.blocks import block_times
from hwnas.latency.importers import get_format, import_table
from hwnas.latency.importers.rows import RowKey
from hwnas.spaces import BlockSpec, get_space

SMALL = get_space("mobilenet_v3/small")
W12 = "mobilenet_v3/imagenet-w1.2"
COPIED = {"AvgPool2D", "Conv", "Conv_1", "Conv_2", "Logits"} | {
    "expanded_conv-input:24-output:24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0"
}
Rows = dict[str, dict[str, Any]]


def keys_of(block: BlockSpec) -> list[str]:
    size = f"input:{block.in_height}x{block.in_width}x{block.in_channels}"
    out = f"output:{block.out_height}x{block.out_width}x{block.out_channels}"
    if block.op == "conv":
        return [f"{'Conv' if block.stride == 2 else 'Conv_1'}-{size}-{out}"]
    if block.op == "head":
        c, mid = block.in_channels, block.mid_channels
        pool = f"AvgPool2D-{size}-output:1x1x{c}"
        return [pool, f"Conv_2-input:1x1x{c}-output:1x1x{mid}", f"Logits-input:1x1x{mid}-output:{block.out_channels}"]
    options = f"expand:{block.mid_channels}-kernel:{block.kernel}-stride:{block.stride}-idskip:{int(block.skip)}"
    return [f"expanded_conv-{size}-{out}-{options}-se:{int(block.se)}-hs:{int(block.activation == 'h_swish')}"]


def made_rows(resolution: int, factor: float) -> Rows:
    """A whole table of the small space at a resolution: the time of a row is ``factor`` times a size."""
    blocks = (
        block
        for slot in SMALL.slots
        for kernel in (3, 5, 7)
        for expansion in (2, 3, 4)
        if (block := slot.build(resolution, *((kernel, expansion) if len(slot.choices) == 3 else ())))
    )
    rows: Rows = {}
    for block in blocks:
        for part, key in enumerate(keys_of(block)):
            mean = factor * (0.1 + block.macs * 1e-6) * (part + 1)
            rows[key] = {"count": 50, "mean": mean, "std": mean / 50}
    return rows


def write(directory: Path, resolution: int, rows: Rows) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{resolution}.json").write_text(json.dumps(rows))
    return directory


@pytest.fixture
def device(tmp_path: Path) -> Callable[..., Path]:
    """Writes a device's tables at 32 and 48 px, each changed by a function."""

    def write_device(name: str, factor: float, change: Callable[[int, Rows], None] = lambda _r, _rows: None) -> Path:
        for resolution in (32, 48):
            rows = made_rows(resolution, factor)
            change(resolution, rows)
            write(tmp_path / name, resolution, rows)
        return tmp_path / name

    return write_device


def ofa(path: Path, **options: Any) -> LatencyTable:
    return import_table(get_format("ofa"), path, "board", SMALL, **options)


def refused(table: LatencyTable) -> dict[str, tuple[int, str]]:
    assert table.hygiene is not None
    return {note.row_type: (note.rows, note.reason) for note in table.hygiene.refused}


sizes = st.integers(0, 10_000)
shapes = st.lists(sizes, min_size=1, max_size=3).map(tuple)
options = st.dictionaries(st.sampled_from(["expand", "kernel", "stride", "idskip", "se", "hs"]), sizes)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,9}", fullmatch=True), shapes, shapes, options)
def test_a_key_is_read_as_it_was_written(
    op: str, given: tuple[int, ...], made: tuple[int, ...], o: dict[str, int]
) -> None:
    key = RowKey(op, given, made, tuple(o.items()))
    assert RowKey.parse(key.text) == key


@given(st.text(max_size=40))
def test_any_other_text_is_refused_as_a_key(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert RowKey.parse(text).text == text


def test_the_six_copied_row_types_are_found_and_dropped_at_every_resolution(shared_data: Path) -> None:
    path = shared_data / "latency/ofa_tables/jetson_gpu_eager"
    table = import_table(get_format("ofa"), path, "jetson", get_space(W12))
    found = refused(table)
    assert set(found) == COPIED
    assert {rows for rows, _ in found.values()} == {len(table.resolutions)} == {17}
    assert all("note10" in reason for _, reason in found.values())
    assert table.kind == "imported" and table.relative and table.hygiene is not None
    assert table.hygiene.absent == ("stem", "first", "final", "head")
    assert {entry.block.op for entry in table.blocks} == {"mbconv"}
    assert table.missing.blocks == 0


def test_the_device_they_were_copied_from_keeps_them_marked(shared_data: Path) -> None:
    path = shared_data / "latency/ofa_tables/note10"
    space = get_space(W12)
    table = import_table(get_format("ofa"), path, "note10", space, keep_copied=True)
    assert not table.relative and table.hygiene is not None
    assert {note.row_type for note in table.hygiene.marked} == COPIED
    published = json.loads((path / "224.json").read_text())
    plain = sum(published[key]["mean"] for block in space.blocks(space.largest) for key in keys_of(block))
    times = {entry.block: entry.median_ms for entry in table.blocks}
    # Only feature maps of 7 px are shared with another resolution, 208 px, and pooled with it.
    assert sum(times[block] for block in space.blocks(space.largest)) == pytest.approx(plain, rel=0.02)


def test_a_whole_table_is_imported_and_predicts_sums(device: Callable[..., Path], tmp_path: Path) -> None:
    table = ofa(device("a", 1.0))
    assert table.hygiene is not None and not table.hygiene.refused and not table.relative
    assert load_table(save_table(table, tmp_path / "tables")) == table
    assert table.resolutions == (32, 48) and table.networks == ()
    times = block_times(table, SMALL)
    assert not times.relative and times.measured.sum() == len(table.blocks)
    mean, std = fit_latency_model(table, SMALL).predict(SMALL.largest_genome)
    assert mean[0] > 0 and std[0] > 0


def test_rows_of_the_same_block_at_two_resolutions_are_pooled(device: Callable[..., Path]) -> None:
    # 28 and 32 px both end in feature maps of 2 px.
    path = device("a", 1.0)
    write(path, 28, made_rows(28, 3.0))
    table = ofa(path)
    final = SMALL.blocks(SMALL.architecture(resolution=32))[-2]
    entry = next(entry for entry in table.blocks if entry.block == final)
    mean = made_rows(32, 2.0)[keys_of(final)[0]]["mean"]
    assert entry.n == 100 and entry.median_ms == pytest.approx(mean)
    assert entry.mad_ms > 0.3 * mean


def test_a_copied_row_type_is_dropped_where_the_other_device_lacks_the_resolution(device: Callable[..., Path]) -> None:
    other = device("b", 2.0)

    def copy_stem(resolution: int, rows: Rows) -> None:
        rows.update({key: row for key, row in made_rows(resolution, 2.0).items() if key.startswith("Conv-")})

    path = device("a", 1.0, copy_stem)
    (other / "48.json").unlink()
    assert refused(ofa(path)) == {"Conv": (2, "mean and standard deviation are those of b at 32 px")}
    assert ofa(path, against=[other]).hygiene == ofa(path).hygiene
    table = ofa(path)
    assert table.relative and table.hygiene is not None and table.hygiene.absent == ("stem",)
    whole = ofa(path, keep_copied=True)
    assert not whole.relative and not refused(whole)
    # Architectures of one resolution keep their order, each faster by the same stem.
    genomes = SMALL.sample(np.random.default_rng(0), 400)
    genomes = genomes[genomes[:, SMALL.position("resolution")] == SMALL.resolutions.index(32)]
    sums, wholes = (SMALL.block_sum(genomes, block_times(t, SMALL).ms) for t in (table, whole))
    assert block_times(table, SMALL).relative
    assert np.allclose(wholes - sums, (wholes - sums)[0]) and (wholes - sums)[0] > 0


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"mean": -1.0, "std": 0.1}, "negative, zero"),
        ({"mean": 0, "std": 0.1}, "negative, zero"),
        ({"mean": float("nan"), "std": 0.1}, "no number"),
        ({"mean": 1.0, "std": float("nan")}, "standard deviation is negative"),
        ({"mean": 1.0, "std": -0.1}, "standard deviation is negative"),
        ({"mean": 1.0, "std": 0.51}, "over 50%"),
    ],
)
def test_a_row_that_cannot_be_believed_is_refused_and_interpolated(
    device: Callable[..., Path], value: dict[str, float], reason: str
) -> None:
    block = SMALL.blocks(SMALL.architecture(resolution=32))[2]

    def spoil(resolution: int, rows: Rows) -> None:
        if resolution == 32:
            rows[keys_of(block)[0]] = value

    table = ofa(device("a", 1.0, spoil))
    assert [(rows, reason in why) for rows, why in refused(table).values()] == [(1, True)]
    assert table.missing.blocks == 1 and not table.relative
    times = block_times(table, SMALL)
    index = SMALL.distinct_blocks.index(block)
    assert not times.measured[index] and times.ms[index] > 0 and times.std_ms[index] > 0


def test_a_head_without_one_of_its_rows_is_none(device: Callable[..., Path]) -> None:
    def behead(_: int, rows: Rows) -> None:
        for key in [key for key in rows if key.startswith("AvgPool2D")]:
            del rows[key]

    table = ofa(device("a", 1.0, behead))
    assert set(refused(table)) == {"Conv_2", "Logits"}
    assert table.hygiene is not None and table.hygiene.absent == ("head",)


def test_a_choice_of_which_nothing_is_known_is_not_interpolated(device: Callable[..., Path]) -> None:
    def drop_stage(_: int, rows: Rows) -> None:
        for key in [key for key in rows if "x64-expand" in key]:
            del rows[key]

    table = ofa(device("a", 1.0, drop_stage))
    with pytest.raises(UserError, match=r"no block of 4 of the .* places"):
        block_times(table, SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not good JSON"),
        ("[]", "should be an object"),
        ('{"Conv": {"mean": 1}}', "a key reads like"),
        ('{"Pool-input:2x2x3-output:1x1x3": {"mean": 1}}', "no operation 'Pool'"),
        ('{"Conv-input:32x32x3-output:16x16x16": 1}', "expected an object"),
        ('{"Conv-input:32x32x3-output:16x16x16": {"std": 1}}', "'mean' is missing"),
        ('{"Conv-input:32x32x3-output:16x16x16": {"mean": "1"}}', "should be a number"),
        ('{"Conv-input:32x32x3-output:16x16x16": {"mean": 1, "count": 0}}', "'count'"),
        ('{"Conv-input:32x32x3-output:9x9x16": {"mean": 1}}', "output should be 16x16"),
        ('{"expanded_conv-input:2x2x3-output:2x2x3-kernel:3": {"mean": 1}}', "needs input and output"),
        ('{"Conv-input:1x1x3-output:1x1x2": {"mean": 1}, "Conv-input:1x1x3-output:1x1x2": {"mean": 1}}', "twice"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "32.json").write_text(content)
    with pytest.raises(BadFileError, match=message):
        ofa(tmp_path)


def test_bad_requests_are_refused_in_words(device: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match=r"holds no <resolution>\.json"):
        ofa(tmp_path / "empty")
    with pytest.raises(BadFileError, match="does not exist"):
        ofa(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be a table of mobilenet_v3/imagenet-w1"):
        import_table(get_format("ofa"), device("a", 1.0), "board", get_space(W12))
    (tmp_path / "a" / "notes.json").write_text("{}")
    with pytest.raises(BadFileError, match="named by its resolution"):
        ofa(tmp_path / "a")
    with pytest.raises(UnknownNameError, match="known are ofa, proxyless"):
        get_format("onnx")


def proxyless_file(path: Path) -> Path:
    lines = ["Conv-input:224x224x3-output:112x112x32: {mean: 5.0, count: 10}"]
    lines += [
        f"expanded_conv-input:112x112x16-output:56x56x24-expand:{e}-kernel:{k}-stride:2-idskip:0: {{mean: {e * k}}}"
        for e in (3, 6)
        for k in (3, 5, 7)
    ]
    lines += ["expanded_conv-input:56x56x24-output:28x28x32-expand:6-kernel:3-stride:2-idskip:0: {mean: 3.0}"]
    lines += ["Logits-input:7x7x320-output:1000: {mean: 1.5, count: 10}"]
    path.write_text("\n".join(lines))
    return path


def test_of_a_proxyless_table_only_the_blocks_of_the_space_are_taken(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3/imagenet-w1.0")
    table = import_table(get_format("proxyless"), proxyless_file(tmp_path / "pixel.yaml"), "pixel", space)
    assert {(entry.block.mid_channels, entry.block.kernel) for entry in table.blocks} == {
        (16 * e, k) for e in (3, 6) for k in (3, 5, 7)
    }
    reasons = refused(table)
    assert "no such block" in reasons["Conv"][1] and "no such block" in reasons["Logits"][1]
    assert {rows for rows, _ in reasons.values()} == {1} and len(reasons) == 3
    with pytest.raises(UserError, match="cannot predict networks"):
        fit_latency_model(table, space)


def test_a_proxyless_table_of_its_own_family_is_imported_whole(tmp_path: Path) -> None:
    space = get_space("proxyless/imagenet-w1.3")
    rows = {}
    for block in space.blocks(space.largest):
        size, out = f"{block.in_height}x{block.in_width}x{block.in_channels}", block.out_channels
        if block.op == "mbconv":
            options = f"expand:{block.mid_channels // block.in_channels}-kernel:{block.kernel}-stride:{block.stride}"
            key = f"expanded_conv-input:{size}-output:{block.out_height}x{block.out_width}x{out}-{options}"
            rows[f"{key}-idskip:{int(block.skip)}"] = block
        elif block.op == "conv":
            name = "Conv" if block.stride == 2 else "Conv_1"
            rows[f"{name}-input:{size}-output:{block.out_height}x{block.out_width}x{out}"] = block
        else:
            rows[f"Logits-input:{size}-output:{out}"] = block
    path = tmp_path / "pixel.yaml"
    path.write_text("".join(f"{key}: {{mean: {number}.5, count: 9}}\n" for number, key in enumerate(rows, start=1)))
    table = import_table(get_format("proxyless"), path, "pixel", space)
    assert {entry.block for entry in table.blocks} == set(rows.values())
    assert not table.relative and table.hygiene is not None and not table.hygiene.refused


def test_a_proxyless_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = proxyless_file(tmp_path / "pixel.yaml")
    path.write_text(f"{path.read_text()}\nConv-input:224x224x3-output:112x112x32: {{mean: 6.0}}\n")
    with pytest.raises(BadFileError, match="twice"):
        get_format("proxyless").read(path)


def test_the_command_says_what_it_dropped(device: Callable[..., Path], tmp_path: Path) -> None:
    device("b", 2.0)
    (tmp_path / "a").mkdir()
    path = device("a", 1.0, lambda r, rows: rows.update({k: v for k, v in made_rows(r, 2.0).items() if "Conv-" in k}))
    arguments = ["tables", "import", "ofa", str(path), "--target", "board", "--space", SMALL.name]
    arguments += ["--tables", str(tmp_path / "tables")]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert "2 refused" in told.output and "This table is relative: it lacks stem" in told.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["hygiene"]["relative"] and load_table(Path(found["path"])).kind == "imported"
    assert CliRunner().invoke(app, [*arguments[:5], "../x", *arguments[6:]]).exit_code == 2

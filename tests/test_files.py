from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import BadFileError, UserError
from hwnas.files import (
    Document,
    append_json_line,
    atomic_path,
    read_json_lines,
    read_model,
    write_atomic,
    write_json,
)


class Note(Document):
    text: str
    count: int = 0


def test_a_document_reads_back_and_carries_its_schema(tmp_path: Path) -> None:
    write_json(tmp_path / "note.json", Note(text="é"))
    assert read_model(tmp_path / "note.json", Note) == Note(text="é")
    assert json.loads((tmp_path / "note.json").read_text())["schema"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 2, "text": ""}', r"note\.json: field 'schema': input should be 1, found 2"),
        ('{"text": 1}', r"field 'text': input should be a valid string, found 1"),
        ('{"text": "", "more": 1}', r"field 'more': extra inputs are not permitted, found 1"),
        ("{", r"field 'content': invalid JSON"),
    ],
)
def test_a_bad_document_is_refused_with_field_found_and_expected(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "note.json").write_text(content)
    with pytest.raises(BadFileError, match=message):
        read_model(tmp_path / "note.json", Note)


def test_a_missing_document_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"record .*note\.json does not exist"):
        read_model(tmp_path / "note.json", Note, what="record")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(small_disk: Path) -> None:
    path = small_disk / "file"
    write_atomic(path, "old")
    with pytest.raises(UserError, match=r"disk holding .*file is full; free some space"):
        write_atomic(path, b"x" * 200_000)
    with pytest.raises(UserError, match="is full"):
        append_json_line(small_disk / "log.jsonl", "x" * 200_000)
    assert path.read_text() == "old"
    assert {entry.name for entry in small_disk.iterdir()} <= {"file", "log.jsonl"}
    assert read_json_lines(small_disk / "log.jsonl") == []


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers())), st.binary(max_size=30))
@settings(max_examples=50, deadline=None)
def test_a_torn_last_line_is_as_if_never_written(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, int]], torn: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    for record in records:
        append_json_line(path, record)
    with path.open("ab") as log:
        log.write(torn.replace(b"\n", b""))
    assert read_json_lines(path) == records
    append_json_line(path, {"last": 1})
    assert read_json_lines(path) == [*records, {"last": 1}]


def test_a_whole_line_that_is_not_json_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(BadFileError, match=r"log\.jsonl, line 2: not JSON"):
        read_json_lines(tmp_path / "log.jsonl")


def test_a_killed_writer_loses_nothing_it_had_said_was_written(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hwnas.files import append_json_line\n"
        "for i in range(10**6): append_json_line(Path(sys.argv[1]), {'i': i}); print(i, flush=True)"
    )
    log = tmp_path / "log.jsonl"
    process = subprocess.Popen([sys.executable, "-c", program, str(log)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = -1
    while said < 20:
        said = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    said = max([said, *map(int, process.stdout.read().split())])
    process.wait()
    written = [record["i"] for record in read_json_lines(log)]
    assert written == list(range(len(written)))
    assert len(written) > said


def test_no_permission_is_one_sentence(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(tmp_path / "file", "x")

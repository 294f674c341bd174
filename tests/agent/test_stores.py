"""Blobs and engines on the device's disk."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent import arrays
from hwnas.agent.blobs import BlobStore
from hwnas.agent.canary import canary_onnx
from hwnas.agent.engines import EngineStore
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import RuntimeOptions, open_runtime

CONTENT = bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OPTIONS = RuntimeOptions("CPUExecutionProvider")


def put(store: BlobStore, start: int, end: int, content: bytes = CONTENT) -> int:
    return store.put(SHA256, start, len(CONTENT), base64.b64encode(content[start:end]).decode())


def test_a_blob_arrives_in_chunks_and_goes_on_in_another_store(tmp_path: Path) -> None:
    assert put(BlobStore(tmp_path / "blobs"), 0, 100) == 100
    store = BlobStore(tmp_path / "blobs")
    assert (store.received(SHA256), store.has(SHA256)) == (100, False)
    assert put(store, 0, 100) == 100, "a chunk sent again is no error"
    assert put(store, 100, 1024) == 1024
    assert store.read(SHA256) == CONTENT
    assert put(store, 100, 1024) == 1024
    assert (tmp_path / "blobs").stat().st_mode & 0o077 == 0


def test_a_blob_with_another_hash_is_thrown_away(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    put(store, 0, 512)
    with pytest.raises(AgentError) as refused:
        put(store, 512, 1024, content=CONTENT[:512] + bytes(512))
    assert refused.value.kind == ErrorKind.CORRUPT_BLOB
    assert store.received(SHA256) == 0
    with pytest.raises(AgentError) as missing:
        store.read(SHA256)
    assert missing.value.kind == ErrorKind.UNKNOWN_BLOB


def test_a_blob_that_changed_on_disk_is_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs")
    put(store, 0, 1024)
    (tmp_path / "blobs" / SHA256).write_bytes(b"other")
    with pytest.raises(AgentError) as refused:
        store.read(SHA256)
    assert refused.value.kind == ErrorKind.CORRUPT_BLOB


@pytest.mark.parametrize("name", ["", "a" * 63, "../" + "a" * 61, "A" * 64, SHA256 + "\n"])
def test_a_blob_s_name_is_a_hash_and_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(AgentError, match="hexadecimal"):
        BlobStore(tmp_path / "blobs").put(name, 0, 1, "")


@pytest.mark.parametrize(("offset", "data"), [(5, "AAAA"), (0, "not base64!"), (0, base64.b64encode(bytes(2000)))])
def test_a_chunk_that_does_not_fit_is_refused(tmp_path: Path, offset: int, data: str | bytes) -> None:
    store = BlobStore(tmp_path / "blobs")
    with pytest.raises(AgentError) as refused:
        store.put(SHA256, offset, len(CONTENT), data if isinstance(data, str) else data.decode())
    assert refused.value.kind == ErrorKind.BAD_REQUEST


def test_engines_are_found_by_a_store_opened_later(tmp_path: Path) -> None:
    built = EngineStore(tmp_path / "engines").build(open_runtime("onnxruntime"), canary_onnx(), OPTIONS)
    again = EngineStore(tmp_path / "engines")
    assert again.open(built).inputs[0].shape == (1, 3, 32, 32)
    assert again.open(built) is again.open(built)
    assert again.origin(built)[1] == OPTIONS


def test_every_build_has_an_id_of_its_own(tmp_path: Path) -> None:
    store, runtime = EngineStore(tmp_path / "engines"), open_runtime("onnxruntime")
    assert len({store.build(runtime, canary_onnx(), OPTIONS) for _ in range(3)}) == 3


@pytest.mark.parametrize("harm", ["changed", "missing", "swapped"])
def test_only_the_very_file_that_was_built_is_loaded(tmp_path: Path, harm: str) -> None:
    store = EngineStore(tmp_path / "engines")
    built = store.build(open_runtime("onnxruntime"), canary_onnx(), OPTIONS)
    path = tmp_path / "engines" / f"{built}.engine"
    if harm == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    elif harm == "missing":
        path.unlink()
    else:
        path.write_bytes(canary_onnx())
    with pytest.raises(AgentError) as refused:
        store.open(built)
    assert refused.value.kind == ErrorKind.TAMPERED_ENGINE
    with pytest.raises(AgentError) as gone:
        store.open(built)
    assert gone.value.kind == ErrorKind.UNKNOWN_ENGINE


def test_a_file_without_a_ledger_entry_is_no_engine(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    (tmp_path / "engines" / ("0" * 16 + ".engine")).write_bytes(canary_onnx())
    with pytest.raises(AgentError) as refused:
        store.open("0" * 16)
    assert refused.value.kind == ErrorKind.UNKNOWN_ENGINE
    with pytest.raises(AgentError, match="hexadecimal"):
        store.open("../../etc/passwd")


def test_a_model_that_does_not_compile_leaves_nothing(tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    with pytest.raises(AgentError) as refused:
        store.build(open_runtime("onnxruntime"), b"no model", OPTIONS)
    assert refused.value.kind == ErrorKind.MODEL_REFUSED
    assert list((tmp_path / "engines").iterdir()) == []


@given(
    st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]),
    st.lists(st.integers(0, 4), max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_arrays_cross_the_wire_unchanged(dtype: str, shape: list[int], seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 100, size=shape).astype(dtype)
    back = arrays.unpack(arrays.pack(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()


@pytest.mark.parametrize(
    "change", [{"dtype": "object"}, {"shape": [3]}, {"shape": "2"}, {"shape": [-1]}, {"data": "??"}, {"data": None}]
)
def test_an_array_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(AgentError):
        arrays.unpack({**arrays.pack(np.zeros((2, 2), np.float32)), **change})

"""Arrays from strangers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.service.npy import read_npy, write_npy
from tests.agent.service.board import npy

DTYPES = st.one_of(
    arrays.boolean_dtypes(), arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(), arrays.floating_dtypes()
).filter(lambda dtype: dtype.itemsize <= 8)
ARRAYS = arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))


@given(ARRAYS, st.booleans())
def test_what_numpy_saves_is_read(array: np.ndarray, backwards: bool) -> None:
    found = read_npy(npy(array.copy(order="F" if backwards else "C")))
    assert found.flags.c_contiguous
    assert (found.shape, found.dtype) == (array.shape, array.dtype.newbyteorder("="))
    np.testing.assert_array_equal(found, array)


@given(ARRAYS)
def test_what_is_written_numpy_loads(array: np.ndarray) -> None:
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(array)), allow_pickle=False), array)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"\x93NUMPY\x01\x00" + rest))
def test_anything_else_is_refused_in_a_sentence(body: bytes) -> None:
    try:
        read_npy(body)
    except AgentError as error:
        assert error.kind == ErrorKind.BAD_REQUEST


@given(ARRAYS, st.data())
def test_a_body_that_was_cut_or_has_more_is_refused(array: np.ndarray, data: st.DataObject) -> None:
    body = npy(array)
    cut = data.draw(st.integers(0, len(body) - 1))
    for wrong in (body[:cut], body + b"\0"):
        with pytest.raises(AgentError):
            read_npy(wrong)


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (npy(np.array([{"a": 1}], dtype=object)), "object"),
        (npy(np.zeros(2, dtype=[("a", "<f4")])), "only booleans, whole numbers and floats"),
        (npy(np.zeros(2, dtype="<U3")), "only booleans"),
        (npy(np.zeros(2, dtype="<c8")), "only booleans"),
        (npy(np.zeros(2, dtype="<M8[s]")), "only booleans"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,)}\n"), "399999999999996 bytes"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}\n") + bytes(16), "negative"),
        (header("__import__('os').getpid()\n"), "cannot be read"),
        (header("(" * 4000 + "\n"), "cannot be read"),
        (header(" " * 5000), "longer than 4096"),
        (b"\x93NUMPY\x03\x00" + bytes(60), "version 3.0"),
        (b"PK\x03\x04" + bytes(60), "no .npy file"),
        (b"\x80\x04K\x01.", "no .npy file"),
        (b"", "no .npy file"),
    ],
)
def test_what_could_run_or_swell_is_refused(body: bytes, says: str) -> None:
    with pytest.raises(AgentError, match=says):
        read_npy(body)

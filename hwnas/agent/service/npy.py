"""Arrays as ``.npy`` and ``.npz``, as ``numpy.save`` and ``savez`` write them; a body holds all that is allocated."""

from __future__ import annotations

import io
import zipfile
from typing import Dict, Mapping

import numpy as np
from numpy.lib import format as npy_format

from ..arrays import Array
from ..protocol import AgentError, ErrorKind

CONTENT_TYPE, CONTENT_TYPE_OF_SEVERAL = "application/x-npy", "application/x-npz"
_SUFFIX = ".npy"
_LONGEST_HEADER = 4096
_READERS = {
    (1, 0): (2, npy_format.read_array_header_1_0),
    (2, 0): (4, npy_format.read_array_header_2_0),
}
"""Version to the size of its header's length, and what reads it; 3.0 is for field names beyond Latin-1."""


def read_npy(body: bytes) -> Array:
    """The array of a ``.npy`` file, read-only, over the memory of ``body``.

    Raises:
        AgentError: ``bad-request`` when it is none, holds Python objects or fields, or is shorter or longer than its
            header says.
    """
    stream = io.BytesIO(body)
    try:
        version = npy_format.read_magic(stream)
    except ValueError as error:
        raise _refusal("the body is no .npy file; send what numpy.save writes") from error
    if version not in _READERS:
        raise _refusal("the body is .npy of version %d.%d; versions 1.0 and 2.0 are read" % version)
    width, read_header = _READERS[version]
    start = stream.tell()
    if int.from_bytes(body[start : start + width], "little") > _LONGEST_HEADER:
        raise _refusal("the header of the .npy file is longer than %d bytes" % _LONGEST_HEADER)
    try:
        shape, backwards, dtype = read_header(stream)
    except Exception as error:  # the header is a Python literal: its reader raises what its parser raises
        raise _refusal("the header of the .npy file cannot be read") from error
    return _content(body, stream.tell(), shape, backwards, dtype)


def _content(
    body: bytes, start: int, shape: "tuple[int, ...]", backwards: bool, dtype: "np.dtype[np.generic]"
) -> Array:
    if dtype.hasobject or dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise _refusal("the array is of %s; only booleans, whole numbers and floats are read" % str(dtype)[:40])
    if any(side < 0 for side in shape):
        raise _refusal("the array's shape %s has a negative side" % str(list(shape))[:60])
    count = 1
    for side in shape:
        count *= side
    if len(body) - start != count * dtype.itemsize:
        raise _refusal("the array's header says %d bytes, %d follow" % (count * dtype.itemsize, len(body) - start))
    flat = np.frombuffer(body, dtype=dtype, count=count, offset=start)
    array = flat.reshape(shape[::-1]).T if backwards else flat.reshape(shape)
    return np.asarray(array, dtype=dtype.newbyteorder("="), order="C")


def write_npy(array: Array) -> bytes:
    """The array as a ``.npy`` file of version 1.0."""
    stream = io.BytesIO()
    npy_format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def read_npz(content: bytes) -> Dict[str, Array]:
    """The arrays of :func:`write_npz` by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name[: -len(_SUFFIX)]: read_npy(archive.read(name)) for name in archive.namelist()}


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name, as ``numpy.load`` reads them; ``savez`` would not take one called ``file``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(name + _SUFFIX), write_npy(array))
    return stream.getvalue()


def _refusal(sentence: str) -> AgentError:
    return AgentError(ErrorKind.BAD_REQUEST, sentence)

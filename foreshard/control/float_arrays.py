"""NumPy arrays of single precision to and from PostgreSQL's ``real[]``, without a Python object for each number."""

from __future__ import annotations

from struct import Struct

import numpy as np
import numpy.typing as npt
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

Floats32 = npt.NDArray[np.float32]

REAL_ARRAY = 1021
_REAL = 700
_HEAD = Struct("!iiI")  # dimensions, whether there are NULLs, type of the elements
_DIMENSION = Struct("!ii")  # length, number of the first element
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


class FloatsDumper(Dumper):
    """An array of any shape, as PostgreSQL's binary form of arrays."""

    format = Format.BINARY
    oid = REAL_ARRAY

    def dump(self, obj: Floats32) -> Buffer:
        """The array's head, then each element with its length before it."""
        elements = np.empty(obj.size, _ELEMENT)
        elements["length"], elements["value"] = 4, obj.ravel()
        head = _HEAD.pack(obj.ndim, 0, _REAL) + b"".join(_DIMENSION.pack(length, 1) for length in obj.shape)
        return head + elements.tobytes()


class FloatsLoader(Loader):
    """Back from there. NULLs are not for this: their elements have no value."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Floats32:
        """An array of its own, in the machine's byte order."""
        dimensions, _, _ = _HEAD.unpack_from(data)
        shape = [
            _DIMENSION.unpack_from(data, _HEAD.size + at * _DIMENSION.size)[0] for at in range(dimensions)
        ]
        elements = np.frombuffer(data, _ELEMENT, offset=_HEAD.size + dimensions * _DIMENSION.size)
        return elements["value"].astype(np.float32).reshape(shape)


def use(context: AdaptContext) -> None:
    """Connection or cursor ``context`` exchanges ``real[]`` as arrays, in binary form."""
    assert context.adapters is not None
    context.adapters.register_dumper(np.ndarray, FloatsDumper)
    context.adapters.register_loader(REAL_ARRAY, FloatsLoader)

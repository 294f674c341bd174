"""Verify Ed25519 signatures in plain Python (RFC 8032, section 5.1.7): a board has the standard library alone.

Strict where the RFC leaves a choice: no second encoding of a point or scalar is taken, and no public key of small
order, for which one signature fits many messages.  Nothing here is secret, so the time that it takes may tell all.
"""

from __future__ import annotations

import hashlib
from typing import Optional, Tuple

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
"""The order of the base point."""
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_SIGN = 1 << 255

_Point = Tuple[int, int, int, int]
"""Extended homogeneous coordinates X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z."""
_NEUTRAL: _Point = (0, 1, 1, 0)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) of ``message`` is by the holder of the key ``public`` (32 bytes)."""
    point = _usable(public)
    if point is None or len(signature) != 64:
        return False
    encoded_r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if s >= _L:
        return False
    challenge = int.from_bytes(hashlib.sha512(encoded_r + public + message).digest(), "little") % _L
    # R = sB - kA, compared as encoded: another encoding of the same R differs.
    return _encode(_sum_of_multiples(s, _BASE, challenge, _negative(point))) == encoded_r


def is_public_key(public: bytes) -> bool:
    """Whether ``public`` encodes a point that can be a key: on the curve, canonical, not of small order."""
    return _usable(public) is not None


def _usable(public: bytes) -> Optional[_Point]:
    point = _decode(public)
    if point is None or _is_neutral(_double(_double(_double(point)))):
        return None
    return point


def _decode(encoded: bytes) -> Optional[_Point]:
    """The point of 32 bytes (section 5.1.3); ``None`` if it is not on the curve or not so encoded."""
    if len(encoded) != 32:
        return None
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (_SIGN - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P == _P - u and u:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _sum_of_multiples(a: int, first: _Point, b: int, second: _Point) -> _Point:
    """a · first + b · second, both by the same doublings (Straus)."""
    added = (_NEUTRAL, first, second, _add(first, second))
    total = _NEUTRAL
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        total = _double(total)
        chosen = (a >> bit & 1) | (b >> bit & 1) << 1
        if chosen:
            total = _add(total, added[chosen])
    return total


def _add(one: _Point, other: _Point) -> _Point:
    """Section 5.1.4; complete, so that it doubles and adds the neutral element, too."""
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * _D * one[3] * other[3] % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _double(point: _Point) -> _Point:
    a, b = point[0] * point[0] % _P, point[1] * point[1] % _P
    h = a + b
    e = h - (point[0] + point[1]) ** 2 % _P
    g = a - b
    f = 2 * point[2] * point[2] % _P + g
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _negative(point: _Point) -> _Point:
    return (_P - point[0], point[1], point[2], _P - point[3])


def _is_neutral(point: _Point) -> bool:
    return point[0] % _P == 0 and (point[1] - point[2]) % _P == 0


def _base_point() -> _Point:
    point = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))
    if point is None:
        raise AssertionError("the base point is on the curve")
    return point


_BASE = _base_point()

"""Randomness without state: an integer hash of what is drawn for, the same on every device.

Every product stays below 2^63, so the arithmetic is exact in int64 and needs no wrap-around.
"""

from __future__ import annotations

from torch import Tensor

MASK = 0xFFFFFFFF
# An odd constant near 2^32 over the golden ratio spreads consecutive seeds over all 32 bits.
GOLDEN = 0x9E3779B9


def hashed(values: Tensor, *salts: int) -> Tensor:
    """Return a pseudo-random number in [0, 2^32) for each of `values`, as int64.

    Args:
        values: int64, any shape, at least 0; only the lower 32 bits count.
        salts: seeds, views, streams: each set of salts gives an independent number.
    """
    mixed = _mix(values & MASK)
    for salt in salts:
        mixed = _mix((mixed + salt * GOLDEN % (MASK + 1) + 1) & MASK)
    return mixed


def uniform(values: Tensor, high: int, *salts: int) -> Tensor:
    """Return a pseudo-random integer in [0, high) for each of `values`, as int64."""
    return (hashed(values, *salts) * high) >> 32


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers: https://github.com/skeeto/hash-prospector (bias 0.11)."""
    x = (x ^ (x >> 16)) * 0x21F0AAAD & MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & MASK
    return x ^ (x >> 15)

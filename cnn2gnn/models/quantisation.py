"""Keys in a few bits: each dimension has levels of equal distance, as many as the bits tell apart.

    level  = ⌊(u − o) / step + L/2⌋ in 0 … L − 1,   L = 2^bits          o: the mean of the dimension
    u      ≈ o + step·(level − (L − 1)/2)

The step is the one of least squared error (Max 1960, for levels of equal distance): few bits cut
off the tails rather than be coarse in the middle. In many dimensions the errors of a distance
cancel, so that keys of hundreds of dimensions find neighbours as good with two bits each. They are
not all the same ones: of twenty, about fifteen.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = (8, 4, 2)  # of a dimension of a key: they fill bytes
_TRIED = 16  # steps
_SEEN = 10_000  # keys that tell the step


def grid_of(keys: Tensor, bits: int) -> Tensor:
    """Mean and step of each dimension of keys `(M, d)`, `(2, d)`; M >= 1."""
    origin, spread = keys.mean(0), keys.std(0, correction=0)
    some = keys[:: max(1, len(keys) // _SEEN)]  # (m, d)
    far = (keys - origin).abs().amax(0)
    best, least = torch.zeros_like(origin), torch.full_like(origin, torch.inf)
    for share in torch.linspace(0, 1, _TRIED).tolist():
        # half of what the levels span, from one standard deviation to the farthest key
        step = 2 * spread ** (1 - share) * far**share / 2**bits
        grid = torch.stack([origin, step])
        error = (placed(levels(some, grid, bits), grid, bits) - some).square().sum(0)
        best, least = step.where(error < least, best), torch.minimum(error, least)
    return torch.stack([origin, best])


def levels(keys: Tensor, grid: Tensor, bits: int) -> Tensor:
    """The levels of keys `(M, d)`, uint8 `(M, d)`."""
    origin, step = grid
    steps = (keys - origin) / step.where(step > 0, 1)
    return (steps + 2**bits / 2).floor().clamp(0, 2**bits - 1).to(torch.uint8)


def placed(levels: Tensor, grid: Tensor, bits: int) -> Tensor:
    """The keys `(M, d)` that stand on the levels."""
    origin, step = grid
    return origin + step * (levels - (2**bits - 1) / 2)


def packed(levels: Tensor, bits: int) -> Tensor:
    """Levels `(M, d)` side by side in bytes, uint8 `(M, ⌈d·bits/8⌉)`."""
    each = 8 // bits  # levels in a byte
    filled = torch.nn.functional.pad(levels, (0, -levels.shape[1] % each))
    parts = filled.unflatten(1, (-1, each)) << _shifts(bits, levels)  # (M, b, each)
    return parts.sum(2, dtype=torch.uint8)


def unpacked(packed: Tensor, bits: int, width: int) -> Tensor:
    """Undo `packed`: levels `(M, width)`."""
    parts = (packed[:, :, None] >> _shifts(bits, packed)) & (2**bits - 1)
    return parts.flatten(1)[:, :width]


def _shifts(bits: int, like: Tensor) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=like.device)

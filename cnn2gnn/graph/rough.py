"""Keys rounded to bf16, which propose neighbours, and a bound that tells that none is missing.

A processor that multiplies bf16 takes a third of the time for it. Keys x_j of a query q, both seen
from the middle of all keys, are ranked by ρ_j, from the rounded q̃ and x̃_j:

    ρ_j = ½‖x_j‖² − q·x_j = ½(‖q − x_j‖² − ‖q‖²)
    |ρ̃_j − ρ_j| ≤ ‖q − q̃‖·‖x_j‖ + ‖q̃‖·‖x_j − x̃_j‖ ≤ (2u + u²)·‖q‖·max ‖x‖      (Cauchy and Schwarz)

with u the largest relative error of a rounded number. So whoever was not proposed lies no nearer
than the last who was, but for that much: where the true k-th distance is below it, the proposals
hold the k nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.base.processor import computes_in_bf16

QUERIES, KEYS = 64, 16_384  # from so many of both on it pays
SPARE = 8  # proposals beyond 2k: the more, the more rows are sure
_ROWS = 8192  # keys rounded at a time
_UNIT = 2.0**-9  # u of bf16
_TINY = 2.0**-80  # below it, products of two numbers may vanish: nothing is sure


def pays(queries: Tensor, points: Tensor, k: int) -> bool:
    """Whether to look for k of the keys `(M, d)` among rounded ones first.

    What is found does not depend on it. A few queries wait for memory either way.
    """
    return (
        points.dtype == torch.float32
        and points.device.type == "cpu"
        and len(queries) >= QUERIES
        and len(points) >= max(KEYS, 8 * proposed(k))
        and torch.backends.mkldnn.is_available()  # sums the products in float32
        and computes_in_bf16()
    )


def proposed(k: int) -> int:
    """How many keys are proposed where k are wanted."""
    return 2 * k + SPARE


class RoundedKeys(NamedTuple):
    """Keys in bf16.

    Attributes:
        points: [x̃_j, ½‖x_j‖²] `(M, d + 2)`, the latter in two parts.
        centre: the middle of the keys, `(d,)`, from which they are seen: the shorter, the surer.
        reach: max ‖x‖, a scalar.
    """

    points: Tensor
    centre: Tensor
    reach: Tensor

    @classmethod
    def of(cls, keys: Tensor) -> RoundedKeys:
        """Round keys `(M, d)`, float32."""
        centre, parts, longest = keys.mean(0), [], []
        for part in keys.split(_ROWS):
            moved = part - centre  # (m, d)
            half = torch.linalg.vecdot(moved, moved)[:, None] / 2
            high = half.bfloat16()
            parts.append(torch.cat([moved.bfloat16(), high, (half - high).bfloat16()], 1))
            longest.append(half.max())
        return cls(torch.cat(parts), centre, (2 * torch.stack(longest).max()).sqrt())

    def scores(self, queries: Tensor, buffer: Tensor) -> Tensor:
        """ρ̃ of queries `(c, d)`, `(M, c)` in bf16: smallest first. `buffer` has room for it."""
        signed = torch.cat([self.centre - queries, queries.new_ones(len(queries), 2)], 1)
        out = buffer[: len(self.points) * len(queries)].view(len(self.points), len(queries))
        return torch.mm(self.points, signed.bfloat16().T, out=out)

    def floor(self, queries: Tensor, last: Tensor) -> Tensor:
        """Squared distance `(c,)` below which no key lies that was not proposed.

        Args:
            queries: `(c, d)`; last: ρ̃ `(c,)` of the last proposal of each.
        """
        moved, last = queries - self.centre, last.float()
        squares = torch.linalg.vecdot(moved, moved)  # ‖q‖², (c,)
        lengths = squares.sqrt()
        # rounding of the factors, of ρ̃ itself, and of sums in float32 (of products, of ½‖x‖²)
        error = (2 * _UNIT + _UNIT**2) * lengths * self.reach + 2 * _UNIT * last.abs()
        error = error + (moved.shape[1] + 64) * 2.0**-23 * (lengths + self.reach).square() + _TINY
        # ‖q − x‖² = ‖q‖² + 2ρ
        return squares + 2 * (last - error)

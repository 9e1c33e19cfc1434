"""Keys rounded to bf16, which propose neighbours, and a bound that tells that none is missing.

A processor that multiplies bf16 takes a third of the time for it. Keys x_j of a query q, both seen
from the middle of all keys, are ranked by ρ_j, from the rounded q̃ and x̃_j:

    ρ_j = ½‖x_j‖² − m − q·x_j = ½(‖q − x_j‖² − ‖q‖²) − m          m: the mean of ½‖x_j‖²
    |ρ̃_j − ρ_j| ≤ ‖q − q̃‖·‖x_j‖ + ‖q̃‖·‖x_j − x̃_j‖                 (Cauchy and Schwarz)

So whoever was not proposed lies no nearer than the last who was, but for that much: where the true
k-th distance is below it, the proposals hold the k nearest. The less is rounded, the surer: what
is the same for all keys (m), and a dimension in which every query is 0, are not in the product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.base.processor import computes_in_bf16

QUERIES, KEYS = 16, 16_384  # from so many of both on it pays; of held keys, from one query on
SPARE = 8  # proposals beyond 2k: the more, the more rows are sure
_ROWS = 8192  # keys rounded at a time
_UNIT = 2.0**-8  # the largest relative error of a number in bf16
_TINY = 2.0**-80  # below it, products of two numbers may vanish: nothing is sure


def pays(queries: Tensor, points: Tensor, k: int, held: bool) -> bool:
    """Whether to look for k of the keys `(M, d)` among rounded ones first.

    What is found does not depend on it. To round keys takes as long as some queries, once where
    they are `held`; a single query waits for memory, and rounded keys are half of it.
    """
    return (
        points.dtype == torch.float32
        and points.device.type == "cpu"
        and (held or len(queries) >= QUERIES)
        and len(points) >= max(KEYS, 8 * proposed(k))
        and torch.backends.mkldnn.is_available()  # sums the products in float32
        and computes_in_bf16()
    )


def proposed(k: int) -> int:
    """How many keys are proposed where k are wanted."""
    return 2 * k + SPARE


def apart(near: Tensor, far: Tensor) -> Tensor:
    """Whether scores ρ̃ `(c,)` differ by more than their own rounding to bf16 can explain."""
    near, far = near.float(), far.float()
    return far - near > _UNIT * (near.abs() + far.abs())


class RoundedKeys(NamedTuple):
    """Keys in bf16.

    Attributes:
        points: [x̃_j, ½‖x_j‖² − m] `(M, d + 2)`, the latter in two parts.
        centre: the middle of the keys, `(d,)`, from which they are seen: the shorter, the surer.
        mean: m, a scalar.
        reach: max ‖x‖, a scalar; `lost`: max ‖x − x̃‖; `high`: max |½‖x‖² − m|.
    """

    points: Tensor
    centre: Tensor
    mean: Tensor
    reach: Tensor
    lost: Tensor
    high: Tensor

    @classmethod
    def of(cls, keys: Tensor, raised: bool = False) -> RoundedKeys:
        """Round keys `(M, d)`, float32; of `raised` ones, d − 1 dimensions are in the product."""
        width = keys.shape[1] - raised
        centre = keys[:, :width].mean(0)
        points = keys.new_empty(len(keys), width + 2, dtype=torch.bfloat16)
        parts, lost = [], []
        for part, rounded in zip(keys.split(_ROWS), points.split(_ROWS), strict=True):
            moved = part[:, :width] - centre  # (m, d)
            parts.append(_squares(moved))
            rounded[:, :width] = moved
            lost.append(_squares(moved.sub_(rounded[:, :width])).max())
        squares = torch.cat(parts)  # ‖x_j‖², (M,)
        # ½‖x_j‖², of raised keys with the height: ½(‖x_j‖² + h_j²)
        halves = (squares + keys[:, -1].square() if raised else squares) / 2
        mean = halves.mean()
        rest = halves - mean
        points[:, width] = rest
        points[:, width + 1] = rest - points[:, width]
        farthest, most = squares.max().sqrt(), torch.stack(lost).max().sqrt()
        return cls(points, centre, mean, farthest, most, rest.abs().max())

    def scores(self, queries: Tensor, buffer: Tensor) -> Tensor:
        """ρ̃ of queries `(c, d)`, `(M, c)` in bf16: smallest first. `buffer` has room for it."""
        moved = self._moved(queries)
        signed = torch.cat([-moved, moved.new_ones(len(moved), 2)], 1)
        out = buffer[: len(self.points) * len(queries)].view(len(self.points), len(queries))
        return torch.mm(self.points, signed.bfloat16().T, out=out)

    def floor(self, queries: Tensor, last: Tensor) -> Tensor:
        """Squared distance `(c,)` below which no key lies that was not proposed.

        Args:
            queries: `(c, d)`; last: ρ̃ `(c,)` of the last proposal of each.
        """
        moved, last = self._moved(queries), last.float()
        rounded = moved.bfloat16().float()
        squares = torch.linalg.vecdot(moved, moved)  # ‖q‖², (c,)
        away = torch.linalg.vector_norm(moved - rounded, dim=1)  # ‖q − q̃‖
        # ‖q − q̃‖·‖x_j‖ + ‖q̃‖·‖x_j − x̃_j‖
        error = away * self.reach + torch.linalg.vector_norm(rounded, dim=1) * self.lost
        # of ρ̃ itself, of ½‖x_j‖² − m in two parts, and of sums in float32
        error = error + _UNIT * last.abs() + _UNIT**2 * self.high
        sums = (squares.sqrt() + self.reach).square() + self.high + self.mean
        error = error + (moved.shape[1] + 64) * 2.0**-23 * sums + _TINY
        # ‖q − x‖² = ‖q‖² + 2(ρ + m)
        return squares + 2 * (last + self.mean - error)

    def _moved(self, queries: Tensor) -> Tensor:
        return queries[:, : len(self.centre)] - self.centre


def _squares(points: Tensor) -> Tensor:
    """‖x‖² of points `(m, d)`, `(m,)`."""
    return torch.linalg.vecdot(points, points)

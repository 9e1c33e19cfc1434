"""Keys rounded to bf16, which propose neighbours, and a bound that tells that none is missing.

A processor that multiplies bf16 takes a third of the time for it. Keys x_j of a query q are ranked
by ρ_j, from the rounded q̃ and x̃_j:

    ρ_j = ½‖x_j‖² − q·x_j = ½(‖q − x_j‖² − ‖q‖²)
    |ρ̃_j − ρ_j| ≤ ‖q − q̃‖·‖x_j‖ + ‖q̃‖·‖x_j − x̃_j‖ ≤ (2u + u²)·‖q‖·max ‖x‖      (Cauchy and Schwarz)

with u the largest relative error of a rounded number. So whoever was not proposed lies no nearer
than the last who was, but for that much: where the true k-th distance is below it, the proposals
hold the k nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.base.processor import computes_in_bf16

QUERIES, KEYS = 64, 16_384  # from so many of both on it pays
SPARE = 8  # proposals beyond 2k: the more, the more rows are sure
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


def rounded(points: Tensor, norms: Tensor) -> Tensor:
    """Keys `(M, d)` of squared norms `(M,)` as [x̃_j, ½‖x_j‖²] in bf16, the latter in two parts."""
    half = norms / 2
    high = half.bfloat16()
    low = (half - high).bfloat16()
    return torch.cat([points.bfloat16(), high[:, None], low[:, None]], 1)  # (M, d + 2)


def rough_scores(queries: Tensor, keys: Tensor, buffer: Tensor) -> Tensor:
    """ρ̃ of queries `(c, d)` and `rounded` keys `(M, d + 2)`, `(M, c)` in bf16, within `buffer`."""
    ones = queries.new_ones(len(queries), 2)
    signed = torch.cat([-queries, ones], 1).bfloat16()  # (c, d + 2)
    out = buffer[: len(keys) * len(queries)].view(len(keys), len(queries))
    return torch.mm(keys, signed.T, out=out)


def floor(queries: Tensor, last: Tensor, norms: Tensor) -> Tensor:
    """Squared distance `(c,)` below which no key lies that was not proposed.

    Args:
        queries: `(c, d)`; last: ρ̃ `(c,)` of the last proposal of each; norms: of the keys, `(M,)`.
    """
    squares = torch.linalg.vecdot(queries, queries)  # ‖q‖², (c,)
    reach, farthest = squares.sqrt(), norms.max().sqrt()
    last = last.float()
    # rounding of the factors, of ρ̃ itself, and of sums in float32 (of products, of ½‖x‖²)
    error = (2 * _UNIT + _UNIT**2) * reach * farthest + 2 * _UNIT * last.abs()
    error = error + (queries.shape[1] + 64) * 2.0**-23 * (reach + farthest).square() + _TINY
    # ‖q − x‖² = ‖q‖² + 2ρ
    return squares + 2 * (last - error)

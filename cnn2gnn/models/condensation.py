"""Fewer nodes for a bank: of every class the same share, chosen so that the class keeps its mean.

Herding (Welling, ICML 2009, as iCaRL uses it, Rebuffi et al., CVPR 2017): of the nodes x_j of a
class with mean μ, one after the other is taken whose mean with those before comes nearest to μ,

    j_t = argmin_j ‖ μ − (x_j + Σ_{s<t} x_{j_s}) / t ‖²

and every first part of that order is a good summary. Unlabelled nodes are a class of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-9  # a share of which every class keeps one node


@torch.no_grad()
def condensed_rows(keys: Tensor, labels: Tensor, share: float) -> Tensor:
    """Rows of the nodes to keep, ascending, int64 `(m,)`.

    Args:
        keys: `(M, d)`; labels: int64 `(M,)`.
        share: of each class, in (0, 1]; at least one node of each is kept.

    Raises:
        ValueError: `share` lies elsewhere.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be more than 0 and at most 1")
    kept = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]  # (n,)
        kept.append(rows[herding(keys[rows], _kept(len(rows), share))])
    return torch.cat(kept).sort().values


def share_within(labels: Tensor, nodes: int) -> float:
    """The largest share, to a millionth, of which at most so many nodes are kept in all.

    Args:
        labels: int64 `(M,)`; nodes: at least one a class.
    """
    sizes = labels.unique(return_counts=True)[1].tolist()
    low, high = LEAST, 1.0
    while high - low > 1e-6:
        share = (low + high) / 2
        fits = sum(_kept(size, share) for size in sizes) <= nodes
        low, high = (share, high) if fits else (low, share)
    return low


def _kept(size: int, share: float) -> int:
    return max(1, int(share * size + 1e-9))  # 0.29 of 100 are 29, and not 28.999…


def herding(points: Tensor, count: int) -> Tensor:
    """Rows of the first `count` points `(n, d)` in the order of herding, int64 `(count,)`."""
    order, total = [], torch.zeros_like(points[0])
    free, mean = torch.ones(len(points), dtype=torch.bool, device=points.device), points.mean(0)
    norms = torch.linalg.vecdot(points, points)  # (n,)
    for taken in range(1, count + 1):
        # ‖μ − (x_j + Σ)/t‖² · t² = ‖x_j − (tμ − Σ)‖² = ‖x_j‖² − 2 x_j·(tμ − Σ) + …
        distances = norms - 2 * (points @ (taken * mean - total))  # (n,)
        row = distances.masked_fill(~free, torch.inf).argmin()
        free[row] = False
        total += points[row]
        order.append(row)
    return torch.stack(order)

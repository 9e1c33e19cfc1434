"""Distances between nodes that have been found, with gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.graph.search import nearest, plain


def chosen_distances(
    queries: Tensor, keys: Tensor | None, k: int, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Squared Euclidean distances to the k nearest, with gradient, in ascending order.

    Args:
        queries, keys, k, exclude: as in `nearest`.

    Returns:
        neighbours int64 `(N, k)` and distances `(N, k)`, float32 or float64.
    """
    neighbours = nearest(queries, keys, k, exclude)  # (N, k)
    distances = distances_to(neighbours, queries, queries if keys is None else keys)  # (N, k)
    # The search ranked by ‖x‖² − 2 q·x, whose rounding may swap neighbours that nearly tie.
    distances, order = distances.sort(dim=1, stable=True)
    return neighbours.gather(1, order), distances


def distances_to(neighbours: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Squared Euclidean distances `(N, n)` of queries to given keys, with gradient.

    Args:
        neighbours: rows of keys, int64 `(N, n)`; queries: `(N, d)`; keys: `(M, d)`.

    Returns:
        float32 or float64, whatever autocast says.
    """
    with torch.autocast(queries.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
        queries, keys = queries.to(dtype), plain(keys).to(dtype)
        # d_ij = ‖q_i − x_j‖², from the differences: no cancellation, and exactly 0 for duplicates
        # embedding, not keys[neighbours]: its gradient sums in the same order on any run
        differences = queries.unsqueeze(1) - F.embedding(neighbours, keys)  # (N, n, d)
        return differences.square().sum(2)

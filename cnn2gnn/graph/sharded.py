"""Nearest neighbours among keys in parts: each part is searched by itself, the best are merged.

However the keys are parted, the neighbours are the same, one by one. `nearest` alone could not
promise that: it ranks by ‖x‖² − 2 q·x, whose rounding depends on the shape of the product. Hence a
part ranks again, by d = ‖q − x‖² from the differences, which depends on q and x alone, and ties go
by index. It first looks at so many keys that rounding can have hidden none.

NOTE: A GPU may round a sum of differences by the shape as well; there, keys whose distances are
the same up to the last bits may change places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.graph.distances import distances_to
from cnn2gnn.graph.exact import DISTANCE_BYTES
from cnn2gnn.graph.search import nearest
from cnn2gnn.graph.search_keys import SearchKeys

SPARE = 9  # keys looked at beyond k: one may be excluded, the others tell that k were enough


@torch.no_grad()
def nearest_in_part(
    queries: Tensor, keys: Tensor, k: int, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the k nearest keys of one part: by distance, where these are the same by index.

    Args:
        queries: `(N, d)`; keys: `(m, d)`, those of the part, `SearchKeys` or plain; both float32
            or float64.
        exclude: int64 `(N,)`, the key that a query must not get; one that is not here is none.

    Returns:
        Indices int64 and squared distances, both `(N, k)`; where the part has fewer than k keys
        for a query, −1 at an infinite distance.

    Raises:
        ValueError: as `nearest`.
    """
    held = keys if isinstance(keys, SearchKeys) else SearchKeys.of(keys)
    slack = _rounding(queries, held)  # (N,)
    indices = torch.full((len(queries), k), -1, device=queries.device)
    distances = queries.new_full((len(queries), k), torch.inf)
    rows, width = torch.arange(len(queries), device=queries.device), k + SPARE
    while len(rows):
        width = min(width, len(keys))
        found = nearest(queries[rows], held, width).sort(1).values  # (n, width), by index
        apart = _distances(found, queries[rows], keys)  # (n, width)
        farthest = apart.amax(1)  # (n,)
        if exclude is not None:
            apart = apart.masked_fill(found == exclude[rows, None], torch.inf)
        apart, order = apart.sort(dim=1, stable=True)  # ties stay in order of index
        found = found.gather(1, order).masked_fill(apart.isinf(), -1)
        indices[rows, :width], distances[rows, :width] = found[:, :k], apart[:, :k]
        if width == len(keys):
            break
        # a key that was not looked at lies farther than the farthest that was, up to rounding
        rows = rows[apart[:, k - 1] >= farthest - slack[rows]]
        width *= 4
    return indices, distances


def merge_parts(indices: Tensor, distances: Tensor) -> Tensor:
    """Of the k nearest in each of P parts, take the k nearest of all.

    Args:
        indices: int64 `(P, N, k)` among all keys, ascending from part to part; −1 for none.
        distances: `(P, N, k)`, ascending within a part; infinite where there is none.

    Returns:
        int64 `(N, k)`: by distance, where these are the same by index.

    Raises:
        ValueError: all parts together have fewer than k keys for a query.
    """
    k = indices.shape[2]
    indices, distances = (each.transpose(0, 1).flatten(1) for each in (indices, distances))
    order = distances.argsort(dim=1, stable=True)[:, :k]  # stable: parts are in order of index
    best = indices.gather(1, order)  # (N, k)
    if (best < 0).any():
        raise ValueError(f"k={k}, but a query has only {int((best >= 0).sum(1).min())} candidates")
    return best


def _distances(found: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """As `distances_to`, in bounded memory."""
    rows = max(1, DISTANCE_BYTES // (found.shape[1] * queries.shape[1] * queries.itemsize))
    parts = zip(found.split(rows), queries.split(rows), strict=True)
    return torch.cat([distances_to(*part, keys) for part in parts])


def _rounding(queries: Tensor, keys: SearchKeys) -> Tensor:
    """How far apart two distances of a query may be and yet change places in `nearest`, `(N,)`.

    A sum of d products, with some roundings before and after, is off by (d + 8)·u·Σ|terms| at
    most, u = eps/2 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1); the terms of
    ‖x‖² − 2 q·x and of ‖q − x‖² sum to (‖q‖ + ‖x‖)² at most. Two scores and two distances are
    compared.
    """
    moved, norms = keys.prepared.moved(queries), keys.prepared.norms
    reach = moved.norm(dim=1) + norms.max().sqrt()  # ‖q‖ + max ‖x‖, (N,)
    return 2 * (queries.shape[1] + 8) * torch.finfo(queries.dtype).eps * reach.square()

"""Nearest neighbours in bounded memory, without gradient: exact, or of a whole large set nearly so.

An index of a million keys takes as long to build as tens of thousands of exact queries. So a few
queries are answered exactly among however many keys, and only where more than `EXACT` queries meet
more than `EXACT` keys does an index propose candidates, which are then ranked by true distances.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.graph import approximate
from cnn2gnn.graph.search_keys import Prepared, checked_norms, prepared_of

EXACT = 100_000  # queries or keys up to which the search is exact
SPARE = 8  # proposals beyond k, which true distances choose among
RANKED_BYTES = 2**27  # of proposed keys that are compared at a time
DISTANCE_BYTES = 20 * 2**20  # of the (M, rows) distances that exist at a time
BLOCK = 16  # keys whose nearest stands for them in the first stage of the selection


@torch.no_grad()
def nearest(queries: Tensor, keys: Tensor | None, k: int, exclude: Tensor | None = None) -> Tensor:
    """Indices of the k nearest keys of every query by Euclidean distance, nearest first.

    The search is exact up to the rounding of float32 (float64 for float64 inputs), whatever
    autocast says. It holds `DISTANCE_BYTES` of distances at a time, never (N, M). Of more than
    `EXACT` queries among more than `EXACT` keys on a CPU, `approximate` proposes the candidates:
    some of the k nearest may be missed, for farther ones. The same call finds the same again.

    Args:
        queries: `(N, d)`.
        keys: `(M, d)`; None searches among the queries themselves, and no node finds itself. Of
            `SearchKeys` the preparation is taken, which costs more than one query does.
        k: number of neighbours, from 1 to the number of candidates.
        exclude: int64 `(N,)`, the key that a query must not get, -1 for none; only with `keys`.

    Returns:
        int64 `(N, k)`, indices of keys.

    Raises:
        ValueError: shapes do not fit, fewer than k candidates, or values that are not finite.
    """
    candidates = count_candidates(queries, keys, exclude)
    if not 1 <= k <= candidates:
        raise ValueError(f"k={k} must be from 1 to {candidates}, the candidates of a query")
    within = keys is None
    if keys is None:
        keys, exclude = queries, torch.arange(len(queries), device=queries.device)

    dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
    with torch.autocast(queries.device.type, enabled=False):
        prepared = prepared_of(keys, dtype)
        checked_norms("queries", queries.to(dtype))
        queries = prepared.points if within else prepared.moved(queries.to(dtype))
        if torch.compiler.is_exporting() and exclude is None:  # of any number of queries, in one go
            return _smallest(_scores(queries, prepared.points, prepared.norms), k)
        if min(len(queries), len(keys)) > EXACT and queries.device.type == "cpu":
            return _approximate(queries, prepared, k, exclude)
        return _exact(queries, prepared, k, exclude)


def _exact(queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None) -> Tensor:
    """The k nearest keys `(N, k)` of queries `(N, d)` that were moved as the keys are."""
    points, norms, _ = keys
    fitting = max(1, DISTANCE_BYTES // (len(points) * points.itemsize))
    # of equal size: a product of few columns takes nearly as long as one of many
    rows = -(-len(queries) // -(-len(queries) // fitting))
    # for all chunks: memory that has been touched is faster than new
    buffer = norms.new_empty(len(points) * max(2, rows))
    found = []
    for start in range(0, len(queries), rows):
        chunk = queries[start : start + rows]  # (c, d)
        # a pair takes three quarters of the time of one, which goes another way through BLAS
        pair = chunk if len(chunk) > 1 else chunk.repeat(2, 1)
        scores = _scores(pair, points, norms, buffer)[:, : len(chunk)]  # (M, c)
        if exclude is not None:
            _forbid(scores, exclude[start : start + rows])
        found.append(_smallest(scores, k))
    return torch.cat(found)  # (N, k)


def _approximate(queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None) -> Tensor:
    """As `_exact`, of candidates that an index proposes; rows with too few are searched exactly."""
    count = min(k + SPARE + (exclude is not None), len(keys.points))
    proposed = approximate.proposals(queries, keys.points, count)  # (N, c), −1: none
    found = proposed.new_empty(len(queries), k)
    step = max(1, RANKED_BYTES // (count * keys.points[0].nbytes))
    for rows in torch.arange(len(queries)).split(step):
        candidates = proposed[rows].sort(1).values  # (r, c), by key: ties as in the exact search
        there = F.embedding(candidates.clamp(min=0), keys.points)  # (r, c, d)
        distances = (queries[rows, None] - there).square().sum(2)  # (r, c)
        barred = candidates < 0
        barred[:, 1:] |= candidates[:, 1:] == candidates[:, :-1]  # proposed twice
        if exclude is not None:
            barred |= candidates == exclude[rows, None]
        order = distances.masked_fill(barred, torch.inf).argsort(dim=1, stable=True)[:, :k]
        found[rows] = candidates.masked_fill(barred, -1).gather(1, order)
    few = (found < 0).any(1).nonzero().squeeze(1)
    if len(few):
        found[few] = _exact(queries[few], keys, k, None if exclude is None else exclude[few])
    return found


def count_candidates(queries: Tensor, keys: Tensor | None, exclude: Tensor | None) -> int:
    """Keys that every query can choose from, after checking that the shapes fit.

    Args:
        queries, keys, exclude: as in `nearest`.

    Raises:
        ValueError: shapes or types do not fit, or `exclude` is no index into the keys.
    """
    if queries.ndim != 2 or 0 in queries.shape:
        raise ValueError(
            f"queries must be of shape (N, d), d >= 1, N >= 1, not {tuple(queries.shape)}"
        )
    for name, nodes in (("queries", queries), ("keys", keys)):
        if nodes is not None and nodes.is_complex():
            raise ValueError(f"{name} must be real numbers, not {nodes.dtype}")
    if keys is None:
        if exclude is not None:
            raise ValueError("exclude needs keys: without keys every node excludes itself")
        return len(queries) - 1
    if keys.ndim != 2 or keys.shape[1] != queries.shape[1] or len(keys) == 0:
        raise ValueError(
            f"keys must be of shape (M, {queries.shape[1]}), M >= 1, not {tuple(keys.shape)}"
        )
    if exclude is None:
        return len(keys)
    if exclude.shape != (len(queries),) or exclude.dtype != torch.int64:
        raise ValueError(
            f"exclude must be int64 of shape ({len(queries)},), "
            f"not {exclude.dtype} of shape {tuple(exclude.shape)}"
        )
    low, high = (int(bound) for bound in torch.aminmax(exclude))
    if low < -1 or high >= len(keys):
        raise ValueError(f"exclude must lie from -1 to {len(keys) - 1}, not {low} to {high}")
    return len(keys) - (high >= 0)


def _scores(queries: Tensor, points: Tensor, norms: Tensor, buffer: Tensor | None = None) -> Tensor:
    """What ranks the points `(M, d)` for each of the queries `(c, d)`, `(M, c)`: smallest first.

    Of the two products, that of many rows with few columns is the faster. `buffer` has room for it.
    """
    out = None
    if buffer is not None:
        out = buffer[: len(points) * len(queries)].view(len(points), len(queries))
    # ‖q − x‖² − ‖q‖² = ‖x‖² − 2 q·x, and ‖q‖² does not change the order within a column
    return torch.addmm(norms[:, None], points, queries.T, alpha=-2, out=out)


def _forbid(scores: Tensor, exclude: Tensor) -> None:
    """Put the excluded key of every column of `scores` `(M, c)` out of reach, in place."""
    column = torch.nonzero(exclude >= 0).squeeze(1)
    scores[exclude[column], column] = torch.inf


def _smallest(scores: Tensor, k: int) -> Tensor:
    """Rows of the k smallest values of every column `(M, c)`, in ascending order `(c, k)`.

    `topk` over all rows takes as long as the distances themselves. But the k smallest values lie in
    the k blocks of smallest minimum: any other block has k values before all of its own. Four times
    faster, and still exact.
    """
    blocks = len(scores) // BLOCK
    if blocks <= 2 * k:
        return scores.topk(k, dim=0, largest=False).indices.T
    # Block b holds the rows b, b + blocks, b + 2·blocks, …: minima run along contiguous memory.
    offsets = torch.arange(BLOCK, device=scores.device) * blocks
    whole = scores[: BLOCK * blocks].unflatten(0, (BLOCK, blocks))  # (BLOCK, blocks, c)
    best = whole.amin(0).topk(k, dim=0, largest=False, sorted=False).indices  # (k, c)
    rows = (best + offsets[:, None, None]).flatten(0, 1)  # (BLOCK·k, c)
    rest = torch.arange(BLOCK * blocks, len(scores), device=scores.device)
    rows = torch.cat([rows, rest[:, None].expand(-1, scores.shape[1])])
    order = scores.gather(0, rows).topk(k, dim=0, largest=False).indices  # (k, c)
    return rows.gather(0, order).T

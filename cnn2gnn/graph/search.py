"""Nearest neighbours in bounded memory, without gradient: exact, or of a whole large set nearly so.

An index of a million keys takes as long to build as tens of thousands of exact queries. So a few
queries are answered exactly among however many keys, and only where more than `EXACT` queries meet
more than `EXACT` keys does an index propose candidates, which are then ranked by true distances;
if it finds `RECALL` of what an exact search of some finds, and otherwise all are answered exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.graph import approximate
from cnn2gnn.graph.exact import (
    nearest_exactly,
    ranked_in_chunks,
    scores,
    smallest,
    with_missing,
)
from cnn2gnn.graph.search_keys import Prepared, checked_norms, prepared_of

EXACT = 100_000  # queries or keys up to which the search is exact
SPARE = 8  # proposals beyond k, which true distances choose among


@torch.no_grad()
def nearest(
    queries: Tensor,
    keys: Tensor | None,
    k: int,
    exclude: Tensor | None = None,
    *,
    proved: bool = True,
) -> Tensor:
    """Indices of the k nearest keys of every query by Euclidean distance, nearest first.

    The search is exact up to the rounding of float32 (float64 for float64 inputs), whatever
    autocast says. It holds `DISTANCE_BYTES` of distances at a time, never (N, M). Of more than
    `EXACT` queries among more than `EXACT` keys on a CPU, `approximate` proposes the candidates:
    about one in twenty of the k nearest may be missed, for a farther one. The same call finds the
    same again.

    Args:
        queries: `(N, d)`.
        keys: `(M, d)`; None searches among the queries themselves, and no node finds itself. Of
            `SearchKeys` the preparation is taken, which costs more than one query does.
        k: number of neighbours, from 1 to the number of candidates.
        exclude: int64 `(N,)`, the key that a query must not get, -1 for none; only with `keys`.
        proved: False takes the nearest of keys in bf16 where these are searched first: enough for
            candidates, of which there are more than are needed, in half the time.

    Returns:
        int64 `(N, k)`, indices of keys; if not `proved`, in that order but for rounding.

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
        checked_norms("queries", queries.to(dtype))  # before keys, which they may be themselves
        prepared = prepared_of(keys, dtype)
        queries = prepared.points if within else prepared.moved(queries.to(dtype))
        if torch.compiler.is_exporting() and exclude is None:  # of any number of queries, in one go
            return smallest(scores(queries, prepared), k)
        if min(len(queries), len(keys)) > EXACT and queries.device.type == "cpu":
            return _approximate(queries, prepared, k, exclude, proved)
        return nearest_exactly(queries, prepared, k, exclude, proved)


def _approximate(
    queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None, proved: bool
) -> Tensor:
    """As `nearest_exactly`, of candidates that an index proposes; too few of them: exactly."""
    rows = approximate.sample(len(queries))
    exact = nearest_exactly(queries[rows], keys, k, None if exclude is None else exclude[rows])
    count = min(k + SPARE + (exclude is not None), len(keys.points))
    proposed = approximate.proposals(queries, keys.points, count, rows, exact)  # (N, c), −1: none
    if proposed is None:
        return nearest_exactly(queries, keys, k, exclude, proved)
    found, _ = ranked_in_chunks(queries, keys.points, proposed, k, exclude)
    return with_missing(found, queries, keys, exclude)


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

"""The exact nearest neighbours: distances to all keys, and a selection in two stages."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.graph import rough
from cnn2gnn.graph.search_keys import Prepared

DISTANCE_BYTES = 20 * 2**20  # of the (M, rows) distances that exist at a time
RANKED_BYTES = 5 * 2**19  # of the proposed keys that are compared at a time: more is slower
BLOCK = 16  # keys whose nearest stands for them in the first stage of the selection
BATCH = 64  # products that one query is split into


def nearest_exactly(
    queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None, proved: bool = True
) -> Tensor:
    """The k nearest keys, int64 `(N, k)`, of queries `(N, d)` that were moved as the keys are.

    Where the processor multiplies bf16, rounded keys propose them. Rows whose proposals cannot be
    proved to hold the nearest are searched in float32, as all are elsewhere. `exclude`: int64
    `(N,)`, the key that a query must not get, −1 for none; or None. If they need not be `proved`,
    the k nearest of the rounded keys will do, where the first half of them are nearer than the
    last by more than rounding.
    """
    lifted = keys.raised and queries[:, -1].any()  # not as it was said of raised keys
    if lifted or not rough.pays(queries, keys.points, k, keys.held):
        return _brute_force(queries, keys, k, exclude)
    found = _among_rough(queries, keys, k, exclude, proved)
    return with_missing(found, queries, keys, exclude)


def with_missing(found: Tensor, queries: Tensor, keys: Prepared, exclude: Tensor | None) -> Tensor:
    """Neighbours int64 `(N, k)`, of which rows with a −1 are searched for in full precision."""
    few = (found < 0).any(1).nonzero().squeeze(1)
    if len(few):
        barred = None if exclude is None else exclude[few]
        found[few] = _brute_force(queries[few], keys, found.shape[1], barred)
    return found


def ranked(
    queries: Tensor, points: Tensor, proposals: Tensor, k: int, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The k nearest of the proposals, by true distances; ties go by index.

    Args:
        queries: `(c, d)`; points: keys `(M, d)`.
        proposals: int64 `(c, n)`, rows of points; −1 for none, some perhaps twice.
        exclude: int64 `(c,)`, the key that a query must not get, −1 for none; or None.

    Returns:
        Indices int64 and squared distances, both `(c, k)`, nearest first; −1 where there are fewer.
    """
    candidates = proposals.sort(1).values  # (c, n), by index
    there = F.embedding(candidates.clamp(min=0), points)  # (c, n, d)
    distances = there.sub_(queries[:, None]).square_().sum(2)  # (c, n)
    barred = candidates < 0
    barred[:, 1:] |= candidates[:, 1:] == candidates[:, :-1]  # proposed twice
    if exclude is not None:
        barred |= candidates == exclude[:, None]
    distances, order = distances.masked_fill(barred, torch.inf).sort(dim=1, stable=True)
    found = candidates.masked_fill(barred, -1).gather(1, order)
    return found[:, :k], distances[:, :k]


def ranked_in_chunks(
    queries: Tensor, points: Tensor, proposals: Tensor, k: int, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """As `ranked`, of any number of queries, while `RANKED_BYTES` of proposed keys exist."""
    step = max(1, RANKED_BYTES // (proposals.shape[1] * points[0].nbytes))
    barred = [None] * -(-len(queries) // step) if exclude is None else exclude.split(step)
    parts = zip(queries.split(step), proposals.split(step), barred, strict=True)
    found = [ranked(query, points, proposed, k, own) for query, proposed, own in parts]
    neighbours, distances = zip(*found, strict=True)
    return torch.cat(neighbours), torch.cat(distances)


def scores(queries: Tensor, keys: Prepared, buffer: Tensor | None = None) -> Tensor:
    """What ranks the keys for each of the queries `(c, d)`, `(M, c)`: smallest first.

    Of the two products, that of many rows with few columns is the faster. `buffer` has room for it.
    """
    points, norms = keys.points, keys.norms
    out = None
    if buffer is not None:
        out = buffer[: len(points) * len(queries)].view(len(points), len(queries))
    # ‖q − x‖² − ‖q‖² = ‖x‖² − 2 q·x, and ‖q‖² does not change the order within a column
    return torch.addmm(norms[:, None], points, queries.T, alpha=-2, out=out)


def smallest(scores: Tensor, k: int) -> Tensor:
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


def _brute_force(queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None) -> Tensor:
    """As `nearest_exactly`, in the precision of the keys."""
    points = keys.points
    rows = _chunk(len(queries), DISTANCE_BYTES // points[:, 0].nbytes)
    # for all chunks: memory that has been touched is faster than new
    buffer = points.new_empty(len(points) * rows)

    def find(chunk: Tensor, barred: Tensor | None) -> Tensor:
        compared = (
            _scores_of_one(chunk, keys) if len(chunk) == 1 else scores(chunk, keys, buffer)
        )  # (M, c)
        return smallest(_forbidden(compared, barred), k)

    return _in_chunks(find, queries, exclude, rows)


def _among_rough(
    queries: Tensor, keys: Prepared, k: int, exclude: Tensor | None, proved: bool
) -> Tensor:
    """As `nearest_exactly`, with −1 in rows that are not sure."""
    count, points, rounded = rough.proposed(k) if proved else k, keys.points, keys.rounded
    rows = _chunk(len(queries), DISTANCE_BYTES // (2 * len(points)))
    buffer = rounded.points.new_empty(len(points) * rows)

    def find(chunk: Tensor, barred: Tensor | None) -> Tensor:
        compared = _forbidden(rounded.scores(chunk, buffer), barred)  # (M, c)
        proposals = smallest(compared, count)  # (c, n)
        last = compared.gather(0, proposals[:, -1:].T)[0]  # (c,)
        if not proved:
            middle = compared.gather(0, proposals[:, (k - 1) // 2, None].T)[0]  # (c,)
            return proposals.where(rough.apart(middle, last)[:, None], -1)
        found, distances = ranked_in_chunks(chunk, points, proposals, k, barred)
        sure = distances[:, -1] < rounded.floor(chunk, last)
        return found.where(sure[:, None], -1)

    return _in_chunks(find, queries, exclude, rows)


def _in_chunks(
    find: Callable[[Tensor, Tensor | None], Tensor],
    queries: Tensor,
    exclude: Tensor | None,
    rows: int,
) -> Tensor:
    """What `find` finds for chunks of queries, and what each must not get."""
    barred = [None] * -(-len(queries) // rows) if exclude is None else exclude.split(rows)
    return torch.cat([find(*part) for part in zip(queries.split(rows), barred, strict=True)])


def _chunk(queries: int, fitting: int) -> int:
    """Queries at a time, if so many fit into memory.

    Chunks are of equal size: a product of few columns takes nearly as long as one of many.
    """
    return -(-queries // -(-queries // max(1, fitting)))


def _scores_of_one(query: Tensor, keys: Prepared) -> Tensor:
    """As `scores`, of one query `(1, d)`: in a batch of products it takes half the time."""
    points, norms = keys.points, keys.norms
    rows = len(points) // BATCH
    whole = points[: BATCH * rows].unflatten(0, (BATCH, rows))  # (BATCH, M / BATCH, d)
    column = query.T.expand(BATCH, -1, 1)
    products = torch.cat([torch.bmm(whole, column).flatten(), points[BATCH * rows :] @ query[0]])
    return (norms - 2 * products)[:, None]  # (M, 1)


def _forbidden(scores: Tensor, exclude: Tensor | None) -> Tensor:
    """`scores` `(M, c)` with the excluded key of every column out of reach, in place."""
    if exclude is not None:
        column = torch.nonzero(exclude >= 0).squeeze(1)
        scores[exclude[column], column] = torch.inf
    return scores

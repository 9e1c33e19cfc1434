"""Approximate nearest neighbours: candidates for the graph of more nodes than all pairs allow.

- HNSW (Malkov and Yashunin, TPAMI 2020) of faiss, where faiss is installed.
- NN-descent (Dong, Moses, Li, WWW 2011) of pynndescent, which comes with umap-learn: slower, and
  for a graph within a set alone. Its search for other queries takes longer than an exact one.

Both draw by a fixed seed. An index is made for one call and forgotten: the keys of a graph
that is being learned change.

How much an index finds depends on the keys more than on their number: HNSW nearly all of them where
they lie in clusters of few dimensions, hardly two thirds of 45,000 learned keys, which are white in
488 dimensions. So a sample of the queries is answered exactly as well, HNSW searches longer until
it finds enough of that, and an index that does not is not used.

NOTE: HNSW is built on one thread, for several leave another index each time; it is searched on all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

SEED = 0
SAMPLE, RECALL = 500, 0.95  # queries that are answered exactly too, and what must be found of that
LINKS, BUILDING = 16, 40  # of HNSW: M, efConstruction
SEARCHING = (64, 128, 256, 512)  # efSearch: the first that finds enough
ROWS = 65_536  # queries at a time

Enough = Callable[[np.ndarray], bool]  # of what was found for the sample, `(s, count)`


def sample(queries: int) -> Tensor:
    """Rows of the queries that are answered exactly too, int64 `(s,)`."""
    return torch.randperm(queries, generator=torch.Generator().manual_seed(SEED))[:SAMPLE]


def proposals(
    queries: Tensor, points: Tensor, count: int, rows: Tensor, exact: Tensor
) -> Tensor | None:
    """Return keys that are probably among the nearest, in no order; None: too few of them are.

    Args:
        queries: `(N, d)` floats on the CPU, finite.
        points: keys `(M, d)`, likewise; those very queries, for a graph within a set.
        count: how many to return, from 1 to M; a query's own point counts.
        rows: int64 `(s,)`, the queries whose nearest keys `exact`, int64 `(s, k)`, are known.

    Returns:
        int64 `(N, count)`, indices of points; −1 where none was found.
    """
    asked, keys = (tensor.detach().float().contiguous().numpy() for tensor in (queries, points))

    def enough(found: np.ndarray) -> bool:
        hits = torch.from_numpy(found)[:, :, None] == exact.cpu()[:, None]  # (s, count, k)
        return hits.any(1).double().mean().item() >= RECALL

    found = INDICES[method()](asked, keys, count, rows.numpy(), enough)
    return None if found is None else torch.from_numpy(found.astype(np.int64, copy=False))


def method() -> str:
    """Which of `INDICES` proposes: HNSW where faiss is installed, for it is faster."""
    return "hnsw" if find_spec("faiss") else "nn-descent"


def _hnsw(
    queries: np.ndarray, points: np.ndarray, count: int, rows: np.ndarray, enough: Enough
) -> np.ndarray | None:
    import faiss

    index = faiss.IndexHNSWFlat(points.shape[1], LINKS)
    index.hnsw.efConstruction = BUILDING
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        index.add(points)
    finally:
        faiss.omp_set_num_threads(threads)
    for effort in SEARCHING:
        index.hnsw.efSearch = max(effort, 2 * count)
        if enough(index.search(queries[rows], count)[1]):
            break
    else:
        return None
    chunks = (queries[start : start + ROWS] for start in range(0, len(queries), ROWS))
    return np.concatenate([index.search(chunk, count)[1] for chunk in chunks])


def _descent(
    queries: np.ndarray, points: np.ndarray, count: int, rows: np.ndarray, enough: Enough
) -> np.ndarray | None:
    if not np.shares_memory(queries, points):
        return None
    from pynndescent import NNDescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nodes with too few neighbours: they are −1
        found = NNDescent(points, n_neighbors=count, random_state=SEED).neighbor_graph[0]
    return found if enough(found[rows]) else None


INDICES = {"hnsw": _hnsw, "nn-descent": _descent}

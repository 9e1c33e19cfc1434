"""Approximate nearest neighbours: candidates for the graph of more nodes than all pairs allow.

- HNSW (Malkov and Yashunin, TPAMI 2020) of faiss, where faiss is installed.
- NN-descent (Dong, Moses, Li, WWW 2011) of pynndescent, which comes with umap-learn: slower.

Both draw by a fixed seed. An index is made for one call and forgotten: the keys of a graph
that is being learned change.

NOTE: HNSW is built on one thread, for several leave another index each time; it is searched on all.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

SEED = 0
LINKS, BUILDING, SEARCHING = 16, 40, 64  # of HNSW: M, efConstruction, efSearch at least
DESCENT = 30  # neighbours of a node in the graph that NN-descent searches, its own default
ROWS = 65_536  # queries at a time


def proposals(queries: Tensor, points: Tensor, count: int) -> Tensor:
    """Return keys that are probably among the nearest, in no order.

    Args:
        queries: `(N, d)` floats on the CPU, finite.
        points: keys `(M, d)`, likewise; those very queries, for a graph within a set.
        count: how many to return, from 1 to M; a query's own point counts.

    Returns:
        int64 `(N, count)`, indices of points; −1 where none was found.
    """
    asked, keys = (tensor.detach().float().contiguous().numpy() for tensor in (queries, points))
    found = INDICES[method()](asked, keys, count)
    return torch.from_numpy(found.astype(np.int64, copy=False))


def method() -> str:
    """Which of `INDICES` proposes: HNSW where faiss is installed, for it is faster."""
    return "hnsw" if find_spec("faiss") else "nn-descent"


def _hnsw(queries: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    import faiss

    index = faiss.IndexHNSWFlat(points.shape[1], LINKS)
    index.hnsw.efConstruction = BUILDING
    index.hnsw.efSearch = max(SEARCHING, 2 * count)
    threads = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(1)
        index.add(points)
    finally:
        faiss.omp_set_num_threads(threads)
    chunks = (queries[start : start + ROWS] for start in range(0, len(queries), ROWS))
    return np.concatenate([index.search(chunk, count)[1] for chunk in chunks])


def _descent(queries: np.ndarray, points: np.ndarray, count: int) -> np.ndarray:
    from pynndescent import NNDescent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nodes with too few neighbours: they are −1
        if np.shares_memory(queries, points):  # a graph within a set is what it makes anyway
            return NNDescent(points, n_neighbors=count, random_state=SEED).neighbor_graph[0]
        width = min(DESCENT, len(points))
        index = NNDescent(points, n_neighbors=width, random_state=SEED)
        return index.query(queries, k=count)[0]


INDICES = {"hnsw": _hnsw, "nn-descent": _descent}

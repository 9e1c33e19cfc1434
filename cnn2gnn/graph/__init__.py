"""The learned graph: its neighbours, its weights, and what can be read from it."""

from __future__ import annotations

from cnn2gnn.graph.learners import (
    AdaptiveNeighbours,
    FixedNeighbours,
    GraphLearner,
    NoGraph,
    RandomNeighbours,
    SoftmaxNeighbours,
    adaptive_weights,
)
from cnn2gnn.graph.metrics import degree, effective_neighbours, homophily, purity
from cnn2gnn.graph.search import nearest
from cnn2gnn.graph.sparse import SparseGraph

__all__ = [
    "AdaptiveNeighbours",
    "FixedNeighbours",
    "GraphLearner",
    "NoGraph",
    "RandomNeighbours",
    "SoftmaxNeighbours",
    "SparseGraph",
    "adaptive_weights",
    "degree",
    "effective_neighbours",
    "homophily",
    "nearest",
    "purity",
]

"""The learned graph: its neighbours, its weights, and what can be read from it."""

from __future__ import annotations

from cnn2gnn.graph.adaptive_k import LearnedK
from cnn2gnn.graph.anchors import AnchorNeighbours
from cnn2gnn.graph.attention import Attention
from cnn2gnn.graph.cosine import CosineNeighbours
from cnn2gnn.graph.gcn import GCN
from cnn2gnn.graph.heads import Heads
from cnn2gnn.graph.layers import GraphLayer, Mean
from cnn2gnn.graph.learners import (
    AdaptiveNeighbours,
    FixedFeatures,
    FixedNeighbours,
    GraphLearner,
    NoGraph,
    RandomNeighbours,
    WhitenedNeighbours,
    adaptive_weights,
)
from cnn2gnn.graph.metrics import degree, effective_neighbours, homophily, purity, shares
from cnn2gnn.graph.scored import (
    EntmaxNeighbours,
    GumbelNeighbours,
    SoftmaxNeighbours,
    SparsemaxNeighbours,
)
from cnn2gnn.graph.search import nearest
from cnn2gnn.graph.sparse import SparseGraph

__all__ = [
    "GCN",
    "AdaptiveNeighbours",
    "AnchorNeighbours",
    "Attention",
    "CosineNeighbours",
    "EntmaxNeighbours",
    "FixedFeatures",
    "FixedNeighbours",
    "GraphLayer",
    "GraphLearner",
    "GumbelNeighbours",
    "Heads",
    "LearnedK",
    "Mean",
    "NoGraph",
    "RandomNeighbours",
    "SoftmaxNeighbours",
    "SparseGraph",
    "SparsemaxNeighbours",
    "WhitenedNeighbours",
    "adaptive_weights",
    "degree",
    "effective_neighbours",
    "homophily",
    "nearest",
    "purity",
    "shares",
]

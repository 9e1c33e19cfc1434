"""Weights normalised by degrees, as in GCN (Kipf and Welling, ICLR 2017).

    w_ij = s_ij / √(d_i d_j),  d_j = 1 + Σ_l s_lj

What many nodes look at (a hub) tells each of them less. Degrees are those of the undirected graph
S + Sᵀ: a node looks at others with a weight of 1 in all, and is looked at. Who looks counts as in
the graph of the training images; a query comes later, nobody looks at it, d_i = 1: its prediction
hangs on no other query.

NOTE: GCN adds self loops. Here W x_i is the node's own term, and weighs 1. Rows sum to 1 at most.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from cnn2gnn.graph.layers import GraphLayer
from cnn2gnn.graph.sparse import SparseGraph


class GCN(GraphLayer):
    """Weights divided by the roots of degrees; degrees are counted, and have no gradient."""

    counts = True

    def forward(
        self, graph: SparseGraph, queries: Tensor, keys: Tensor, looked_at: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLayer.forward`; the gradient flows into the learner's weights.

        Raises:
            ValueError: nobody has counted who looks at the keys.
        """
        if looked_at is None:
            raise ValueError("layer='gcn' needs to know how much each node is looked at: looked_at")
        degrees = 1 + looked_at.to(graph.weights.dtype)  # d_j, (M,)
        # w_ij = s_ij / √(d_i d_j), d_i = 1
        return replace(graph, weights=graph.weights * degrees.rsqrt()[graph.neighbours])

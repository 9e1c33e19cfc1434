"""How a layer weighs what neighbours tell: the learned graph in, the same graph reweighed out.

A layer changes weights only. Who is a neighbour stays the learner's, and whatever reads the graph
afterwards (aggregation, explorer, reports) sees the weights that were used.
"""

from __future__ import annotations

from torch import Tensor, nn

from cnn2gnn.graph.sparse import SparseGraph


class GraphLayer(nn.Module):
    """What all layers share: `layer(graph, queries, keys, looked_at) -> SparseGraph`.

    Args:
        width: dimensions of a key, those of all heads together.
        heads: of the learner.

    Attributes:
        counts: whether it needs `looked_at`.
    """

    counts = False

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()

    def forward(
        self, graph: SparseGraph, queries: Tensor, keys: Tensor, looked_at: Tensor | None = None
    ) -> SparseGraph:
        """Weigh the edges of a graph anew; where a weight is 0 there is no edge, and none comes.

        A node may have no edge at all.

        Args:
            graph: N queries against M keys, as the learner found it.
            queries: u_i, `(N, width)`; keys: u_j, `(M, width)`.
            looked_at: Σ_i s_ij over the nodes that the keys are part of, `(M,)`; only for a layer
                that `counts`.
        """
        raise NotImplementedError


class Mean(GraphLayer):
    """The weights of the learner as they are: Σ_j s_ij m_ij is a weighted mean."""

    def forward(
        self, graph: SparseGraph, queries: Tensor, keys: Tensor, looked_at: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLayer.forward`."""
        return graph

"""Adaptive neighbours whose number is learned, another one for each node."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.graph.learners import AdaptiveNeighbours, adaptive_weights
from cnn2gnn.graph.search import count_candidates
from cnn2gnn.graph.sparse import SparseGraph

OPEN = 3.0  # the gate's logit at the start: 95 % of the way to the k+1-th distance


class LearnedK(AdaptiveNeighbours):
    """Adaptive neighbours within a boundary that a gate draws in.

        b_i = d_i,(1) + g_i·(d_i,(k+1) − d_i,(1)),  g_i = sigmoid(a·p_i + c)
        s_ij = (b_i − d_ij)₊ / Σ_l (b_i − d_il)₊

    p_i is the profile of the distances, (d_i,(l) − d_i,(1)) / (d_i,(k+1) − d_i,(1)) for l = 2 … k.
    Where the gate is open, g_i = 1, these are the adaptive neighbours; the less it is, the fewer.
    """

    any_k = False  # the gate was trained for k distances

    def __init__(self, k: int) -> None:
        super().__init__(k)
        self.gate = nn.Linear(max(1, self.k - 1), 1)  # a and c
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, OPEN)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; the gradient also flows into the gate."""
        candidates = count_candidates(queries, keys, exclude)
        self.require(candidates)
        neighbours, distances = chosen_distances(queries, keys, self.k + 1, exclude)  # (N, k+1)
        with torch.autocast(queries.device.type, enabled=False):
            weights = self.weigh(distances)  # (N, k)
        sources = None if keys is None else len(keys)
        return SparseGraph(neighbours[:, :-1], weights, distances[:, :-1], sources)

    def weigh(self, distances: Tensor) -> Tensor:
        """Ascending distances `(N, k+1)` to row-stochastic weights `(N, k)`."""
        first, last = distances[:, :1], distances[:, -1:]  # (N, 1)
        width = last - first
        tied = width <= torch.finfo(distances.dtype).eps * last  # (N, 1)
        profile = (distances - first) / width.masked_fill(tied, 1)  # (N, k+1), from 0 to 1
        told = profile[:, 1:-1] if self.k > 1 else profile[:, :1]  # (N, k−1)
        gate = torch.sigmoid(self.gate(told.to(self.gate.weight.dtype))).to(distances.dtype)
        boundary = first + gate * width  # b_i, (N, 1)
        # beyond the boundary there is no distance left: their margin, and weight, is 0
        within = torch.minimum(distances[:, :-1], boundary)  # (N, k)
        return adaptive_weights(torch.cat([within, boundary], 1))

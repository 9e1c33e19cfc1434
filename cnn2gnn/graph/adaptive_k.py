"""Adaptive neighbours whose number is learned, another one for each node."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.graph.learners import AdaptiveNeighbours
from cnn2gnn.graph.search import count_candidates
from cnn2gnn.graph.sparse import SparseGraph

OPEN = 3.0  # the gate's logit at the start: 95 % of the way to the k+1-th distance


class LearnedK(AdaptiveNeighbours):
    """Adaptive neighbours within a boundary that a gate draws in.

        b_i = d_i,(1) + g_i·(d_i,(k+1) − d_i,(1)),  g_i = sigmoid(a·p_i + c)
        s_ij = (b_i − d_ij)₊ / Σ_l (b_i − d_il)₊ = (g_i − p_ij)₊ / Σ_l (g_i − p_il)₊

    p_i is the profile of the distances, p_ij = (d_ij − d_i,(1)) / (d_i,(k+1) − d_i,(1)); the gate
    is told those of l = 2 … k. Where it is open, g_i = 1, these are the adaptive neighbours; the
    less it is, the fewer, down to one.
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
        limits = torch.finfo(distances.dtype)
        # the gradient divides by the width, which must not vanish
        tied = width <= (limits.eps * last).clamp(min=limits.tiny**0.5)  # (N, 1)
        profile = (distances[:, :-1] - first) / width.masked_fill(tied, 1)  # p_ij, (N, k)
        told = profile[:, 1:] if self.k > 1 else profile  # (N, k−1)
        gate = torch.sigmoid(self.gate(told.to(self.gate.weight.dtype))).to(distances.dtype)
        # in units of the width: differences of nearly equal distances would lose a narrow gate
        margins = (gate.clamp(min=limits.eps) - profile).clamp(min=0)  # (N, k), the first > 0
        # s_ij = (g_i − p_ij)₊ / Σ_l (g_i − p_il)₊
        return (margins / margins.sum(1, keepdim=True)).masked_fill(tied, 1 / self.k)

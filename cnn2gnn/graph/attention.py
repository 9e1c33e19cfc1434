"""Attention on the learned support: GATv2 (Brody, Alon, Yahav, ICLR 2022).

    e_ij = aᵀ LeakyReLU(W_q u_i + W_k u_j + b),  w_ij = s_ij exp(e_ij) / Σ_l s_il exp(e_il)

over the neighbours j, l that the learner chose. Of H heads, w is the mean.

NOTE: GATv2 also sends W_k u_j as the message; here the network's own messages are weighed. Nor does
it know s_ij, the learner's weights; without them attention would have to find out what distance
knows. Here a = 0 as training begins, so that w = s, and it learns where to depart from that.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.graph.layers import GraphLayer
from cnn2gnn.graph.sparse import SparseGraph

CHANNELS = 32  # of a head
SLOPE = 0.2  # of LeakyReLU, as in GATv2


class Attention(GraphLayer):
    """Weights by attention between keys, one row of them for each head, and their mean."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__(width, heads)
        self.query = nn.Linear(width, heads * CHANNELS)  # W_q and b
        self.key = nn.Linear(width, heads * CHANNELS, bias=False)  # W_k
        self.score = nn.Parameter(torch.zeros(heads, CHANNELS))  # a

    def forward(
        self, graph: SparseGraph, queries: Tensor, keys: Tensor, looked_at: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLayer.forward`; the gradient flows into queries, keys and weights."""
        with torch.autocast(queries.device.type, enabled=False):
            queries, keys = (nodes.to(self.score.dtype) for nodes in (queries, keys))
            # embedding, not keys[neighbours]: its gradient sums in the same order on any run
            there = self.key(F.embedding(graph.neighbours, keys))  # (N, k, H·c)
            sums = self.query(queries)[:, None] + there  # (N, k, H·c)
            hidden = F.leaky_relu(sums, SLOPE).unflatten(2, self.score.shape)  # (N, k, H, c)
            scores = (hidden * self.score).sum(3)  # e_ij, (N, k, H)
            # not −inf: of a row without edges, the softmax would be NaN
            lowest = torch.finfo(scores.dtype).min
            scores = scores.masked_fill(graph.weights[:, :, None] <= 0, lowest)
            # exp(e) up to a factor that cancels, and finite for any e
            weights = graph.weights[:, :, None] * scores.softmax(1)  # (N, k, H)
            total = weights.sum(1, keepdim=True)  # (N, 1, H)
            weights = (weights / total.where(total > 0, 1)).mean(2)  # (N, k)
        return replace(graph, weights=weights)

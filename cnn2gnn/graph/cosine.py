"""Weighted cosine similarity, the graph of IDGL (Chen, Wu, Zaki, NeurIPS 2020).

    s_ij ∝ (cos(u_i, u_j))₊          over the k nodes j most similar to i,  u = P x

Several heads are IDGL's several weight vectors: S is the mean over them (`heads.Heads`).

NOTE: IDGL weighs the features of a head by a vector w and keeps what is above a threshold ε. Here
a whole matrix P takes the vector's place, as for every learner, and k is chosen, as for every one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.graph.learners import GraphLearner, Search
from cnn2gnn.graph.search import count_candidates
from cnn2gnn.graph.search_keys import checked_norms, derived_from
from cnn2gnn.graph.sparse import SparseGraph


class CosineNeighbours(GraphLearner):
    """The k most similar nodes, weighted by what is positive of their cosine."""

    @property
    def reach(self) -> int:
        """k."""
        return self.k

    def candidates(
        self,
        queries: Tensor,
        keys: Tensor,
        exclude: Tensor | None,
        search: Search | None = None,
    ) -> Tensor | None:
        """As `GraphLearner.candidates`."""
        places = _directions("queries", queries), _of_keys(keys)
        return super().candidates(*places, exclude, search)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; a node without any similar one looks at all k alike."""
        count_candidates(queries, keys, exclude)
        places = None if keys is None else _of_keys(keys)
        # ‖û_i − û_j‖² = 2 − 2 cos: on the sphere, the nearest are the most similar
        u = _directions("queries", queries)
        neighbours, distances = chosen_distances(u, places, self.k, exclude)
        similar = (1 - distances / 2).clamp(min=0)  # (cos)₊, (N, k)
        total = similar.sum(1, keepdim=True)  # (N, 1)
        weights = (similar / total.where(total > 0, 1)).where(total > 0, 1 / self.k)
        return SparseGraph(neighbours, weights, distances, None if keys is None else len(keys))


def _directions(name: str, nodes: Tensor) -> Tensor:
    """û of nodes `(N, d)`, on the unit sphere.

    Raises:
        ValueError: values that are not finite, or too large to square: they would become zeros.
    """
    nodes = nodes.to(torch.promote_types(nodes.dtype, torch.float32))
    checked_norms(name, nodes.detach())
    return F.normalize(nodes)


def _of_keys(keys: Tensor) -> Tensor:
    return derived_from(keys, "directions", lambda whole: [_directions("keys", whole)])[0]

"""Several learners side by side, each on its own part of the keys: S = (1/H) Σ_h S_h."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnn2gnn.base.values import whole_number
from cnn2gnn.graph.distances import distances_to
from cnn2gnn.graph.learners import GraphLearner, Search
from cnn2gnn.graph.search import count_candidates
from cnn2gnn.graph.search_keys import derived_from
from cnn2gnn.graph.sparse import SparseGraph


class Heads(GraphLearner):
    """H copies of a learner; what they find is one graph of up to H·k neighbours a node.

    s_ij = (1/H) Σ_h s_ij^(h),  d_ij = (1/H) Σ_h ‖u_i^(h) − u_j^(h)‖²

    u^(h) is the h-th of H equal parts of a key. The mean of graphs on projections of one's own is
    that of multi-head attention (Vaswani et al., NeurIPS 2017).

    Args:
        learner: what each head starts as a copy of.
        heads: H, at least 1; keys have a multiple of H dimensions.

    Raises:
        ValueError: H is no such number, or the learner does not choose by distances between learned
            keys.
    """

    def __init__(self, learner: GraphLearner, heads: int) -> None:
        super().__init__(learner.k)
        self.heads = whole_number("heads", heads, 1)
        if learner.reach is None or learner.space != "features":
            raise ValueError(f"heads={heads} needs a graph that goes by distances between keys")
        self.each = nn.ModuleList(copy.deepcopy(learner) for _ in range(self.heads))
        self.learns_keys, self.whitens = learner.learns_keys, learner.whitens
        self.any_k, self.scalable = learner.any_k, learner.scalable
        self.finds_late = learner.finds_late

    @property
    def reach(self) -> int:
        """That of one head, all of which `candidates` gathers."""
        reach = self._learners[0].reach
        assert reach is not None  # checked at the start
        return reach

    def candidates(
        self,
        queries: Tensor,
        keys: Tensor,
        exclude: Tensor | None,
        search: Search | None = None,
    ) -> Tensor:
        """As `GraphLearner.candidates`: those of each head."""
        parts = zip(self._learners, queries.chunk(self.heads, 1), self._parts(keys), strict=True)
        found = [learner.candidates(q, u, exclude, search) for learner, q, u in parts]
        return torch.cat([each for each in found if each is not None], 1)  # (N, H·reach)

    def build(self, width: int) -> None:
        """As `GraphLearner.build`: each head has its part of the width."""
        for learner in self._learners:
            learner.build(width // self.heads)

    def start(self, keys: Tensor) -> None:
        """As `GraphLearner.start`."""
        for learner, part in zip(self._learners, self._parts(keys), strict=True):
            learner.start(part)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`. Where heads agree on a neighbour, it has one edge.

        Raises:
            ValueError: likewise, or the heads cannot share the width equally.
        """
        count_candidates(queries, keys, exclude)
        if queries.shape[1] % self.heads:
            raise ValueError(
                f"heads={self.heads} must divide the width of queries, {queries.shape[1]}"
            )
        theirs = [None] * self.heads if keys is None else self._parts(keys)
        parts = zip(self._learners, queries.chunk(self.heads, 1), theirs, strict=True)
        graphs = [learner(q, u, exclude) for learner, q, u in parts]
        neighbours = torch.cat([graph.neighbours for graph in graphs], 1)  # (N, H·k)
        weights = torch.cat([graph.weights for graph in graphs], 1) / self.heads
        neighbours, weights = merged(neighbours, weights)
        # d_ij = (1/H) Σ_h ‖u_i^(h) − u_j^(h)‖²
        distances = distances_to(neighbours, queries, queries if keys is None else keys)
        sources = None if keys is None else len(keys)
        found = SparseGraph(neighbours, weights, distances / self.heads, sources)  # (N, H·k)
        return found.by_distance()

    @property
    def _learners(self) -> list[GraphLearner]:
        return [each for each in self.each if isinstance(each, GraphLearner)]

    def _parts(self, keys: Tensor) -> Sequence[Tensor]:
        return derived_from(
            keys, self.heads, lambda whole: [p.contiguous() for p in whole.chunk(self.heads, 1)]
        )


def merged(neighbours: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the weights `(N, n)` of edges to the same neighbour `(N, n)`.

    Returns:
        Both `(N, n)`; the first of equal neighbours has the sum, the others 0: they are no edges.
    """
    neighbours, order = neighbours.sort(dim=1, stable=True)
    weights = weights.gather(1, order)
    new = torch.ones_like(neighbours, dtype=torch.bool)
    new[:, 1:] = neighbours[:, 1:] != neighbours[:, :-1]
    first = (new * torch.arange(neighbours.shape[1], device=new.device)).cummax(1).values
    return neighbours, torch.zeros_like(weights).scatter_add(1, first, weights)

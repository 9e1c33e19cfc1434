"""Neighbours through anchors, the scalable graph of IDGL (Chen, Wu, Zaki, NeurIPS 2020).

A node reaches others in the two steps of a random walk, to an anchor and from there to a node:

    s_ij ∝ Σ_a p_ia q_aj      p_i: adaptive weights of the anchors nearest to node i
                              q_a: adaptive weights of the k nodes nearest to anchor a

of which the k heaviest remain. IDGL learns the affinities of nodes and anchors, and not those of
all pairs of nodes; messages go to the anchors and back.

NOTE: IDGL draws its anchors among the nodes, weighs by a thresholded cosine, and takes the same
affinities for both steps. Here anchors are points, learned with the keys that they start as: the
graph of a query does not hang on who was drawn, nor on nodes that are far from its anchors. Weights
are the closed form of the other learners, and each step has its own, so that rows stay sparse.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.graph.distances import chosen_distances, distances_to
from cnn2gnn.graph.heads import merged
from cnn2gnn.graph.learners import AdaptiveNeighbours, Search, adaptive_weights
from cnn2gnn.graph.search import count_candidates, nearest
from cnn2gnn.graph.sparse import SparseGraph

ANCHORS = 256  # points in all; a bank has at most ANCHORS·k nodes that anybody looks at
NEAR = 4  # anchors that a node looks at


class AnchorNeighbours(AdaptiveNeighbours):
    """The k nodes that a node reaches with most weight through its nearest anchors.

    Memory is O((N + ANCHORS)·k·d). Of the nodes, those near the queries' anchors are searched, at
    most ANCHORS times, however many the queries are.
    """

    scalable = False  # anchors lie among keys, and have no distance that could be scaled
    finds_late = False  # nodes that lie near no anchor are nobody's neighbours
    points: nn.Parameter  # z_a, (ANCHORS, width), as soon as it is built

    def build(self, width: int) -> None:
        """As `GraphLearner.build`: anchors have the width of keys."""
        self.points = nn.Parameter(torch.zeros(ANCHORS, width))

    @property
    def _anchors(self) -> nn.Parameter:
        """The points.

        Raises:
            ValueError: it is not built.
        """
        if not hasattr(self, "points"):
            raise ValueError(
                "AnchorNeighbours has no anchors yet: call build(width) with the width of the "
                "keys, then start(keys) or load_state_dict"
            )
        return self.points

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """As torch's; where it is not built, the anchors that are loaded tell the width."""
        points = state.get(f"{prefix}points")
        if points is not None and not hasattr(self, "points"):
            self.build(points.shape[-1])
        super()._load_from_state_dict(state, prefix, *others)

    @torch.no_grad()
    def start(self, keys: Tensor) -> None:
        """As `GraphLearner.start`: anchors begin as keys `(M, d)` of random nodes.

        Where there are fewer nodes than anchors, some begin twice, and are shaken apart.
        """
        generator = torch.Generator().manual_seed(0)
        rows = torch.randperm(len(keys), generator=generator).repeat(-(-ANCHORS // len(keys)))
        noise = torch.randn(ANCHORS, keys.shape[1], generator=generator)
        noise[: len(keys)] = 0
        spread = keys.std(0, correction=0)  # (d,)
        self._anchors.copy_(keys[rows[:ANCHORS]] + noise.to(keys) * spread)

    @property
    def reach(self) -> int:
        """k + 2 of the nodes nearest to each anchor: the next sets the scale; one is left out."""
        return self.k + 2

    def candidates(
        self,
        queries: Tensor,
        keys: Tensor,
        exclude: Tensor | None,
        search: Search | None = None,
    ) -> Tensor | None:
        """As `GraphLearner.candidates`, `(N, NEAR·reach)`; raises as `forward`."""
        anchors = self._anchors
        used, place = nearest(queries, anchors, NEAR).unique(return_inverse=True)
        found = super().candidates(anchors[used], keys, None, search)  # (a, reach)
        return None if found is None else found[place].flatten(1)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; the gradient also flows into the anchors.

        Raises:
            ValueError: likewise, or it is not built.
        """
        anchors = self._anchors
        self.require(count_candidates(queries, keys, exclude))
        sources = None if keys is None else len(keys)
        if keys is None:
            keys, exclude = queries, torch.arange(len(queries), device=queries.device)
        near, distances = chosen_distances(queries, anchors, NEAR + 1)
        to_anchors = adaptive_weights(distances)  # p, (N, A)
        nodes, from_anchors = self._nodes(near[:, :-1], keys, exclude)  # q, (N, A, k)
        # Σ_a p_ia q_aj
        reached = (to_anchors[:, :, None] * from_anchors).flatten(1)  # (N, A·k)
        nodes, reached = merged(nodes.flatten(1), reached)
        weights, best = reached.topk(self.k, dim=1)  # (N, k)
        nodes, weights = nodes.gather(1, best), weights / weights.sum(1, keepdim=True)
        distances = distances_to(nodes, queries, keys)  # (N, k)
        return SparseGraph(nodes, weights, distances, sources).by_distance()

    def _nodes(self, near: Tensor, keys: Tensor, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
        """The k nodes nearest to each of the anchors `near` `(N, A)`, and their weights q.

        Returns:
            int64 `(N, A, k)` and `(N, A, k)`, both without the node that a query may not get.
        """
        if torch.compiler.is_exporting():  # a program cannot tell how many will be used
            used, place = torch.arange(ANCHORS, device=near.device), near
        else:
            used, place = near.unique(return_inverse=True)  # (a,), (N, A)
        count = min(self.reach, len(keys))
        nodes, distances = chosen_distances(F.embedding(used, self.points), keys, count)  # (a, r)
        nodes, distances = nodes[place], F.embedding(place, distances)  # (N, A, r)
        if exclude is not None:
            itself = nodes == exclude[:, None, None]
            others = itself.to(torch.int8).argsort(dim=2, stable=True)  # it goes last
            nodes, distances = nodes.gather(2, others), distances.gather(2, others)
        weights = adaptive_weights(distances[..., : self.k + 1].flatten(0, 1))  # (N·A, k)
        return nodes[..., : self.k], weights.unflatten(0, near.shape)

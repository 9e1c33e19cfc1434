"""Graph learners: node features in, sparse row-stochastic graph out.

The adaptive neighbours are those of Nie, Wang, Jordan, Huang: The Constrained Laplacian Rank
Algorithm (AAAI 2016), after Nie, Wang, Huang: Clustering and Projected Clustering with Adaptive
Neighbors (KDD 2014); CNN2GNN (arXiv 2404.14822) learns its graph so.

NOTE: The originals minimise over all nodes at once and alternate. Here the closed form is a layer:
the gradient flows through the k + 1 chosen distances, and the choice itself has none. That is the
gradient of the dense formula, for the others enter with zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from cnn2gnn.base.values import whole_number
from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.graph.search import count_candidates, nearest
from cnn2gnn.graph.sparse import SparseGraph

# of queries `(N, d)`, keys, k and exclude, as `nearest` takes them: at most k keys a query
Search: TypeAlias = Callable[[Tensor, Tensor, int, Tensor | None], Tensor]


class GraphLearner(nn.Module):
    """What all learners share: `learner(queries, keys, exclude) -> SparseGraph`.

    Args:
        k: neighbours of a node, a whole number of at least 1.

    Raises:
        ConfigError: k is another one.

    Attributes:
        space: what the queries and keys are, `features` of the stem or raw `pixels`.
        learns_keys: whether the network that it is part of learns its keys.
        whitens: whether keys start from whitened features, or from features as they are.
        heads: equal parts of the keys, each of which has neighbours of its own; see `heads.Heads`.
        any_k: whether another k than that of the training may be set afterwards.
        scalable: whether it goes by squared Euclidean distances, which `local_scaling` may change.
        finds_late: whether nodes unlike all of its training can become neighbours.
    """

    space = "features"
    learns_keys = True
    whitens = True
    heads = 1
    any_k = True
    scalable = False
    finds_late = True

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = whole_number("k", k, 1)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """Connect every query to k nodes.

        Args:
            queries: `(N, d)`, the nodes that look for neighbours.
            keys: `(M, d)`, the nodes they may find; None: the queries themselves, without self.
            exclude: int64 `(N,)`, the key that a query must not get, -1 for none.

        Raises:
            ValueError: shapes do not fit, too few candidates, or values that are not finite.
        """
        raise NotImplementedError

    @property
    def reach(self) -> int | None:
        """How many of the nearest keys decide on a node's neighbours; None: not distance does."""
        return None

    def candidates(
        self,
        queries: Tensor,
        keys: Tensor,
        exclude: Tensor | None,
        search: Search | None = None,
    ) -> Tensor | None:
        """Return the only keys that can be neighbours, whatever others join, int64 `(N, reach)`.

        None if distance does not decide. Arguments as of `forward`; `search` finds them, None:
        `nearest`. Another one is needed where the keys are only this process's part of all.
        """
        if self.reach is None:
            return None
        if search is not None:
            return search(queries, keys, self.reach, exclude)
        count = min(self.reach, count_candidates(queries, keys, exclude))
        return nearest(queries, keys, count, exclude)

    def build(self, width: int) -> None:
        """Make what depends on the width of the keys; called by the network it becomes part of."""

    def start(self, keys: Tensor) -> None:
        """Begin with the keys `(M, width)` of the training images; called before it is trained."""

    def extra_repr(self) -> str:
        """What `print(learner)` shows."""
        return f"k={self.k}"


class AdaptiveNeighbours(GraphLearner):
    """Adaptive neighbours: weights that fall linearly with distance, zero at the k+1-th.

    Every node solves s_i = argmin_{s >= 0, 1ᵀs = 1} Σ_j (d_ij s_ij + γ_i s_ij²), with γ_i such that
    exactly k weights are positive. d_ij is the squared Euclidean distance.

    Memory is O(N·(k + d)), see `distances`. Weights are float32 under autocast, and float64 for
    float64 inputs. Needs k + 1 candidates a node: N >= k + 2 within a set.
    """

    scalable = True

    @property
    def reach(self) -> int:
        """k + 1: the next one sets the scale."""
        return self.k + 1

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; the gradient flows into queries and keys."""
        self.require(count_candidates(queries, keys, exclude))
        neighbours, distances = chosen_distances(queries, keys, self.k + 1, exclude)  # (N, k+1)
        return SparseGraph(
            neighbours=neighbours[:, :-1],
            weights=adaptive_weights(distances),  # (N, k)
            distances=distances[:, :-1],
            sources=None if keys is None else len(keys),
        )

    def require(self, candidates: int) -> None:
        """Check that a node has enough candidates.

        Raises:
            ValueError: it has fewer than k + 1.
        """
        if candidates <= self.k:
            raise ValueError(
                f"k={self.k} neighbours need at least {self.k + 1} candidates "
                f"(the next one sets the scale), but a node has {candidates}"
            )


class WhitenedNeighbours(AdaptiveNeighbours):
    """Baseline: adaptive neighbours on keys that stay as they start, whitened features."""

    learns_keys = False


class FixedFeatures(WhitenedNeighbours):
    """Baseline: adaptive neighbours of the features as they are, in their main directions."""

    whitens = False


class FixedNeighbours(AdaptiveNeighbours):
    """Baseline: adaptive neighbours of the raw pixels `(N, C·H·W)`; nothing to be learned."""

    space = "pixels"


class RandomNeighbours(GraphLearner):
    """Baseline: k distinct random nodes of equal weight.

    The draw depends on the seed, the row and the numbers of nodes alone: the same on any device.

    Args:
        k: neighbours of a node, at least 1.
        seed: of the draw.
    """

    def __init__(self, k: int, seed: int = 0) -> None:
        super().__init__(k)
        self.seed = seed

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; only the number of nodes matters."""
        candidates = count_candidates(queries, keys, exclude)
        if candidates < self.k:
            raise ValueError(f"k={self.k} must be at most {candidates}, the candidates of a node")
        n, m = len(queries), len(queries if keys is None else keys)
        if keys is None:
            exclude = torch.arange(n)
        hole = torch.full((n,), m) if exclude is None else exclude.cpu()  # (N,)
        hole = hole.where(hole >= 0, m)
        drawn = self._distinct(m - (hole < m).long())  # (N, k)
        neighbours = (drawn + (drawn >= hole.unsqueeze(1))).to(queries.device)  # step over it
        weights = torch.full(neighbours.shape, 1 / self.k, device=queries.device)
        return SparseGraph(neighbours, weights, sources=None if keys is None else m)

    def _distinct(self, candidates: Tensor) -> Tensor:
        """Draw k distinct numbers below `candidates` `(N,)`: Floyd's algorithm (CACM 1987)."""
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.empty(len(candidates), 0, dtype=torch.int64)
        for step in range(self.k, 0, -1):
            last = candidates - step  # (N,)
            uniform = torch.rand(len(candidates), generator=generator, dtype=torch.float64)
            pick = (uniform * (last + 1)).long()  # 0 … last
            taken = (drawn == pick.unsqueeze(1)).any(1)
            drawn = torch.cat([drawn, last.where(taken, pick).unsqueeze(1)], 1)
        return drawn  # (N, k)


class NoGraph(GraphLearner):
    """Baseline: every node is its own sole neighbour, with weight 1."""

    def __init__(self, k: int = 1) -> None:
        del k  # taken by every learner
        super().__init__(k=1)

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`, within a set only."""
        if keys is not None:
            raise ValueError("NoGraph has no neighbours among keys: a node is not in the bank")
        count_candidates(queries, keys, exclude)
        self_index = torch.arange(len(queries), device=queries.device).unsqueeze(1)  # (N, 1)
        return SparseGraph(self_index, torch.ones(self_index.shape, device=queries.device))


def adaptive_weights(distances: Tensor) -> Tensor:
    """Weights of adaptive neighbours in closed form: row-stochastic `(N, k)`.

    They do not change under d → a·d + b. Where the k + 1 distances tie, the formula is 0/0; the
    weights are then 1/k, without gradient.

    Args:
        distances: `(N, k+1)`, ascending.
    """
    nearest_k, boundary = distances[:, :-1], distances[:, -1:]  # (N, k), (N, 1)
    k = nearest_k.shape[1]
    margins = boundary - nearest_k  # (N, k) >= 0
    # Σ_l (d_(k+1) − d_(l)) = k·d_(k+1) − Σ_l d_(l), which would cancel
    total = margins.sum(1, keepdim=True)  # (N, 1)
    limits = torch.finfo(distances.dtype)
    # the gradient divides by the total, which must not vanish
    tied = total <= (k * limits.eps * boundary).clamp(min=limits.tiny**0.5)  # (N, 1)
    # s_ij = (d_i,(k+1) − d_ij)₊ / (k·d_i,(k+1) − Σ_{l≤k} d_i,(l))
    weights = margins / total.masked_fill(tied, 1)  # (N, k)
    return weights.masked_fill(tied, 1 / k)

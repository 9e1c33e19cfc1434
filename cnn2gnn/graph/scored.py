"""Learners that turn distances into weights by softmax, sparsemax, entmax or Gumbel noise.

They share a score that knows no scale, so that one learned temperature fits any features:

    z_ij = −(d_ij − d̄_i) / (τ·σ_i)

d̄_i and σ_i are mean and deviation of the distances to a node's candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.graph.learners import GraphLearner
from cnn2gnn.graph.search import count_candidates
from cnn2gnn.graph.sparse import SparseGraph


class ScoredNeighbours(GraphLearner):
    """The k nearest nodes, weighted by a function of their scores.

    Args:
        k: candidates of a node; where weights can be 0, fewer are its neighbours.
        temperature: τ at the start, positive; it is learned. None: the kind's `usual` one.
    """

    scalable = True

    def __init__(self, k: int, temperature: float | None = None) -> None:
        super().__init__(k)
        temperature = self.usual if temperature is None else temperature
        if not temperature > 0:
            raise ValueError(f"temperature={temperature} must be positive")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def usual(self) -> float:
        """τ at the start, where none is asked for."""
        return 1.0

    @property
    def reach(self) -> int:
        """k."""
        return self.k

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `GraphLearner.forward`; the gradient flows into queries, keys and τ."""
        neighbours, distances = chosen_distances(queries, keys, self.k, exclude)  # (N, k)
        with torch.autocast(queries.device.type, enabled=False):
            weights = self.weigh(self.scores(distances))  # (N, k)
        return SparseGraph(neighbours, weights, distances, None if keys is None else len(keys))

    def scores(self, distances: Tensor) -> Tensor:
        """z_ij of distances `(N, n)`, `(N, n)`; 0 where all of a node's distances tie."""
        spread = distances.std(1, keepdim=True, correction=0)  # σ_i, (N, 1)
        limits = torch.finfo(distances.dtype)
        # the gradient of σ_i divides by its square, which must not vanish
        least = (limits.eps * distances.amax(1, keepdim=True)).clamp(min=limits.tiny**0.5)
        tied = spread <= least  # (N, 1)
        # z_ij = −(d_ij − d̄_i) / (τ·σ_i)
        scores = (distances.mean(1, keepdim=True) - distances) / spread.masked_fill(tied, 1)
        return scores.masked_fill(tied, 0) / self.log_temperature.to(distances.dtype).exp()

    def weigh(self, scores: Tensor) -> Tensor:
        """Scores `(N, n)`, descending, to row-stochastic weights `(N, n)`."""
        raise NotImplementedError


class SoftmaxNeighbours(ScoredNeighbours):
    """s_i = softmax(z_i): all k nearest count.

    At τ = 1, where it starts, scores that are normally distributed have k·e^(−½) effective
    neighbours, about 0.6 k.
    """

    def weigh(self, scores: Tensor) -> Tensor:
        """As `ScoredNeighbours.weigh`."""
        return scores.softmax(1)


class SparsemaxNeighbours(ScoredNeighbours):
    """s_i = argmin_{s ≥ 0, 1ᵀs = 1} ‖s − z_i‖² (Martins and Astudillo 2016): support is learned.

    Adaptive neighbours are the sparsemax whose temperature is another one in each row, such that
    exactly k weights are positive; here it is one for all rows, and k is the most there can be.
    """

    @property
    def usual(self) -> float:
        """Weights fall linearly over a range of τ·σ: at k/2, half the candidates are in it."""
        return max(1.0, self.k / 2)

    def weigh(self, scores: Tensor) -> Tensor:
        """As `ScoredNeighbours.weigh`."""
        # with scores in descending order the support is a prefix, of the largest ρ with
        # 1 + ρ·z_ρ > Σ_{l≤ρ} z_l, and s_j = (z_j − θ)₊, θ = (Σ_{l≤ρ} z_l − 1) / ρ
        scores = scores - scores[:, :1]  # from 0 down: large values would lose the digits of θ
        rank = torch.arange(1, scores.shape[1] + 1, device=scores.device)  # (n,)
        sums = scores.cumsum(1)  # (N, n)
        support = (1 + rank * scores > sums).sum(1, keepdim=True)  # ρ_i ≥ 1, (N, 1)
        threshold = (sums.gather(1, support - 1) - 1) / support  # θ_i, (N, 1)
        return (scores - threshold).clamp(min=0)


class EntmaxNeighbours(ScoredNeighbours):
    """1.5-entmax (Peters, Niculae, Martins, ACL 2019): between softmax and sparsemax."""

    @property
    def usual(self) -> float:
        """Half of the candidates again, as k standard normal scores have it."""
        return max(1.0, self.k**0.5 / 2)

    def weigh(self, scores: Tensor) -> Tensor:
        """As `ScoredNeighbours.weigh`."""
        # with z/2 in descending order the support is a prefix of length ρ, s_j = (z_j/2 − θ)₊²,
        # θ = m_ρ − sqrt((1 − ρ·v_ρ)/ρ), m_ρ and v_ρ mean and variance of the first ρ values
        z = (scores - scores[:, :1]) / 2  # from 0 down: large values would cancel in the variance
        rank = torch.arange(1, z.shape[1] + 1, device=z.device)  # (n,)
        mean = z.cumsum(1) / rank  # (N, n)
        scatter = rank * (z.square().cumsum(1) / rank - mean.square())  # ρ·v_ρ, (N, n)
        thresholds = mean - ((1 - scatter) / rank).clamp(min=1e-12).sqrt()  # (N, n)
        support = (thresholds <= z).sum(1, keepdim=True)  # (N, 1)
        return (z - thresholds.gather(1, support - 1)).clamp(min=0).square()


class GumbelNeighbours(SoftmaxNeighbours):
    """k of the 2k nearest, drawn by their scores; in evaluation the k nearest.

    Adding independent Gumbel noise to the scores and taking the k largest draws k nodes without
    replacement, with chances softmax(z) (Kool et al., ICML 2019). Those drawn are weighted by
    the softmax of their scores without the noise, through which the gradient flows.

    NOTE: DGM (Kazi et al., TPAMI 2022) draws so too, with the noise's sign turned in its dense
    sampler, and gives the edges no weights but a reward.
    """

    @property
    def reach(self) -> int:
        """2k: those that may be drawn."""
        return 2 * self.k

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        """As `ScoredNeighbours.forward`; noise is drawn in training only."""
        if not self.training:
            return super().forward(queries, keys, exclude)
        candidates = count_candidates(queries, keys, exclude)
        pool = max(self.k, min(self.reach, candidates))
        neighbours, distances = chosen_distances(queries, keys, pool, exclude)  # (N, 2k)
        with torch.autocast(queries.device.type, enabled=False):
            scores = self.scores(distances)  # (N, 2k)
            noise = -torch.empty_like(scores).exponential_().log()  # Gumbel(0, 1)
            drawn = (scores.detach() + noise).topk(self.k, dim=1).indices.sort(1).values  # (N, k)
            weights = self.weigh(scores.gather(1, drawn))  # (N, k)
        sources = None if keys is None else len(keys)
        return SparseGraph(
            neighbours.gather(1, drawn), weights, distances.gather(1, drawn), sources
        )

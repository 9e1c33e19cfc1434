"""What can be read from a learned graph."""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.graph.sparse import SparseGraph

HOMOPHILY_KINDS = ("edge", "node", "adjusted")


def degree(graph: SparseGraph) -> Tensor:
    """How many nodes look at each source, int64 `(M,)`: large ones are hubs.

    The other degree, of edges that leave a node, is k wherever no weight is 0.
    """
    return torch.bincount(graph.neighbours[graph.weights > 0], minlength=graph.num_sources)


def shares(weights: Tensor) -> Tensor:
    """Weights `(…, k)` as shares of what their node gives: divided by degrees, they sum to less."""
    total = weights.sum(-1, keepdim=True)
    return weights / total.where(total > 0, 1)


def effective_neighbours(weights: Tensor) -> Tensor:
    """Over how many neighbours a node spreads its weight: exp(H(s_i)), from 1 to k.

    Args:
        weights: `(N, k)`, >= 0; scaled so that rows sum to 1.

    Returns:
        `(N,)`.
    """
    # H(s_i) = −Σ_j s_ij ln s_ij, with 0·ln 0 = 0
    return torch.special.entr(shares(weights)).sum(1).exp()


def purity(graph: SparseGraph, labels: Tensor, source_labels: Tensor | None = None) -> Tensor:
    """Share of its weight that a node gives to nodes of its own class, `(N,)` in [0, 1].

    Args:
        graph: N nodes.
        labels: `(N,)`, of the nodes.
        source_labels: `(M,)`; only, and then needed, where the graph has other sources.

    Raises:
        ValueError: labels do not fit the graph.
    """
    return (shares(graph.weights) * _same_class(graph, labels, source_labels)).sum(1)


def homophily(
    graph: SparseGraph, labels: Tensor, source_labels: Tensor | None = None, kind: str = "edge"
) -> float:
    """How much edges keep to a class; edges count alike, whatever their weight.

    - `edge`: share of edges whose ends are of one class, h = |{i→j : y_i = y_j}| / |E|, in [0, 1]
      (Zhu et al., NeurIPS 2020).
    - `node`: that share per node, averaged over nodes that have edges, in [0, 1] (Pei et al.,
      ICLR 2020).
    - `adjusted`: (h − p) / (1 − p), where p is what h would be if edges kept their ends' degrees
      but not their partners; at most 1, 0 means chance (Platonov et al., NeurIPS 2023). It can be
      compared between data sets of different numbers of classes, as Lim et al. (NeurIPS 2021) ask.
      Not a number where all ends are of one class.

    Args:
        graph: N nodes.
        labels: int64 `(N,)`, of the nodes.
        source_labels: `(M,)`; only, and then needed, where the graph has other sources.
        kind: edge, node or adjusted.

    Raises:
        ValueError: labels do not fit the graph, or an unknown kind.
    """
    same = _same_class(graph, labels, source_labels)  # (N, k)
    edges = graph.weights > 0  # (N, k)
    if kind == "node":
        looks = edges.any(1)  # (N,)
        return ((same & edges).sum(1) / edges.sum(1))[looks].mean().item()
    edge = same[edges].double().mean()
    if kind == "edge":
        return edge.item()
    if kind == "adjusted":
        ends = labels if source_labels is None else source_labels
        classes = int(max(labels.max(), ends.max())) + 1
        out = torch.bincount(labels.repeat_interleave(edges.sum(1)), minlength=classes).double()
        into = torch.bincount(ends[graph.neighbours[edges]], minlength=classes).double()
        # p = Σ_c D_c² / (2|E|)²; our edges are directed: p = Σ_c D_c(out)·D_c(in) / |E|²,
        # the same where every edge runs both ways
        chance = (out * into).sum() / edges.sum() ** 2
        return ((edge - chance) / (1 - chance)).item()
    raise ValueError(f"kind={kind!r} must be one of {', '.join(HOMOPHILY_KINDS)}")


def _same_class(graph: SparseGraph, labels: Tensor, source_labels: Tensor | None) -> Tensor:
    """Whether node and neighbour are of one class, bool `(N, k)`."""
    if (graph.sources is None) != (source_labels is None):
        raise ValueError("source_labels belong to a graph against other sources, and only to such")
    ends = labels if source_labels is None else source_labels
    for name, values, length in (
        ("labels", labels, len(graph)),
        ("source_labels", ends, graph.num_sources),
    ):
        if values.shape != (length,):
            raise ValueError(f"{name} must be of shape ({length},), not {tuple(values.shape)}")
    return ends[graph.neighbours] == labels.unsqueeze(1)

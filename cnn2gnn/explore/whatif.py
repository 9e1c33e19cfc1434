"""What if? A prediction under an edited graph, recomputed by the student itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import Node, RunNodes
from cnn2gnn.explore.query import NOTHING, Query, WhatIf, apply, ask, switched_on
from cnn2gnn.graph.sparse import shared_out
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.student import Student


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction and where it comes from: logits = base_logits + hidden + contributions.sum(0).

    Attributes:
        node: whose.
        logits, base_logits: `(C,)`, with and without neighbours.
        gate: trust in the neighbours, in [0, 1]; 0 without neighbours.
        neighbours: the k nodes, heaviest first; weights, distances: `(k,)`.
        on: bool `(k,)`; edges that are off or pruned have weight 0.
        hidden: `(C,)`, what the neighbours change through layer 1, all together.
        hidden_shares: `(k, C)`, how much of `hidden` is lost when the message of one neighbour is
            left out. Layer 1 is not linear: they do not add up to `hidden`.
        contributions: `(k, C)`, what each edge adds in layer 2, exactly: s_ij (c·g_i·r_j + α y_j).
            Zero in scope batch, whose neighbours have no labels.
    """

    node: Node
    logits: Tensor
    base_logits: Tensor
    gate: float
    neighbours: list[Node]
    weights: Tensor
    distances: Tensor | None
    on: Tensor
    hidden: Tensor
    hidden_shares: Tensor
    contributions: Tensor

    @property
    def probabilities(self) -> Tensor:
        """softmax of the logits, `(C,)`."""
        return self.logits.softmax(0)

    @property
    def predicted(self) -> int:
        """The predicted class."""
        return int(self.logits.argmax())


def predict(nodes: RunNodes, node: Node, change: WhatIf = NOTHING) -> Prediction:
    """Predict `node` with the graph changed as `change` says."""
    query, network = ask(nodes, node, change), nodes.student.network
    on = switched_on(nodes, query, change)  # (k,)
    out = apply(nodes.student, query, on[None])
    assert out.gate is not None and out.hidden_logits is not None  # there are neighbours
    weights = shared_out(query.graph.weights, on[None])[0]  # (k,)
    looked_at = query.bank.subset(query.graph.neighbours[0])
    residuals, answers = looked_at.residuals, looked_at.answers  # (k, C)
    # logits_i − V h_i = Σ_j s_ij (c·g_i·r_j + α y_j), term by term
    told = network.evidence_scale * out.gate * residuals + network.label_scale * answers
    contributions = weights[:, None] * told
    shares = out.hidden_logits - _without_each_message(network, query, weights)  # (k, C)
    shares = shares.where((weights > 0)[:, None], 0)  # of an edge that is off, not its rounding
    order = _edges(query)  # (n,)
    distances = query.graph.distances
    return Prediction(
        node=node,
        logits=out.logits[0],
        base_logits=out.base_logits[0],
        gate=float(out.gate) * bool(weights.sum() > 0),
        neighbours=[nodes.node(int(row)) for row in query.rows[query.graph.neighbours[0][order]]],
        weights=weights[order],
        distances=None if distances is None else distances[0][order],
        on=on[order],
        hidden=(out.hidden_logits - out.base_logits)[0],
        hidden_shares=shares[order],
        contributions=contributions[order],
    )


def _edges(query: Query) -> Tensor:
    """Places of the one node's edges among its candidates, int64 `(n,)`, the heaviest first.

    A learner that finds its own support, or whose heads agree, gives some candidates no weight.
    """
    weights = query.graph.weights[0]  # (k,)
    return weights.argsort(descending=True, stable=True)[: int((weights > 0).sum())]


def _without_each_message(network: GraphNetwork, query: Query, weights: Tensor) -> Tensor:
    """V h_i `(k, C)` of the query's one node, in each row without the message of one neighbour.

    The weights `(k,)` of the others stay as they are.
    """
    k = len(weights)
    copies = query.of(torch.zeros(k, dtype=torch.int64))
    left_out = weights * ~torch.eye(k, dtype=torch.bool)  # (k, k)
    graph = replace(copies.graph, weights=left_out)
    out = network.apply_graph(copies.features, graph, query.bank)
    assert out.hidden_logits is not None
    return out.hidden_logits


def without_each_edge(nodes: RunNodes, node: Node, change: WhatIf = NOTHING) -> Tensor:
    """Logits `(n, C)` with one more edge removed in each row, in the order of `predict`."""
    query = ask(nodes, node, change)
    on = switched_on(nodes, query, change)  # (k,)
    order = _edges(query)  # (n,)
    return _without_each(nodes.student, query, on[None])[0, order]


def without_each_edge_of(nodes: RunNodes, indices: Tensor) -> Tensor:
    """Logits `(n, k, C)` of the test nodes `indices` `(n,)` with each of their edges removed."""
    whole = Query(nodes.features, nodes.graph, nodes.bank, torch.arange(len(nodes), nodes.rows))
    k = nodes.graph.neighbours.shape[1]
    pieces = []
    for chunk in indices.split(max(1, 20_000 // k)):
        on = torch.ones(len(chunk), k, dtype=torch.bool)
        pieces.append(_without_each(nodes.student, whole.of(chunk), on))
    return torch.cat(pieces)


def _without_each(student: Student, query: Query, on: Tensor) -> Tensor:
    """Logits `(B, k, C)` with one more edge removed each, of B nodes with the edges `on` `(B, k)`.

    One forward pass over k copies of the query, not k passes.
    """
    count, k = on.shape
    copies = torch.arange(count).repeat_interleave(k)  # (B·k,)
    keep = on[copies] & ~torch.eye(k, dtype=torch.bool).repeat(count, 1)  # (B·k, k)
    return apply(student, query.of(copies), keep).logits.unflatten(0, (count, k))

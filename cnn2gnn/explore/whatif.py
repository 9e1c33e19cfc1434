"""What if? A prediction under an edited graph, recomputed by the student itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import TEST, Node, RunNodes
from cnn2gnn.explore.query import (
    NOTHING,
    Query,
    WhatIf,
    apply,
    ask,
    repeated,
    rows_of,
    switched_on,
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A prediction and where it comes from.

    Attributes:
        node: whose.
        logits, base_logits: `(C,)`, with and without neighbours.
        gate: trust in the neighbours, in [0, 1]; 0 without neighbours.
        neighbours: the k nodes, heaviest first; weights, distances: `(k,)`.
        on: bool `(k,)`; edges that are off or pruned have weight 0.
        contributions: what each edge adds to each logit, `(k, C)`; in scope bank they sum to
            logits − base_logits, in scope batch the correction is no sum over edges: None.
    """

    node: Node
    logits: Tensor
    base_logits: Tensor
    gate: float
    neighbours: list[Node]
    weights: Tensor
    distances: Tensor | None
    on: Tensor
    contributions: Tensor | None

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
    query = ask(nodes, node, change)
    on = switched_on(nodes, query, change)  # (k,)
    keep = torch.ones_like(query.graph.neighbours, dtype=torch.bool)  # (B, k)
    keep[0] = on
    logits, gate = apply(nodes.student, query, keep)
    weights = query.graph.weights[0] * on  # (k,)
    weights = weights / weights.sum().clamp(min=1e-12)
    contributions = None
    if nodes.student.scope == "bank" and query.bank is not None:
        residuals = query.bank.residuals[query.graph.neighbours[0]]  # (k, C)
        # logits_i − base_i = Σ_j c·g_i·s_ij·r_j, term by term
        contributions = nodes.student.evidence_scale * gate[0] * weights[:, None] * residuals
    order = query.graph.weights[0].argsort(descending=True, stable=True)  # (k,)
    distances = query.graph.distances
    return Prediction(
        node=node,
        logits=logits[0],
        base_logits=query.base_logits[0],
        gate=float(gate[0]),
        neighbours=[nodes.node(int(row)) for row in query.rows[query.graph.neighbours[0][order]]],
        weights=weights[order],
        distances=None if distances is None else distances[0][order],
        on=on[order],
        contributions=None if contributions is None else contributions[order],
    )


def without_each_edge(nodes: RunNodes, node: Node, change: WhatIf = NOTHING) -> Tensor:
    """Logits `(k, C)` with one more edge removed in each row, in the order of `predict`.

    One forward pass over k copies of the query, not k passes.
    """
    query = ask(nodes, node, change)
    on = switched_on(nodes, query, change)  # (k,)
    order = query.graph.weights[0].argsort(descending=True, stable=True)
    copies, size = len(on), len(query.features)
    keep = torch.ones(copies, size, copies, dtype=torch.bool)
    keep[:, 0] = on & ~torch.eye(copies, dtype=torch.bool)[order]  # (k, k)
    logits, _ = apply(nodes.student, repeated(query, copies), keep.flatten(0, 1))
    return logits[::size]  # row 0 of every copy


def without_each_edge_of(nodes: RunNodes, indices: Tensor) -> Tensor:
    """Logits `(n, k, C)` of the test nodes `indices` `(n,)` with each of their edges removed."""
    graph, k = nodes.graph, nodes.graph.neighbours.shape[1]
    keep = ~torch.eye(k, dtype=torch.bool)  # (k, k)
    pieces = []
    for chunk in indices.split(max(1, 20_000 // k)):
        copies = chunk.repeat_interleave(k)  # (c·k,)
        query = Query(
            nodes.features[TEST][copies],
            nodes.base_logits[TEST][copies],
            rows_of(graph, copies),
            nodes.bank,
            torch.empty(0),
        )
        logits, _ = apply(nodes.student, query, keep.repeat(len(chunk), 1))
        pieces.append(logits.unflatten(0, (len(chunk), k)))
    return torch.cat(pieces)

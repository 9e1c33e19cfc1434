"""The labels of a bank, spread over its graph to the nodes that have none; see `graph.spreading`.

Neither network nor teacher has a say in it but for the keys, between which distances are taken.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.evaluation.protocols import inductive
from cnn2gnn.graph import AdaptiveNeighbours
from cnn2gnn.graph.spreading import spread
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput


@torch.no_grad()
def spread_labels(student: Student, bank: Bank, classes: int) -> Tensor:
    """Return what every node of the bank is, `(M, classes)`; rows sum to 1.

    Args:
        bank: of the student; label −1 where a node has none.
        classes: how many there are, late ones included.
    """
    rows = torch.arange(len(bank), device=bank.labels.device)
    graph = replace(student.network.bank_graph(bank, rows), sources=None)
    return spread(graph, _one_hot(bank.labels, classes), bank.labels >= 0)


@torch.no_grad()
def votes_over_graph(student: Student, nodes: StudentOutput, bank: Bank, answers: Tensor) -> Tensor:
    """Σ_j s_ij y_j `(N, C)` of nodes from `no_graph`, y_j being `answers` `(M, C)` of the bank."""
    graph = inductive(student, nodes, bank).graph
    assert graph is not None
    return graph.aggregate(answers)


@torch.no_grad()
def votes_over_points(
    points: Tensor, labels: Tensor, classes: int, queries: Tensor, k: int
) -> Tensor:
    """As `votes_over_graph` of what `spread_labels` says, where no distance was learned.

    Args:
        points: the nodes, `(M, d)`: plain features, or raw pixels; queries: `(N, d)`.
        labels: of the nodes, `(M,)`, −1 where one has none.

    Returns:
        `(N, classes)`, from adaptive neighbours, k a node.
    """
    learner, labels = AdaptiveNeighbours(k), labels.to(points.device)
    said = spread(learner(points), _one_hot(labels, classes), labels >= 0)
    return learner(queries, points).aggregate(said)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """`(M, classes)`; of label −1, which is not looked at, any."""
    return F.one_hot(labels.clamp(min=0), classes).float()

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
def votes(student: Student, nodes: StudentOutput, bank: Bank, answers: Tensor) -> Tensor:
    """Σ_j s_ij y_j `(N, C)` of nodes from `no_graph`, y_j being `answers` `(M, C)` of the bank."""
    graph = inductive(student, nodes, bank).graph
    assert graph is not None
    return graph.aggregate(answers)


@torch.no_grad()
def votes_by_features(
    student: Student, images: Tensor, labels: Tensor, classes: int, nodes: StudentOutput
) -> Tensor:
    """As `votes` of what `spread_labels` says, on features of which no distance was learned.

    Args:
        images, labels: of the bank's nodes, `(M, C, H, W)` and `(M,)`.

    Returns:
        `(N, classes)`, from adaptive neighbours of the stem's features as they are.
    """
    features, learner = student.features(images), AdaptiveNeighbours(student.config.k)
    labels = labels.to(features.device)
    said = spread(learner(features), _one_hot(labels, classes), labels >= 0)
    return learner(nodes.features, features).aggregate(said)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """`(M, classes)`; of label −1, which is not looked at, any."""
    return F.one_hot(labels.clamp(min=0), classes).float()

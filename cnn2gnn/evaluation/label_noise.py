"""Wrong labels: the graph finds them, and the bank is corrected without any training.

A node whose neighbours are of another class than its label says is suspect. Its own label has no
part in that: it is no neighbour of itself.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.data import ImageSet
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student

SHARES = (0.01, 0.05, 0.1)  # of the nodes, the most suspect first


def flipped(labels: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Return the labels `(N,)`, a `share` of them replaced by another class, each as likely.

    Args:
        share: in [0, 1]; of all N labels, so many exactly, up to rounding.
        seed: of the draw: which ones, and which class each of them gets.

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must be from 0 to 1")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shift = torch.randint(1, classes, (len(rows),), generator=generator)  # 1 … C − 1: never itself
    wrong = labels.clone()
    wrong[rows] = (labels[rows] + shift.to(labels.device)) % classes
    return wrong


@torch.no_grad()
def leave_one_out(student: Student, bank: Bank) -> SparseGraph:
    """Return the graph of the bank's nodes among themselves, `(M, k)`, each without itself.

    Raises:
        ValueError: the student has no graph.
    """
    return student.network.bank_graph(bank, torch.arange(len(bank), device=bank.labels.device))


def votes(graph: SparseGraph, labels: Tensor, classes: int) -> Tensor:
    """What the neighbours say of each node, `(N, C)` in [0, 1]; rows sum to 1.

    Args:
        labels: of the nodes that can be neighbours, int64 `(M,)` in 0 … C − 1.
    """
    # v_ic = Σ_j s_ij [y_j = c] / Σ_j s_ij
    mass = graph.aggregate(F.one_hot(labels, classes).float())  # (N, C)
    return mass / graph.weights.sum(1, keepdim=True)


def suspicion(votes: Tensor, labels: Tensor) -> Tensor:
    """How much the neighbours speak against the label of each node, `(N,)` in [0, 1]."""
    # a_i = 1 − Σ_j s_ij [y_j = y_i]
    return 1 - votes.gather(1, labels[:, None])[:, 0]


def confident_joint(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Which labels confident learning takes for wrong, bool `(N,)`.

    Off the diagonal of the confident joint (Northcutt, Jiang and Chuang, JAIR 2021): of the classes
    that reach the mean confidence of their own members, another one than the label is the most
    probable. As in the authors' cleanlab, a label that is the most probable class stays.

    Args:
        probabilities: out of sample, `(N, C)`; labels: as given, int64 `(N,)`.
    """
    members = F.one_hot(labels, probabilities.shape[1]).bool()  # (N, C)
    # t_c = mean of p_c over the nodes labelled c; a class without nodes is out of reach
    own = probabilities.masked_fill(~members, 0).sum(0) / members.sum(0)  # (C,)
    confident = probabilities >= own.nan_to_num(torch.inf)  # (N, C)
    likely = probabilities.masked_fill(~confident, -1).argmax(1)  # (N,)
    other = (likely != labels) & (probabilities.argmax(1) != labels)
    return confident.any(1) & other


def detection(suspicion: Tensor, wrong: Tensor) -> pd.DataFrame:
    """Precision and recall in [0, 1] of the most suspect nodes, one row a share of `SHARES`.

    Args:
        suspicion: `(N,)`; wrong: which labels really are, bool `(N,)`.
    """
    order = suspicion.argsort(descending=True, stable=True)
    rows = []
    for share in SHARES:
        hits = wrong[order[: max(1, round(share * len(order)))]].float()
        rows.append((share, len(hits), hits.mean().item(), (hits.sum() / wrong.sum()).item()))
    return pd.DataFrame(rows, columns=["share", "nodes", "precision", "recall"])


def corrections(
    student: Student, bank: Bank, votes: Tensor, flagged: Tensor, true: Tensor, test: ImageSet
) -> dict[str, float]:
    """What is gained where the flagged nodes get the label that most of their neighbours have.

    Args:
        bank: with the labels that were given; votes: of its nodes, `(M, C)`.
        flagged: bool `(M,)`; true: the right labels, int64 `(M,)`.

    Returns:
        By name, each in [0, 1]: precision and recall of what is flagged; the share of right labels,
        `right before` and `right after`; and the accuracy on test images with the labels as they
        were given (`noisy`), `corrected`, and `all true`.
    """
    wrong, everywhere = bank.labels != true, torch.arange(len(bank))
    rows = flagged.nonzero()[:, 0]
    corrected = bank.relabelled(rows, votes[rows].argmax(1))
    nodes = no_graph(student, test.images)
    banks = {"noisy": bank, "corrected": corrected, "all true": bank.relabelled(everywhere, true)}
    return {
        "precision": wrong[rows].float().mean().item(),
        "recall": ((flagged & wrong).sum() / wrong.sum()).item(),
        "right before": (~wrong).float().mean().item(),
        "right after": (corrected.labels == true).float().mean().item(),
    } | {
        name: accuracy(inductive(student, nodes, each).logits, test.labels)
        for name, each in banks.items()
    }

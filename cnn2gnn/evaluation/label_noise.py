"""Wrong labels: the graph finds them, and the bank is corrected without any training.

A node is suspect where its neighbours are of another class than its label says, or where the
student, with these neighbours, predicts another one. It is no neighbour of itself. The student has
been taught the label, right or wrong, but as long as it has not learned its images by heart, it is
the better judge.
"""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.data import ImageSet
from cnn2gnn.evaluation.bank_sizes import inductive_accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student

SHARES = (0.01, 0.05, 0.1)  # of the nodes, the most suspect first
CORRECTED = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 1.0)  # of the nodes, at most
_CHUNK = 500  # nodes at once


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


@torch.no_grad()
def judged(student: Student, images: Tensor, bank: Bank) -> Tensor:
    """What the student says of each node, as a query among the others, `(M, C)`; rows sum to 1.

    Args:
        images: of the bank's nodes, `(M, C, H, W)`.

    Raises:
        ValueError: the student has no graph.
    """
    nodes, network = no_graph(student, images), student.network
    said = []
    for rows in torch.arange(len(bank), device=bank.labels.device).split(_CHUNK):
        pixels = None if nodes.pixels is None else nodes.pixels[rows]
        graph = network.find_graph(nodes.features[rows], bank, rows, pixels)
        said.append(network.apply_graph(nodes.features[rows], graph, bank).logits.softmax(1))
    return torch.cat(said)


def suspicion(said: Tensor, labels: Tensor) -> Tensor:
    """How much is said against the label of each node, `(N,)` in [0, 1].

    Args:
        said: `votes`, or what the student `judged`, `(N, C)`.
    """
    # a_i = 1 − p_i,y_i
    return 1 - said.gather(1, labels[:, None])[:, 0]


@torch.no_grad()
def as_far_as_it_helps(student: Student, bank: Bank, said: Tensor, validation: ImageSet) -> Tensor:
    """Return which nodes to correct, bool `(M,)`: of the most suspect, some share of `CORRECTED`.

    It is the one with which the student predicts validation images best, by cross-entropy: few
    images tell accuracies hardly apart. So a student that often errs itself corrects few labels.

    Args:
        said: `(M, C)`; a node gets the class of which most is said, if that is not its label.
    """
    order = suspicion(said, bank.labels).argsort(descending=True, stable=True)
    other = said.argmax(1) != bank.labels  # (M,)
    nodes = no_graph(student, validation.images)
    best, chosen = torch.inf, torch.zeros_like(other)
    for share in CORRECTED:
        most = torch.zeros_like(other)
        most[order[: round(share * len(order))]] = True
        flagged = most & other
        corrected = _corrected(bank, said, flagged)
        logits = inductive(student, nodes, corrected).logits
        found = F.cross_entropy(logits, validation.labels.to(logits.device)).item()
        if found < best:
            best, chosen = found, flagged
    return chosen


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
    student: Student, bank: Bank, said: Tensor, flagged: Tensor, true: Tensor, test: ImageSet
) -> dict[str, float]:
    """What is gained where the flagged nodes get the class of which most is said.

    Args:
        bank: with the labels that were given; said: of its nodes, `(M, C)`.
        flagged: bool `(M,)`; true: the right labels, int64 `(M,)`.

    Returns:
        By name: `flagged`, how many nodes; each of these in [0, 1]: precision (NaN of none) and
        recall of what is flagged; the share of right labels, `right before` and `right after`; and
        the accuracy on test images with the labels as they were given (`noisy`), `corrected`, and
        `all true`.
    """
    wrong, everywhere = bank.labels != true, torch.arange(len(bank))
    corrected = _corrected(bank, said, flagged)
    nodes = no_graph(student, test.images)
    banks = {"noisy": bank, "corrected": corrected, "all true": bank.relabelled(everywhere, true)}
    return {
        "flagged": int(flagged.sum()),
        "precision": wrong[flagged].float().mean().item(),
        "recall": ((flagged & wrong).sum() / wrong.sum()).item(),
        "right before": (~wrong).float().mean().item(),
        "right after": (corrected.labels == true).float().mean().item(),
    } | {
        name: inductive_accuracy(student, nodes, each, test.labels) for name, each in banks.items()
    }


def _corrected(bank: Bank, said: Tensor, flagged: Tensor) -> Bank:
    """The bank, its `flagged` nodes `(M,)` under the class of which most is said."""
    rows = flagged.nonzero()[:, 0]
    return bank.relabelled(rows, said[rows].argmax(1))

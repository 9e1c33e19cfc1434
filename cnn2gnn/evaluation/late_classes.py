"""A class that arrives after training: its images join the bank, and nothing is trained.

The student has no output for such a class; the graph has its nodes. So the two share the work:

    s̃_ij = (s_ij / n_{y_j}) / Σ_l s_il / n_{y_l}        the graph as if all classes had equal shares
    v_ic = (1−λ) Σ_j s̃_ij [y_j = c] + λ m_ic            what neighbours and class means m say
    λ    = k / (k + n̄)                                  n̄: nodes of a late class, on average
    q_i  = Σ_{c late} v_ic                              how likely it is that i is of a late class
    p_ic = (1 − q_i) · student_ic,  v_ic                for c that the student knows, and for late c

n_c is the number of the bank's nodes of class c. Dividing by it is Bayes' rule: the share of a
class among the neighbours is its likelihood times its share of the bank, and five late nodes would
drown among hundreds of others. A class of fewer than k nodes cannot fill a neighbourhood: there
its mean speaks (`class_means`), and gives way to the graph as nodes arrive. The student judges
between the classes that it knows, by its own nodes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.base.values import ConfigError
from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.evaluation.class_means import class_means, probabilities_by_means
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import GraphLearner, SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LEARNERS

_CHUNK = 500  # queries at once; it bounds memory and changes no edge
COLUMNS = ("old", "new", "all")


def check_late(graph: str, learner: GraphLearner | None = None) -> None:
    """Check that a student can find the nodes of classes that came after its training.

    Args:
        graph: what its configuration calls its graph; learner: its own, None: that of this name.

    Raises:
        ConfigError: it has no graph that goes by distance, or one that only knows where it was
            trained.
    """
    if not _finds_late(learner or LEARNERS[graph](1)):
        fit = ", ".join(name for name in LEARNERS if _finds_late(LEARNERS[name](1)))
        raise ConfigError(
            f"graph={graph!r} does not find the nodes of late classes, it must be one of {fit}"
        )


def _finds_late(learner: GraphLearner) -> bool:
    return learner.reach is not None and learner.finds_late


def balanced(graph: SparseGraph, labels: Tensor) -> SparseGraph:
    """Return the graph with weights as they were if the bank had equally many nodes of each class.

    Args:
        graph: with edges to M nodes; labels: theirs, int64 `(M,)`. Edges to unlabelled ones, −1,
            lose their weight; a row whose neighbours are all unlabelled is left without weight.
    """
    labelled = labels >= 0
    counts = labels[labelled].bincount(minlength=1)  # n_c, (C,)
    share = labelled / counts[labels.clamp(min=0)].clamp(min=1)  # 1/n_{y_j}, (M,)
    # s̃_ij = (s_ij / n_{y_j}) / Σ_l s_il / n_{y_l}
    weights = graph.weights * share[graph.neighbours]  # (N, k)
    total = weights.sum(1, keepdim=True)  # (N, 1)
    return replace(graph, weights=weights / total.where(total > 0, 1))


@torch.no_grad()
def graph_of(student: Student, nodes: StudentOutput, bank: Bank) -> SparseGraph:
    """Return the balanced graph of `nodes` (from `no_graph`) among all nodes of the bank."""
    parts = []
    for rows in torch.arange(len(nodes.features), device=nodes.features.device).split(_CHUNK):
        pixels = None if nodes.pixels is None else nodes.pixels[rows]
        parts.append(student.network.find_graph(nodes.features[rows], bank, pixels=pixels))
    return balanced(SparseGraph.stacked(parts), bank.labels)


@torch.no_grad()
def probabilities(student: Student, nodes: StudentOutput, bank: Bank, classes: int) -> Tensor:
    """Return p `(N, classes)` of nodes from `no_graph`; rows sum to 1.

    Args:
        bank: its labels lie below `classes`; those that the student was not trained on are late.
    """
    if student.shape["classes"] == classes:  # no late node: the bank is taken as it is
        return inductive(student, nodes, bank).logits.float().softmax(1)
    known = inductive(student, nodes, bank.subset(bank.trained)).logits.float().softmax(1)
    graph = graph_of(student, nodes, bank)
    onehot = F.one_hot(bank.labels.clamp(min=0), classes).float()  # (M, classes)
    means = probabilities_by_means(student.network.keys(nodes.features), bank, classes)
    # λ = k / (k + n̄)
    assert student.network.learner is not None  # `graph_of` has refused a student without a graph
    k = student.network.learner.k
    share = k / (k + _nodes_a_class(bank))
    # v_ic = (1−λ) Σ_j s̃_ij [y_j = c] + λ m_ic
    said = (1 - share) * graph.aggregate(onehot) + share * means  # (N, classes)
    late = said[:, known.shape[1] :]  # (N, late)
    return torch.cat([(1 - late.sum(1, keepdim=True)) * known, late], 1)


def _nodes_a_class(bank: Bank) -> float:
    """How many nodes a late class has in the bank, on average."""
    late = bank.labels[~bank.trained]
    return len(late) / max(len(late.unique()), 1)


class Apart(NamedTuple):
    """A data set whose last classes come late; all three parts number the classes alike.

    Attributes:
        old: the classes that are there from the start, and none of the others' names.
        late: the classes that come later, by all names.
        whole: both, for who trains again.
    """

    old: Splits
    late: Splits
    whole: Splits

    @property
    def known(self) -> int:
        """How many classes are there from the start: those below it."""
        return len(self.old.train.classes)


def set_apart(splits: Splits, late: int, seed: int) -> Apart:
    """Let `late` random classes that have test images come late; they move behind the others.

    Args:
        seed: of the draw.

    Raises:
        DataError: none be late, or fewer than two classes, one with test images, would be left.
    """
    if obstacle := none_late(splits):
        raise DataError(f"late={late}: {obstacle}")
    most, rule = _most_late(splits)
    if not 1 <= late <= most:
        raise DataError(f"late={late} must be from 1 to {most}: {rule}")
    count = len(splits.train.classes)
    known, tested = count - late, _tested(splits)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    order = torch.cat([order[~tested[order]], order[tested[order]]])  # late are the last
    place = order.argsort()  # of each class in the new order
    names = tuple(splits.train.classes[i] for i in order)
    whole = [replace(part, labels=place[part.labels], classes=names) for part in splits]
    old = [part.subset((part.labels < known).nonzero()[:, 0]) for part in whole]
    rest = [part.subset((part.labels >= known).nonzero()[:, 0]) for part in whole]
    named = [replace(part, classes=names[:known]) for part in old]
    return Apart(Splits(*named), Splits(*rest), Splits(*whole))


def none_late(splits: Splits) -> str:
    """Say why no class can come late; nothing where one can."""
    most, rule = _most_late(splits)
    return "" if most >= 1 else f"no class of {splits.train.name} can come late: {rule}"


def _most_late(splits: Splits) -> tuple[int, str]:
    """How many classes can come late, and why no more."""
    count, tested = len(splits.train.classes), int(_tested(splits).sum())
    rule = f"{count} classes, {tested} with test images; two must remain, one of these"
    return min(count - 2, tested - 1), rule


def _tested(splits: Splits) -> Tensor:
    """Which classes have test images, bool `(C,)`."""
    return splits.test.labels.bincount(minlength=len(splits.train.classes)) > 0


def few(images: ImageSet, per_class: int | None, seed: int) -> ImageSet:
    """Return `per_class` random images of each class, where it has so many; None: all of them."""
    if per_class is None:
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    onehot = F.one_hot(images.labels[order], len(images.classes))  # (N, C)
    rank = (onehot.cumsum(0) * onehot).sum(1)  # 1 for the first of its class, …
    return images.subset(order[rank <= per_class])


def accuracies(predicted: Tensor, labels: Tensor, known: int) -> dict[str, float]:
    """Accuracies in [0, 1] on the classes below `known` (old), on the others (new), and on all."""
    right, old = (predicted == labels).float(), labels < known
    parts = (right[old], right[~old], right)
    return {name: part.mean().item() for name, part in zip(COLUMNS, parts, strict=True)}


def compare(student: Student, apart: Apart, sizes: Sequence[int | None], seed: int) -> pd.DataFrame:
    """Accuracies on the test images of all classes, with so many images a late class in the bank.

    Args:
        student: trained on `apart.old`.
        sizes: images a late class, None for all; `seed`: which ones.

    Returns:
        One row a size and method: images (as text), method, and old, new and all in [0, 1].

    Raises:
        ConfigError: see `check_late`.
    """
    check_late(student.graph_name, student.network.learner)
    bank = student.bank(apart.old.train.images, apart.old.train.labels)
    nodes, known = no_graph(student, apart.whole.test.images), apart.known
    keys, classes = student.network.keys(nodes.features), len(apart.whole.train.classes)
    labels = apart.whole.test.labels.to(keys.device)
    alone = probabilities(student, nodes, bank, known).argmax(1)
    rows = [{"images": "0", "method": "student"} | accuracies(alone, labels, known)]
    for size in sizes:
        added = few(apart.late.train, size, seed)
        larger = student.enlarged(bank, added.images, added.labels)
        said = {
            "graph": probabilities(student, nodes, larger, classes).argmax(1),
            "class means": class_means(keys, larger, classes),
        }
        for method, predicted in said.items():
            found = accuracies(predicted, labels, known)
            shown = "all" if size is None else str(size)
            rows.append({"images": shown, "method": method} | found)
    return pd.DataFrame(rows)


def trained_again(student: Student, apart: Apart) -> pd.DataFrame:
    """Return a row as those of `compare`, of a student that was trained on all classes."""
    train, test = apart.whole.train, apart.whole.test
    nodes = no_graph(student, test.images)
    bank = None if student.scope == "none" else student.bank(train.images, train.labels)
    predicted = inductive(student, nodes, bank).logits.argmax(1)
    found = accuracies(predicted, test.labels.to(predicted.device), apart.known)
    return pd.DataFrame([{"images": "all", "method": "trained again"} | found])

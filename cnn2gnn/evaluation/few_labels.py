"""Few labels: images without one join the bank by what somebody says of them; nothing is trained.

    y_j = onehot(label)  or, of an image without label,  y_j = what is said of it
    r_j = y_j − softmax(base_j)

That can be the teacher, who has seen no other labels than the student has: y_j = softmax(t_j). Or
the graph: the labels spread over it, from the nodes that have one to those that have none. It knows
what neither network was told, how all these images lie to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.data.splitting import TRAIN, stratified_order
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import AdaptiveNeighbours
from cnn2gnn.graph.spreading import spread
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher, in_chunks


@dataclass(eq=False)
class AnsweredBank(Bank):
    """A bank whose nodes are what somebody says of them.

    Attributes:
        answers: y_j, `(M, C)`; rows sum to 1.
    """

    answers: Tensor = field(kw_only=True)

    @cached_property
    def residuals(self) -> Tensor:
        """r_j = y_j − softmax(base_j), `(M, C)`."""
        return self.answers - self.probabilities


def with_few_labels(splits: Splits, share: float, seed: int) -> tuple[Splits, ImageSet]:
    """Keep a share of the training labels; return what can be trained on, and the other images.

    Args:
        share: in (0, 1), of each class. Of the validation labels, which tell how much labels count
            (`distillation.label_scale`), the same share is left, at least one a class; test stays.
        seed: of the draw. With the same seed, a smaller share is part of a larger one.

    Raises:
        DataError: fewer labels than classes would be left, or no image without one.
    """
    labelled, rest = (splits.train.subset(rows) for rows in _drawn(splits.train, share, seed))
    held_out = splits.validation
    few = max(len(held_out.classes), round(share * len(held_out)))
    rows = stratified_order(held_out.labels, seed, TRAIN)[:few].sort().values
    return splits._replace(train=labelled, validation=held_out.subset(rows)), rest


def with_spread_labels(train: ImageSet, share: float, seed: int, answers: Tensor) -> ImageSet:
    """Return all training images, those without a label under the likeliest one.

    Args:
        share, seed: as `with_few_labels` had them.
        answers: of the images that it left without a label, `(m, C)`.
    """
    _, rest = _drawn(train, share, seed)
    return replace(train, labels=train.labels.index_copy(0, rest, answers.argmax(1).cpu()))


def _drawn(train: ImageSet, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows that keep their label, and the others, both ascending."""
    order = stratified_order(train.labels, seed, TRAIN)  # (N,)
    count, classes = round(share * len(order)), len(train.classes)
    if not classes <= count < len(order):
        raise DataError(
            f"share={share} leaves {count} of {len(order)} training labels; "
            f"from {classes}, one a class, to {len(order) - 1} are needed"
        )
    kept, others = order.tensor_split([count])
    return kept.sort().values, others.sort().values


@torch.no_grad()
def with_answers(student: Student, bank: Bank, images: Tensor, answers: Tensor) -> AnsweredBank:
    """Return the bank with images `(m, C, H, W)` of unknown class as further nodes.

    Args:
        answers: softmax(t_j), what the teacher says of them, `(m, C)`.

    Raises:
        ValueError: the student's scope is not `bank`: it would not listen.
    """
    if student.scope != "bank":
        raise ValueError(f"student: scope {student.scope!r} takes no answers, it must be 'bank'")
    both = student.enlarged(bank, images, torch.full((len(images),), -1))
    known = bank.answers  # (M, C)
    answers = torch.cat([known, answers.to(known)])
    parts = {part.name: getattr(both, part.name) for part in fields(both)}
    return AnsweredBank(**parts, answers=answers)


@torch.no_grad()
def spread_labels(student: Student, bank: Bank, images: Tensor, classes: int) -> Tensor:
    """Return what images `(m, C, H, W)` of unknown class are, by the bank's labels.

    These spread along the student's own graph over the bank and all of the images at once; see
    `graph.spreading`. The network has no say in it but for the keys.

    Args:
        classes: how many there are, late ones included.

    Returns:
        `(m, classes)`, rows sum to 1: answers as `with_answers` takes them.
    """
    nodes = student.enlarged(bank, images, torch.full((len(images),), -1))
    rows = torch.arange(len(nodes), device=nodes.labels.device)
    graph = replace(student.network.bank_graph(nodes, rows), sources=None)
    answers = F.one_hot(nodes.labels.clamp(min=0), classes).float()
    return spread(graph, answers, nodes.labels >= 0)[len(bank) :]


@torch.no_grad()
def compare(
    student: Student,
    twin: Student,
    teacher: Teacher,
    labelled: Splits,
    unlabelled: ImageSet,
    spread_over_graph: Tensor,
) -> pd.DataFrame:
    """Return test accuracies in [0, 1], with and without the unlabelled images in the bank.

    Args:
        student, twin, teacher: trained on `labelled`.
        unlabelled: whose labels are not looked at.
        spread_over_graph: what `spread_labels` says of `unlabelled`, `(m, C)`.

    Returns:
        One row a method: method, accuracy. Where labels are spread, the neighbours alone decide:
        what a network learned from few labels says by itself would only take away from it.
    """
    train, test, more = labelled.train, labelled.test, unlabelled.images
    nodes, bank = no_graph(student, test.images), student.bank(train.images, train.labels)
    told = in_chunks(teacher, more).softmax(1)  # softmax(t_j), (m, C)
    as_told = with_answers(student, bank, more, told)
    as_spread = with_answers(student, bank, more, spread_over_graph)
    graph = inductive(student, nodes, as_spread).graph
    assert graph is not None
    said = {
        "teacher": in_chunks(teacher, test.images),
        "twin": no_graph(twin, test.images).logits,
        "labelled nodes": inductive(student, nodes, bank).logits,
        "unlabelled ones as the teacher says": inductive(student, nodes, as_told).logits,
        "labels spread over plain features": _spread_on_features(student, train, more, nodes),
        "labels spread over its graph": graph.aggregate(as_spread.answers),
    }
    return accuracies(said, test)


def accuracies(said: Mapping[str, Tensor], images: ImageSet) -> pd.DataFrame:
    """One row a method: method, accuracy in [0, 1] of its logits or votes `(N, C)`."""
    rows = [
        {"method": name, "accuracy": accuracy(answers.cpu(), images.labels)}
        for name, answers in said.items()
    ]
    return pd.DataFrame(rows)


def _spread_on_features(
    student: Student, labelled: ImageSet, unlabelled: Tensor, queries: StudentOutput
) -> Tensor:
    """Votes `(N, C)` as of `spread_labels`, but by plain features of the stem: nothing learned."""
    nodes = torch.cat([student.features(labelled.images), student.features(unlabelled)])
    known = torch.arange(len(nodes), device=nodes.device) < len(labelled)
    answers = nodes.new_zeros(len(nodes), len(labelled.classes))
    answers[known] = F.one_hot(labelled.labels, answers.shape[1]).to(answers)
    learner = AdaptiveNeighbours(student.config.k)
    said = spread(learner(nodes), answers, known)
    return learner(queries.features, nodes).aggregate(said)

"""Few labels: images without one join the bank by what somebody says of them; nothing is trained.

    y_j = onehot(label)  or, of an image without label,  y_j = what is said of it
    r_j = y_j − softmax(base_j)

That can be the teacher, who has seen no other labels than the student has: y_j = softmax(t_j). What
the graph can say of them is in `label_spreading`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import torch
from torch import Tensor

from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.data.splitting import TRAIN, stratified_order
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.bank import Bank
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
        share: in (0, 1), of each class, at least one. Of the validation labels, which tell how
            much labels count (`distillation.label_scale`), the same is left; test stays.
        seed: of the draw. With the same seed, a smaller share is part of a larger one.

    Raises:
        DataError: fewer labels than classes would be left, or no image without one.
    """
    kept = few_labels(splits.train, share, seed) >= 0  # (N,)
    labelled, rest = (splits.train.subset(some.nonzero()[:, 0]) for some in (kept, ~kept))
    held_out = splits.validation
    few = max(len(held_out.classes), round(share * len(held_out)))
    rows = _one_each_first(held_out.labels, seed)[:few].sort().values
    return splits._replace(train=labelled, validation=held_out.subset(rows)), rest


def few_labels(train: ImageSet, share: float, seed: int) -> Tensor:
    """Return the labels `(N,)` of training images, −1 for those that lose theirs.

    Arguments and errors as of `with_few_labels`.
    """
    order = _one_each_first(train.labels, seed)  # (N,)
    count, classes = round(share * len(order)), len(train.classes)
    if not classes <= count < len(order):
        raise DataError(
            f"share={share} leaves {count} of {len(order)} training labels; "
            f"from {classes}, one a class, to {len(order) - 1} are needed"
        )
    return train.labels.index_fill(0, order[count:], -1)


def _one_each_first(labels: Tensor, seed: int) -> Tensor:
    """As `stratified_order`, but with one of each class in front, however rare it is."""
    order = stratified_order(labels, seed, TRAIN)  # (N,)
    rows = torch.arange(len(order))
    ends = torch.full((int(labels.max()) + 1,), len(order))
    first = ends.scatter_reduce(0, labels[order], rows, "amin")[labels[order]] == rows  # (N,)
    return torch.cat([order[first], order[~first]])


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
def compare(
    student: Student, twin: Student, teacher: Teacher, labelled: Splits, unlabelled: ImageSet
) -> dict[str, Tensor]:
    """Return what is said of the test images, `(N, C)`, by method.

    Args:
        student, twin, teacher: trained on `labelled`.
        unlabelled: joins the bank at last, by what the teacher says of it.
    """
    train, test = labelled.train, labelled.test
    nodes, bank = no_graph(student, test.images), student.bank(train.images, train.labels)
    told = in_chunks(teacher, unlabelled.images).softmax(1)  # softmax(t_j), (m, C)
    banks = {
        "labelled nodes": bank,
        "unlabelled ones as the teacher says": with_answers(student, bank, unlabelled.images, told),
    }
    return {
        "teacher": in_chunks(teacher, test.images),
        "twin": no_graph(twin, test.images).logits,
        **{name: inductive(student, nodes, among).logits for name, among in banks.items()},
    }

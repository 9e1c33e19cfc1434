"""Few labels: images without one join the bank by what a teacher says of them; nothing is trained.

    y_j = onehot(label)  or, of an image without label,  y_j = softmax(t_j)
    r_j = y_j − softmax(base_j)

t_j are the logits of a teacher that has seen no other labels than the student has. So an unlabelled
node tells, as any node, what the network gets wrong on it, as far as the teacher knows better.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.data.splitting import TRAIN, stratified_order
from cnn2gnn.evaluation.metrics import accuracy
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
        share: in (0, 1), of each class. Of the validation labels, which tell how much labels count
            (`distillation.label_scale`), the same share is left, at least one a class; test stays.
        seed: of the draw. With the same seed, a smaller share is part of a larger one.

    Raises:
        DataError: fewer labels than classes would be left, or no image without one.
    """
    train = splits.train
    order = stratified_order(train.labels, seed, TRAIN)  # (N,)
    count, classes = round(share * len(order)), len(train.classes)
    if not classes <= count < len(order):
        raise DataError(
            f"share={share} leaves {count} of {len(order)} training labels; "
            f"from {classes}, one a class, to {len(order) - 1} are needed"
        )
    labelled, rest = (train.subset(part.sort().values) for part in order.tensor_split([count]))
    held_out = splits.validation
    few = max(classes, round(share * len(held_out)))
    rows = stratified_order(held_out.labels, seed, TRAIN)[:few].sort().values
    return splits._replace(train=labelled, validation=held_out.subset(rows)), rest


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
) -> pd.DataFrame:
    """Return test accuracies in [0, 1], with and without the unlabelled images in the bank.

    Args:
        student, twin, teacher: trained on `labelled`. The labels of `unlabelled` are looked at for
            the last row alone: what the bank could give if they were known.

    Returns:
        One row a method: method, accuracy.
    """
    train, test = labelled.train, labelled.test
    nodes, bank = no_graph(student, test.images), student.bank(train.images, train.labels)
    told = in_chunks(teacher, unlabelled.images).softmax(1)  # softmax(t_j), (m, C)
    banks = {
        "labelled nodes": bank,
        "and unlabelled ones": with_answers(student, bank, unlabelled.images, told),
        "as if all were labelled": student.enlarged(bank, unlabelled.images, unlabelled.labels),
    }
    said = {
        "teacher": in_chunks(teacher, test.images),
        "twin": no_graph(twin, test.images).logits,
        **{name: inductive(student, nodes, among).logits for name, among in banks.items()},
    }
    rows = [
        {"method": name, "accuracy": accuracy(logits.cpu(), test.labels)}
        for name, logits in said.items()
    ]
    return pd.DataFrame(rows)

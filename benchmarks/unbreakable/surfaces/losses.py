"""Losses: logits of any size, any spread and any precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from cnn2gnn.registry import LOSSES
from surfaces.graphs import FILLS
from surfaces.outcomes import Kind

SPREADS = ("normal", "far away", "ties", "constant", "zero", "tiny", "vanishing")
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Answers:
    """Logits `(images, classes)` of student and teacher, and how they are compared."""

    loss: str
    images: int
    classes: int
    student: str
    teacher: str
    scale: float
    type_: torch.dtype
    temperature: float
    weight: float
    seed: int


def cases() -> st.SearchStrategy[Answers]:
    """What a training may come to: the shapes are right, the numbers are any."""
    return st.builds(
        Answers,
        loss=st.sampled_from([name for name in LOSSES if ":" not in name]),
        images=st.integers(1, 12),
        classes=st.integers(2, 12),
        student=st.sampled_from(SPREADS),
        teacher=st.sampled_from(SPREADS),
        scale=st.sampled_from([1.0, 30.0, 1000.0]),
        type_=st.sampled_from(TYPES),
        temperature=st.floats(0.1, 100),
        weight=st.floats(0, 1),
        seed=st.integers(0, 2**31),
    )


def compare(answers: Answers) -> None:
    """Take the loss and its gradient."""
    chance = torch.Generator().manual_seed(answers.seed)
    shape = (answers.images, answers.classes)
    student = (FILLS[answers.student](shape, chance) * answers.scale).to(answers.type_)
    teacher = (FILLS[answers.teacher](shape, chance) * answers.scale).to(answers.type_)
    if not (student.isfinite().all() and teacher.isfinite().all()):
        return  # float16 does not hold them
    labels = torch.randint(answers.classes, shape[:1], generator=chance)
    student.requires_grad_()
    loss = LOSSES[answers.loss](
        student, teacher, labels, temperature=answers.temperature, weight=answers.weight
    )
    assert loss.shape == () and loss.isfinite(), f"the loss is {loss}"
    loss.backward()
    assert student.grad is not None and student.grad.isfinite().all(), "a gradient is not finite"


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    yield Kind("losses", "any logits", cases(), compare, lambda answers: (), share=4)

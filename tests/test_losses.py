"""The distillation loss against its written-out formula and its limits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cnn2gnn.distillation.losses import response_kd

GENERATOR = torch.Generator().manual_seed(0)
STUDENT = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64)
TEACHER = torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64) * 3
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def written_out(temperature: float, weight: float) -> torch.Tensor:
    """L = (1−λ)·CE + λ·T²·(1/B) Σ_i Σ_c p_ic·log(p_ic / q_ic), term by term."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t, y in zip(STUDENT, TEACHER, LABELS, strict=True):
        p, q = (t / temperature).softmax(0), (s / temperature).softmax(0)
        kl = sum(p[c] * (p[c] / q[c]).log() for c in range(5))
        total += (1 - weight) * -s.softmax(0)[y].log() + weight * temperature**2 * kl
    return total / len(LABELS)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9, 1.0])
def test_equals_the_written_out_formula(temperature: float, weight: float) -> None:
    loss = response_kd(STUDENT, TEACHER, LABELS, temperature=temperature, weight=weight)
    torch.testing.assert_close(loss, written_out(temperature, weight))


def test_no_teacher_share_is_cross_entropy() -> None:
    loss = response_kd(STUDENT, TEACHER, LABELS, weight=0.0)
    torch.testing.assert_close(loss, F.cross_entropy(STUDENT, LABELS))


def test_a_student_that_equals_its_teacher_pays_nothing_for_it() -> None:
    loss = response_kd(TEACHER, TEACHER, LABELS, weight=1.0)
    assert loss.abs().item() < 1e-12


def test_repeating_the_classes_with_no_mass_changes_nothing() -> None:
    """`mean` in place of `batchmean` would halve the loss when the classes double."""
    wide = [torch.cat([x, torch.full_like(x, -1e4)], 1) for x in (STUDENT, TEACHER)]
    loss = response_kd(*wide, LABELS, temperature=1.0, weight=1.0)
    torch.testing.assert_close(loss, written_out(1.0, 1.0))


def test_gradient_reaches_the_student_only() -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    response_kd(student, teacher, LABELS).backward()
    assert student.grad is not None and teacher.grad is None
    assert torch.autograd.gradcheck(lambda s: response_kd(s, TEACHER, LABELS), student)

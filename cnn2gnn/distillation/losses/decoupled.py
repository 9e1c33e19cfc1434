"""Decoupled knowledge distillation (Zhao et al., CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.distillation.losses.mixing import beside_cross_entropy, softened_kl

TARGET, OTHERS = 1.0, 8.0  # α and β of the paper's CIFAR-100 pairs; it tunes β by the pair


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """α·TCKD + β·NCKD of logits `(B, classes)`, each with its T².

    NOTE: With α = 1 and β = 1 − p_t(y) of each image this is KD: there, a confident teacher hides
    what it knows about the other classes.
    """
    own = labels[:, None]  # (B, 1)
    # TCKD: KL between (p_y, 1 − p_y); as logits, z_y against logsumexp of the others
    s, t = (_target_against_others(z / temperature, own) for z in (student, teacher))  # (B, 2)
    target = temperature**2 * softened_kl(s, t, temperature=1.0)
    # NCKD: KL among the other classes alone
    s, t = (_without(z, own) for z in (student, teacher))  # (B, classes − 1)
    return TARGET * target + OTHERS * softened_kl(s, t, temperature)


@beside_cross_entropy
def dkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = α·TCKD + β·NCKD.

    The paper's CE + α·TCKD + β·NCKD, T = 4, is twice λ = 0.5 of this.

    NOTE: The paper lets the term grow over 20 epochs; here it has its weight from the start.
    """
    return decoupled_kl(student_logits, teacher_logits, labels, temperature)


def _target_against_others(z: Tensor, own: Tensor) -> Tensor:
    """Two logits `(B, 2)` whose softmax is (p_y, 1 − p_y)."""
    rest = _without(z, own).logsumexp(1, keepdim=True)  # (B, 1)
    return torch.cat([z.gather(1, own), rest], 1)


def _without(z: Tensor, own: Tensor) -> Tensor:
    """The logits of the other classes, `(B, classes − 1)`."""
    other = torch.ones_like(z, dtype=torch.bool).scatter(1, own, False)
    return z[other].unflatten(0, (len(z), z.shape[1] - 1))

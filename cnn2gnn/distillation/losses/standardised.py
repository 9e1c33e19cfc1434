"""Logit standardisation in knowledge distillation (Sun et al., CVPR 2024).

Of two classes, standardised logits are ±√½ whatever they were: no gradient would be left, and the
teacher would teach nothing. Such logits stay as they are, and the terms are those of KD and DKD.
"""

from __future__ import annotations

from torch import Tensor

from cnn2gnn.distillation.losses.decoupled import decoupled_kl
from cnn2gnn.distillation.losses.mixing import beside_cross_entropy, softened_kl

STRONGER_KD, STRONGER_DKD = 10.0, 9.0
EPSILON = 1e-7  # the paper's, beside the deviation
TWO = 2  # classes, see above
NOTHING = 1e-4  # a smaller deviation says nothing: it is not blown up to 1


@beside_cross_entropy
def kd_ls(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = 10·T²·KL of logits whose mean is 0 and whose deviation is 1 in each image.

    The paper's 0.1·CE + 9·T²·KL, T = 2, is λ = 0.9 of this. The student need not match the
    teacher's magnitude, only its shape.
    """
    del labels
    if teacher_logits.shape[1] == TWO:
        return softened_kl(student_logits, teacher_logits, temperature)
    s, t = _standardised(student_logits), _standardised(teacher_logits)
    return STRONGER_KD * softened_kl(s, t, temperature)


@beside_cross_entropy
def dkd_ls(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = 9·(α·TCKD + β·NCKD) of standardised logits.

    The paper's CE + 9·(α·TCKD + β·NCKD), T = 2, is twice λ = 0.5 of this.
    """
    if teacher_logits.shape[1] == TWO:
        return decoupled_kl(student_logits, teacher_logits, labels, temperature)
    s, t = _standardised(student_logits), _standardised(teacher_logits)
    return STRONGER_DKD * decoupled_kl(s, t, labels, temperature)


def _standardised(z: Tensor) -> Tensor:
    """z' = (z − mean(z)) / (ε + std(z)) of each row of `(B, classes)`."""
    deviation = z.std(1, keepdim=True)  # (B, 1)
    deviation = deviation.masked_fill(deviation < NOTHING, 1)
    return (z - z.mean(1, keepdim=True)) / (EPSILON + deviation)

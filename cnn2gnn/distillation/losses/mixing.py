"""What all losses share: cross-entropy beside their own term, in full precision."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.runs.trials import Loss


def beside_cross_entropy(term: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Loss:
    """Make a loss of a term of student's logits, teacher's logits, labels and temperature.

    The term is computed in float32 (float64 for such logits) whatever autocast says: half precision
    has no room for squared distances. No gradient reaches the teacher.

    Args:
        term: of logits `(B, classes)` twice, labels int64 `(B,)` and T > 0; a scalar.

    Returns:
        L = (1−λ)·CE + λ·term, called as `registry.LOSSES` are.
    """

    @wraps(term)
    def loss(
        student_logits: Tensor,
        teacher_logits: Tensor,
        labels: Tensor,
        *,
        temperature: float = 4.0,
        weight: float = 0.5,
    ) -> Tensor:
        with torch.autocast(student_logits.device.type, enabled=False):
            dtype = torch.promote_types(student_logits.dtype, torch.float32)
            student, teacher = student_logits.to(dtype), teacher_logits.detach().to(dtype)
            hard = F.cross_entropy(student, labels)
            if weight == 0:
                return hard
            # L = (1−λ)·CE + λ·term
            return (1 - weight) * hard + weight * term(student, teacher, labels, temperature)

    return loss


def softened_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·(1/B) Σ_i KL(softmax(t_i/T) ‖ softmax(s_i/T)) of logits `(B, classes)`."""
    kl = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )
    return temperature**2 * kl

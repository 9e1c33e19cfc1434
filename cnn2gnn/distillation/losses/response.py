"""Response-based distillation, the paper's: cross-entropy and temperature-scaled KL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def response_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 4.0,
    weight: float = 0.5,
) -> Tensor:
    """Response-based distillation (Hinton et al. 2015; CNN2GNN, arXiv 2404.14822, §3).

    Written out, for this is the one that notebook 02 tells; the common CIFAR setting is λ = 0.9,
    T = 4.

    Args:
        student_logits, teacher_logits: `(B, classes)`; no gradient reaches the teacher.
        labels: `(B,)`, int64.
        temperature: T > 0, softens both sides.
        weight: λ in [0, 1], the teacher's share; 0 is plain cross-entropy.

    Returns:
        The mean over the batch, a scalar.
    """
    # in half precision, logits / T may be infinite
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    student_logits, teacher_logits = student_logits.to(dtype), teacher_logits.detach().to(dtype)
    hard = F.cross_entropy(student_logits, labels)
    if weight == 0:
        return hard
    # KL(softmax(t/T) ‖ softmax(s/T)): "batchmean", because "mean" would depend on the classes
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, 1),
        F.log_softmax(teacher_logits / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )
    # L = (1−λ)·CE(s, y) + λ·T²·KL
    return (1 - weight) * hard + weight * temperature**2 * soft

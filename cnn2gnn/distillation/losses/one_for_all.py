"""OFA: distillation across architectures (Hao et al., NeurIPS 2023)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.distillation.losses.mixing import beside_cross_entropy

EXPONENT = 1.5  # ε of the paper on ImageNet; 1, its CIFAR setting, is KD at that temperature


@beside_cross_entropy
def ofa(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = −T²·(1/B) Σ_i Σ_c [(p_ic + y_ic)^ε − y_ic]·log q_ic, with the teacher's p.

    The target class is told the more strongly, the surer the teacher is of it. The paper's
    CE + OFA, T = 1, is twice λ = 0.5 of this.
    """
    p = (teacher_logits / temperature).softmax(1)  # (B, classes)
    y = F.one_hot(labels, p.shape[1])
    wanted = (p + y) ** EXPONENT - y  # (B, classes)
    log_q = (student_logits / temperature).log_softmax(1)
    return -(temperature**2) * (wanted * log_q).sum(1).mean()

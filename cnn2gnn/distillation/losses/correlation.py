"""DIST: knowledge distillation from a stronger teacher (Huang et al., NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.distillation.losses.mixing import beside_cross_entropy

INTER, INTRA = 2.0, 2.0  # β and γ of the paper


@beside_cross_entropy
def dist(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = T²·(β·inter + γ·intra): the classes of an image, and the images of a class, correlate.

    The paper's CE + 2·T²·(inter + intra), T = 4 on CIFAR and 1 on ImageNet, is twice λ = 0.5 of
    this. Of one image only, columns have no correlation, and intra is 1.
    """
    del labels
    p, q = ((z / temperature).softmax(1) for z in (student_logits, teacher_logits))  # (B, classes)
    # inter = 1 − mean_i ρ(p_i·, q_i·),  intra = 1 − mean_c ρ(p_·c, q_·c)
    inter = 1 - _pearson(p, q).mean()
    intra = 1 - _pearson(p.T, q.T).mean()
    return temperature**2 * (INTER * inter + INTRA * intra)


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of the rows of two `(n, m)`, `(n,)`; 0 where one is constant."""
    return (_unit(a) * _unit(b)).sum(1)


def _unit(x: Tensor) -> Tensor:
    """Rows without their mean, of length 1; a constant one is 0, its gradient finite."""
    x = x - x.mean(1, keepdim=True)
    length = x.norm(dim=1, keepdim=True)
    return x / length.masked_fill(length < torch.finfo(x.dtype).eps, 1)

"""Two losses of our own: what the teacher's neighbourhoods tell. Nobody has published them.

Both are KD with one thing changed. Images of the batch are each other's neighbours by the
adaptive neighbours of `graph`, on the teacher's logits without their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.distillation.losses.mixing import beside_cross_entropy, softened_kl
from cnn2gnn.graph import AdaptiveNeighbours, SparseGraph

NEIGHBOURS = 8  # of an image in the batch, as far as there are so many
OWN_SHARE = 0.5  # of an image's own answer in its denoised target


@beside_cross_entropy
def denoised(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = T²·KL from targets that are half the teacher's answer, half its neighbours' mean.

    A teacher's answer to one view is noisy; images that it finds alike should be told alike.
    In a batch of fewer than three images this is KD.
    """
    del labels
    graph = _graph(teacher_logits)
    if graph is None:
        return softened_kl(student_logits, teacher_logits, temperature)
    p = (teacher_logits / temperature).softmax(1)  # (B, classes)
    # p'_i = ½ p_i + ½ Σ_j s_ij p_j
    target = OWN_SHARE * p + (1 - OWN_SHARE) * graph.aggregate(p)
    log_q = (student_logits / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(log_q, target, reduction="batchmean")


@beside_cross_entropy
def relation(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = T²·KL + (1/B) Σ_i KL(a_i ‖ b_i), rows of the teacher's and the student's adjacency.

    Both rows are over the same candidates, the teacher's nearest: softmax of minus the squared
    distance, in units of the row's mean distance, so that the scale of neither's logits counts.
    In a batch of fewer than three images this is KD.
    """
    del labels
    response = softened_kl(student_logits, teacher_logits, temperature)
    graph = _graph(teacher_logits)
    if graph is None:
        return response
    log_b, log_a = (_row_weights(z, graph) for z in (student_logits, teacher_logits))  # (B, k)
    return response + F.kl_div(log_b, log_a, log_target=True, reduction="batchmean")


def _graph(teacher_logits: Tensor) -> SparseGraph | None:
    """The teacher's graph over the batch; None where there are too few images for one."""
    k = min(NEIGHBOURS, len(teacher_logits) - 2)
    if k < 1:
        return None
    return AdaptiveNeighbours(k)(teacher_logits - teacher_logits.mean(1, keepdim=True))


def _row_weights(z: Tensor, graph: SparseGraph) -> Tensor:
    """log softmax_j(−d_ij / mean_j d_ij) over each image's candidates, `(B, k)`."""
    z = z - z.mean(1, keepdim=True)
    # embedding, not z[neighbours]: its gradient sums in the same order on any run
    d = (z[:, None] - F.embedding(graph.neighbours, z)).square().sum(2)  # (B, k)
    scale = d.mean(1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
    return (-d / scale).log_softmax(1)

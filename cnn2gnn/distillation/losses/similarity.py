"""Relations between the images of a batch: SP (Tung and Mori 2019) and RKD (Park et al. 2019).

NOTE: Both papers compare features. Here they compare logits, all that is known of a teacher whose
answers are cached; their figures are not those of the papers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.distillation.losses.mixing import beside_cross_entropy

SIMILARITY = 3000.0  # the weight of SP beside CE
DISTANCE, ANGLE = 25.0, 50.0  # the weights of RKD's two parts


@beside_cross_entropy
def sp(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = 3000·‖G_t − G_s‖²_F / B², G the products of all images of the batch, rows of norm 1.

    The paper's CE + 3000·SP is twice λ = 0.5 of this. The temperature has no part in it.
    """
    del labels, temperature
    g_s, g_t = (F.normalize(z @ z.T) for z in (student_logits, teacher_logits))  # (B, B)
    return SIMILARITY * (g_t - g_s).square().mean()


@beside_cross_entropy
def rkd(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """term = 25·distances + 50·angles between the images of the batch, each by smooth L1.

    The paper's CE + RKD is twice λ = 0.5 of this. The temperature has no part in it. Memory grows
    with B³: 256 MB for 256 images.
    """
    del labels, temperature
    if len(student_logits) < 2:
        return 0 * student_logits.sum()  # one image has no relations
    distances = F.smooth_l1_loss(_distances(student_logits), _distances(teacher_logits))
    angles = F.smooth_l1_loss(_angles(student_logits), _angles(teacher_logits))
    return DISTANCE * distances + ANGLE * angles


def _distances(z: Tensor) -> Tensor:
    """‖z_i − z_j‖ of all pairs i < j, divided by their mean, `(B (B − 1) / 2,)`."""
    distances = F.pdist(z)
    return distances / distances.mean().clamp(min=torch.finfo(z.dtype).tiny)


def _angles(z: Tensor) -> Tensor:
    """cos of the angle at image j between images i and k, `(B, B, B)`."""
    towards = F.normalize(z[None] - z[:, None], dim=2)  # from j to i, (B, B, classes)
    return towards @ towards.transpose(1, 2)

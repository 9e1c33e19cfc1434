"""Whitening: where the learned keys start from."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 65_536  # of the features at a time
_FLOOR = 0.02  # of the largest singular value: directions without variance are not blown up


def whitening(features: Tensor, width: int, scaled: bool = True) -> Tensor:
    """Return W `(d, width)` so that z·W has unit variance along its `width` main directions.

    Singular values are floored at 0.02 of the largest (1e-3 … 0.05 measured equal). Whitened
    distances find better neighbours than cosine or Euclidean ones: no direction of the feature
    space drowns the others. They do not change under a shift, hence no mean.

    Args:
        features: `(M, d)`.
        width: at most d.
        scaled: False leaves the variances as they are: principal components.
    """
    mean = features.mean(0)
    parts = ((part - mean).double() for part in features.split(ROWS))  # (m, d)
    covariance = sum(part.T @ part for part in parts) / len(features)  # (d, d)
    # Σ = U diag(σ²) Uᵀ with σ ascending,  W = U diag(1/σ)
    variances, directions = torch.linalg.eigh(covariance)
    sigma = variances.clamp(min=0).sqrt()
    sigma = sigma.clamp(min=_FLOOR * max(sigma.max().item(), 1e-12))
    return (directions / sigma if scaled else directions)[:, -width:].to(features.dtype)

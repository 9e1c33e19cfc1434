"""Whitening within classes: where the learned keys start from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 65_536  # of the features at a time


def whitening(features: Tensor, labels: Tensor, width: int) -> Tensor:
    """Return W `(d, width)` so that images of one class have unit variance in every direction of W.

    Σ_w = (1/M) Σ_i (x_i − μ_{y_i})(x_i − μ_{y_i})ᵀ             the scatter around the class means
    Σ   = (1 − s) Σ_w + s·(tr Σ_w / d)·I,   s = d / (M + d)     shrunk: as if d images more told I
    Σ^{-½} x                                                    whitened; of it the main directions,
                                                                where W has fewer than all

    How images of one class differ says nothing of their class, so that is what distances should
    count least: relevant component analysis (Bar-Hillel, Hertz, Shental, Weinshall, ICML 2003);
    with its main directions alone, Fisher's discriminant. Few images tell little of Σ_w; it is
    shrunk as Ledoit and Wolf (2004) have it, by the simplest rule for s. Distances do not change
    under a shift, hence no mean.

    Args:
        features: `(M, d)`; labels: int64 `(M,)`.
        width: at most d.
    """
    count, d = features.shape
    within = _scatter(features, labels) / count  # (d, d)
    if within.trace() <= 0:  # one image a class
        within = _total(features)
    identity = torch.eye(d, dtype=within.dtype, device=within.device)
    if within.trace() <= 0:  # all images are the same
        within = identity
    share = d / (count + d)
    sigma = (1 - share) * within + share * within.trace() / d * identity
    # Σ = U diag(λ) Uᵀ,  Σ^{-½} = U diag(1/√λ) Uᵀ: it is one, where U may be turned
    variances, directions = torch.linalg.eigh(sigma)
    whitened = directions / variances.sqrt() @ directions.T  # (d, d)
    if width < d:
        whitened = whitened @ _main(whitened @ _total(features) @ whitened, width)
    return whitened.to(features.dtype)


def principal(features: Tensor, width: int) -> Tensor:
    """Return the main directions `(d, width)` of features `(M, d)`, their variances as they are."""
    return _main(_total(features), width).to(features.dtype)


def _total(features: Tensor) -> Tensor:
    """The covariance of features `(M, d)`, `(d, d)`."""
    return _scatter(features, features.new_zeros(len(features), dtype=torch.int64)) / len(features)


def _scatter(features: Tensor, labels: Tensor) -> Tensor:
    """Σ_i (x_i − μ_{y_i})(x_i − μ_{y_i})ᵀ of features `(M, d)` around their classes' means."""
    classes = int(labels.max()) + 1
    sums = torch.zeros(classes, features.shape[1], dtype=torch.float64, device=features.device)
    for x, y in _parts(features, labels):
        sums.index_add_(0, y, x)
    means = sums / labels.bincount(minlength=classes).clamp(min=1)[:, None]  # (C, d)
    scatter = torch.zeros_like(sums.T @ sums)  # (d, d)
    for x, y in _parts(features, labels):
        apart = x - means[y]  # (m, d)
        scatter += apart.T @ apart
    return scatter


def _main(covariance: Tensor, width: int) -> Tensor:
    """The `width` directions of largest variance, `(d, width)`, ascending."""
    return torch.linalg.eigh(covariance).eigenvectors[:, -width:]


def _parts(features: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Features in double precision and their labels, so many rows at a time."""
    for x, y in zip(features.split(ROWS), labels.split(ROWS), strict=True):
        yield x.double(), y

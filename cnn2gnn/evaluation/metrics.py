"""Metrics of predictions: pure functions of logits and labels."""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right predictions, in [0, 1]."""
    return (logits.argmax(1) == labels).float().mean().item()


def beats_guessing(logits: Tensor, labels: Tensor) -> bool:
    """Whether predictions are better than always saying the most frequent class, beyond chance.

    Both are asked about the same samples. Those that both get right, or both wrong, tell nothing;
    were neither better, each would win half of the others. A sign test, one-sided, at 5 %.

    Args:
        logits: `(N, C)`; labels: `(N,)`, N >= 1, which tell the most frequent class.
    """
    from scipy.stats import binom

    right = logits.argmax(1) == labels
    guessed = labels == labels.bincount().argmax()
    won, lost = (right & ~guessed).sum().item(), (guessed & ~right).sum().item()
    return bool(binom.sf(won - 1, won + lost, 0.5) < 0.05)  # P(at least so many are won)


def paired_error(first: Tensor, second: Tensor, labels: Tensor) -> float:
    """Standard error of the difference of two accuracies on the same samples, √(n₁₀ + n₀₁) / N.

    n₁₀ samples are right by the first alone, n₀₁ by the second alone. That is the error if neither
    is better, as in McNemar's test. What both get right or wrong adds nothing to it.

    Args:
        first, second: logits `(N, C)`; labels: `(N,)`, N >= 1.

    Returns:
        In [0, 1], as the accuracies are.
    """
    differ = (first.argmax(1) == labels) != (second.argmax(1) == labels)
    return differ.sum().item() ** 0.5 / len(labels)


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Σ_b |B_b|/N · |accuracy(B_b) − confidence(B_b)| over equal-width bins (Guo et al. 2017).

    Args:
        logits: `(N, C)`; labels: `(N,)`.

    Returns:
        A share in [0, 1].
    """
    confidence, predicted = logits.float().softmax(1).max(1)
    right = (predicted == labels).float()
    bin_of = (confidence * bins).long().clamp(max=bins - 1)  # (N,)
    gap = torch.zeros(bins, device=logits.device)
    gap.index_add_(0, bin_of, right - confidence)
    return (gap.abs().sum() / len(labels)).item()

"""Metrics of predictions: pure functions of logits and labels."""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right predictions, in [0, 1]."""
    return (logits.argmax(1) == labels).float().mean().item()


def beats_guessing(share: float, labels: Tensor) -> bool:
    """Whether an accuracy is more than luck, with however many classes and images.

    It is if it lies three standard errors above the share of the most frequent class, which whoever
    always says that class gets right.

    Args:
        share: accuracy, in [0, 1]; labels: `(N,)`.
    """
    guessed = labels.bincount().max().item() / len(labels)
    return share > guessed + 3 * (guessed * (1 - guessed) / len(labels)) ** 0.5


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

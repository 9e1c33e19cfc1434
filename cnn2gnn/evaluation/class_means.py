"""Class means: what the nodes of a class say together, where they are too few to be neighbours.

    d_ic = ‖u_i − ū_c‖² − σ²/n_c          σ² = mean squared distance of a node to its class's mean
    p_ic = softmax_c(−d_ic / T)

A mean of n_c nodes is off by σ²/n_c itself: without the correction, nobody would be of a class of
which few nodes are known. T is the one under which the nodes of the bank say best what they are,
each without itself in its class's mean.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.models.bank import Bank

_TRIED = torch.logspace(-2.5, 0.5, 25).tolist()  # T / σ²
_NODES = 3000  # that T is found on, of all parts of the bank
_LEAST = 1e-12  # where all nodes of each class are one point


def class_means(keys: Tensor, bank: Bank, classes: int) -> Tensor:
    """Return the class `(N,)` whose mean key is nearest to each of `keys` `(N, d)`: the baseline.

    Mensink et al., Distance-Based Image Classification (TPAMI 2013).
    """
    means, counts = _means(bank, classes)
    return torch.cdist(keys, means).masked_fill(counts == 0, torch.inf).argmin(1)


def probabilities_by_means(keys: Tensor, bank: Bank, classes: int) -> Tensor:
    """Return p `(N, classes)` of `keys` `(N, d)`; 0 for a class without nodes, rows sum to 1."""
    means, counts, variance, temperature = _fitted(bank, classes)
    # d_ic = ‖u_i − ū_c‖² − σ²/n_c
    distances = torch.cdist(keys.float(), means).square() - variance / counts  # (N, classes)
    return (-distances / temperature).masked_fill(counts == 0, -torch.inf).softmax(1)


@lru_cache(maxsize=4)  # a bank is asked again and again, and is itself the key
def _fitted(bank: Bank, classes: int) -> tuple[Tensor, Tensor, float, float]:
    """Means, counts, σ² and T of a bank."""
    means, counts = _means(bank, classes)
    rows = (bank.labels >= 0).nonzero()[:, 0]
    labels = bank.labels[rows]
    off = (bank.keys[rows].float() - means[labels]).square().sum(1)  # (m,)
    variance = (off.sum() / (len(rows) - (counts > 0).sum()).clamp(min=1)).clamp(min=_LEAST)

    asked = rows[counts[labels] > 1]  # a lone node is all of its class
    asked = asked[torch.linspace(0, max(len(asked) - 1, 0), min(_NODES, len(asked))).long()]
    labels, count = bank.labels[asked], counts[bank.labels[asked]]
    distances = torch.cdist(bank.keys[asked].float(), means).square() - variance / counts
    # without itself in the mean, a node is n/(n − 1) times as far from it
    own = (bank.keys[asked].float() - means[labels]).square().sum(1)
    own = own * (count / (count - 1)) ** 2 - variance / (count - 1)
    distances = distances.scatter(1, labels[:, None], own[:, None])
    scores = -distances.masked_fill(counts == 0, torch.inf)  # (m, classes)

    def surprise(share: float) -> float:
        return F.cross_entropy(scores / (share * variance), labels).item()

    best = min(_TRIED, key=surprise) if len(asked) else _TRIED[0]
    return means, counts, variance.item(), best * variance.item()


def _means(bank: Bank, classes: int) -> tuple[Tensor, Tensor]:
    """Mean keys `(classes, d)` and numbers of nodes `(classes,)`; unlabelled nodes have no part."""
    known = bank.labels >= 0
    labels, keys = bank.labels[known], bank.keys[known].float()
    counts = labels.bincount(minlength=classes)  # (classes,)
    sums = keys.new_zeros(classes, keys.shape[1]).index_add(0, labels, keys)
    return sums / counts.clamp(min=1)[:, None], counts

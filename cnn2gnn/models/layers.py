"""Small layers shared by teachers and students."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cnn2gnn.graph import SparseGraph

Floats = Sequence[float] | Tensor


class Normalise(nn.Module):
    """Samples to zero mean and unit variance per channel.

    Args:
        mean, std: of the channels, each of length C; those of uint8 samples in [0, 1] units.
    """

    def __init__(self, mean: Floats, std: Floats) -> None:
        super().__init__()
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).reshape(shape))
        std = torch.as_tensor(std, dtype=torch.float32)
        # a channel that never changes is centred only
        self.register_buffer("std", torch.where(std > 0, std, 1.0).reshape(shape))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Samples `(B, C, …)` to float32 of the same shape; uint8 count as shares of 255."""
        shape = (-1, *[1] * (images.ndim - 2))  # (C, 1, …)
        return (as_floats(images) - self.mean.view(shape)) / self.std.view(shape)


def as_floats(samples: Tensor) -> Tensor:
    """Samples as float32: uint8 in [0, 1], others as they are."""
    return samples.float() / 255 if samples.dtype == torch.uint8 else samples.float()


class Gate(nn.Module):
    """Trust in the neighbours, g_i ∈ [0, 1], from six numbers that say whether they earn it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return g `(N,)` from `gate_numbers` `(N, 6)`."""
        return self.network(numbers).sigmoid()[:, 0]


def gate_numbers(base_logits: Tensor, votes: Tensor, graph: SparseGraph) -> Tensor:
    """What the gate is told of each node, `(N, 6)`, without gradient.

    Args:
        base_logits: the base branch `(N, C)`.
        votes: the neighbours' weight per class `(N, C)`.
        graph: the learned graph of these nodes.
    """
    own = base_logits.detach().float().softmax(1)  # (N, C)
    votes = votes.detach()
    confidence, predicted = own.max(1)
    entropy = -(own * own.clamp(min=1e-9).log()).sum(1) / math.log(own.shape[1])
    agreement = votes.gather(1, predicted[:, None])[:, 0]  # neighbours for the own prediction
    overlap = (own * votes).sum(1)  # the own probability of the neighbours' classes
    distances = graph.weights.new_zeros(graph.weights.shape)  # random neighbours have none
    if graph.distances is not None:
        distances = graph.distances  # (N, k), ascending
    # squared distances of whitened points are about 2d; log1p tames what lies far off
    nearest, farthest = (torch.log1p(distances[:, j].detach()) / 5 for j in (0, -1))
    return torch.stack([confidence, entropy, agreement, overlap, nearest, farthest], 1)

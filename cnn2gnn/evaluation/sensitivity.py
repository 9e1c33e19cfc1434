"""Whose prediction depends on the company it is predicted in?"""

from __future__ import annotations

import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import TEST, RunNodes
from cnn2gnn.evaluation.protocols import InBatches


def batch_sensitivity(
    nodes: RunNodes, *, batch_size: int = 100, repeats: int = 5, seed: int = 0
) -> Tensor:
    """Standard deviation of each test node's true-class probability over random batches, `(N,)`.

    Protocol `batch` of `evaluation`, every time with other companions. Of so few nodes that they
    make one batch only, which has no other companions, it is 0.

    Args:
        batch_size: test images that are predicted together, half of all at most; repeats:
            reshuffles, at least 2.
    """
    learner = nodes.student.network.learner
    assert learner is not None  # `RunNodes.load` refused a run without graph
    fewest = learner.k + 2  # of each head
    batch_size = max(fewest, min(batch_size, len(nodes) // 2))
    if len(nodes) < 2 * batch_size:
        return torch.zeros(len(nodes))
    in_batches = InBatches(nodes.student, nodes.no_graph(), nodes.bank)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(repeats):
        order = torch.randperm(len(nodes), generator=generator)
        logits = in_batches(order, batch_size)
        found.append(logits.softmax(1).gather(1, nodes.labels[TEST][:, None])[:, 0])
    return torch.stack(found).std(0)

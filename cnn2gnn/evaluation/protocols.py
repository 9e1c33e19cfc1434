"""Evaluation protocols: what a graph student predicts depends on which nodes stand beside it.

- `no_graph`: no neighbours at all.
- `inductive`: each test image by itself against the frozen bank. Deterministic, independent of the
  other test images: the protocol to deploy.
- `batch`: random test batches of size B, mean ± std over reshuffles (the paper's reading). The
  other test images are unlabelled nodes; a bank student has its bank beside them.
- `sorted`: batches sorted by class. An AUDIT of the leak through the test order, never a result.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from cnn2gnn.data import ImageSet
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput

_CHUNK = 500  # queries at once; it bounds memory and changes no prediction


@torch.no_grad()
def no_graph(student: Student, images: Tensor) -> StudentOutput:
    """Base branch of uint8 images `(N, C, H, W)`; the starting point of the other protocols."""
    features = student.features(images)  # (N, d)
    return student.network(features, pixels=student.pixels(images))


@torch.no_grad()
def inductive(student: Student, nodes: StudentOutput, bank: Bank | None) -> StudentOutput:
    """Each node of `nodes` (from `no_graph`) by itself against the bank."""
    if bank is None:
        return nodes
    parts = []
    for members in torch.arange(len(nodes.logits), device=nodes.logits.device).split(_CHUNK):
        features, pixels = _rows(nodes, members)
        parts.append(student.network(features, bank, pixels=pixels))
    return _joined(parts)


def true_batch_size(nodes: int, batch_size: int) -> int:
    """Return how many nodes are together if `batch_size` are asked for; some batches have one more.

    No batch is smaller than asked for, so a rest is shared out. Of fewer than twice `batch_size`
    nodes all are one batch, in which no order tells anything: then it is `nodes`.
    """
    return nodes // _batches(nodes, batch_size)


def _batches(nodes: int, batch_size: int) -> int:
    return max(1, nodes // batch_size)


class InBatches:
    """Predicts nodes in batches: protocol `batch` along a random order, `sorted` along classes.

    The neighbours of a bank student are test images of the batch or among the nearest nodes of the
    bank. The latter do not depend on the batch: they are found once, and each batch looks at no
    others.

    Args:
        nodes: from `no_graph`.
        bank: of a student of scope `bank`; without it, nodes find neighbours in the batch only.
    """

    @torch.no_grad()
    def __init__(self, student: Student, nodes: StudentOutput, bank: Bank | None) -> None:
        self._network, self._nodes = student.network, nodes
        self._bank = bank if student.scope == "bank" else None
        self._near: Tensor | None = None  # (N, k + 1)
        if self._bank is not None:
            self._near = self._network.candidates(nodes.features, self._bank, pixels=nodes.pixels)

    @torch.no_grad()
    def __call__(self, order: Tensor, batch_size: int) -> Tensor:
        """Return logits `(N, C)`, in the nodes' order, predicted in batches along `order` `(N,)`.

        The batches are of nearly equal size, `true_batch_size` or one more.
        """
        if self._network.scope == "none":
            return self._nodes.logits
        logits = torch.empty_like(self._nodes.logits)
        for members in order.tensor_split(_batches(len(order), batch_size)):
            features, pixels = _rows(self._nodes, members)
            among = self._network.among(features, pixels, self._bank)
            itself = torch.arange(len(members), device=members.device)
            if self._bank is not None:
                near = None if self._near is None else self._near[members].unique()
                bank = self._bank if near is None else self._bank.subset(near)
                among, itself = bank.joined(among), itself + len(bank)
            logits[members] = self._network(features, among, itself, pixels).logits
        return logits


def evaluate(
    student: Student, test: ImageSet, bank: Bank | None, *, batch_size: int, repeats: int, seed: int
) -> tuple[dict[str, Any], StudentOutput]:
    """Accuracies in [0, 1] under every protocol, and the nodes under `inductive`.

    Args:
        batch_size: B of `batch` and `sorted`, at least; `batch_size` of the accuracies is what it
            was in truth, see `true_batch_size`.
        repeats: reshuffles, drawn from `seed`.
    """
    nodes = no_graph(student, test.images)
    labels = test.labels.to(nodes.logits.device)
    anchored = inductive(student, nodes, bank)
    batch_size = true_batch_size(len(test), batch_size)
    generator = torch.Generator().manual_seed(seed)
    in_batches = InBatches(student, nodes, bank)
    shuffled = []
    for _ in range(repeats):
        order = torch.randperm(len(test), generator=generator).to(labels.device)
        shuffled.append(accuracy(in_batches(order, batch_size), labels))
    in_order = in_batches(torch.argsort(labels, stable=True), batch_size)
    accuracies = {
        "no_graph": accuracy(nodes.logits, labels),
        "batch": {
            "mean": statistics.fmean(shuffled),
            "std": statistics.stdev(shuffled) if repeats > 1 else 0.0,
            "batch_size": batch_size,
            "repeats": repeats,
        },
        "inductive": accuracy(anchored.logits, labels),
        "sorted": accuracy(in_order, labels),
    }
    return accuracies, anchored


def node_tensors(
    nodes: StudentOutput, labels: Tensor, teacher_logits: Tensor | None = None
) -> dict[str, Tensor]:
    """What is saved of nodes and their graph, by name, on the CPU."""
    tensors = {
        "labels": labels,
        "logits": nodes.logits,
        "base_logits": nodes.base_logits,
        "features": nodes.features,
    }
    if teacher_logits is not None:
        tensors["teacher_logits"] = teacher_logits
    if nodes.graph is not None and nodes.gate is not None:
        tensors |= {
            "gate": nodes.gate,
            "neighbours": nodes.graph.neighbours,
            "weights": nodes.graph.weights,
        }
        if nodes.graph.distances is not None:
            tensors["distances"] = nodes.graph.distances
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _rows(nodes: StudentOutput, members: Tensor) -> tuple[Tensor, Tensor | None]:
    return nodes.features[members], None if nodes.pixels is None else nodes.pixels[members]


def _joined(parts: list[StudentOutput]) -> StudentOutput:
    """Put the nodes of several passes against one bank behind each other."""

    def column(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    graph = SparseGraph.stacked([part.graph for part in parts if part.graph is not None])
    names = ("logits", "base_logits", "gate", "features")
    return StudentOutput(**{name: column(name) for name in names}, graph=graph)

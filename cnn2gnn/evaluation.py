"""Evaluation protocols: what a graph student predicts depends on which nodes stand beside it.

- `alone`: no neighbours at all.
- `anchors`: each test image by itself against the frozen bank. Deterministic, independent of the
  other test images: the protocol to deploy.
- `batch`: random test batches of size B, mean ± std over reshuffles (the paper's reading). In a
  bank student the other test images enter as unlabelled nodes without residual.
- `sorted`: batches sorted by class. An AUDIT of the leak through the test order, never a result.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cnn2gnn.bank import Bank
from cnn2gnn.data import ImageSet
from cnn2gnn.graph import SparseGraph
from cnn2gnn.student import Student, StudentOutput
from cnn2gnn.teacher import accuracy

_CHUNK = 500  # queries at once; it bounds memory and changes no prediction


@torch.no_grad()
def alone(student: Student, images: Tensor) -> StudentOutput:
    """Own branch of uint8 images `(N, C, H, W)`; the starting point of the other protocols."""
    device = next(student.parameters()).device
    features = torch.cat([student.embed(chunk.to(device)) for chunk in images.split(_CHUNK)])
    own_logits = student.own(features)  # (N, C)
    pixels = student.pixels(images.to(device))
    return StudentOutput(own_logits, own_logits, None, features, None, pixels)


@torch.no_grad()
def anchors(student: Student, nodes: StudentOutput, bank: Bank | None) -> StudentOutput:
    """Each node of `nodes` (from `alone`) by itself against the bank."""
    if student.scope == "none":
        return nodes
    parts = []
    for members in torch.arange(len(nodes.logits), device=nodes.logits.device).split(_CHUNK):
        own, features, pixels = _rows(nodes, members)
        parts.append(student.correct(own, features, bank, pixels=pixels))
    return _joined(parts)


class InBatches:
    """Predicts nodes in batches: protocol `batch` along a random order, `sorted` along classes.

    A bank student's neighbours are test images of the batch or among the nearest nodes of the bank.
    The latter do not depend on the batch: they are found once, and each batch looks at no others.

    Args:
        nodes: from `alone`.
        bank: of a student of scope `bank`; without it, nodes find neighbours in the batch only.
    """

    @torch.no_grad()
    def __init__(self, student: Student, nodes: StudentOutput, bank: Bank | None) -> None:
        self._student, self._nodes = student, nodes
        self._bank = bank if student.scope == "bank" else None
        self._near: Tensor | None = None  # (N, k + 1)
        if self._bank is not None:
            self._near = student.candidates(nodes.features, self._bank, nodes.pixels)

    @torch.no_grad()
    def __call__(self, order: Tensor, batch_size: int) -> Tensor:
        """Return logits `(N, C)`, in the nodes' order, predicted in batches along `order` `(N,)`.

        The batches are of nearly equal size, at least `batch_size` (a small rest is shared out).
        """
        if self._student.scope == "none":
            return self._nodes.logits
        logits = torch.empty_like(self._nodes.logits)
        for members in order.tensor_split(max(1, len(order) // batch_size)):
            own, features, pixels = _rows(self._nodes, members)
            among, itself = self._beside(members)
            logits[members] = self._student.correct(own, features, among, itself, pixels).logits
        return logits

    def _beside(self, members: Tensor) -> tuple[Bank | None, Tensor | None]:
        """Who may be a neighbour of the batch's nodes: bank nodes, and these nodes but itself."""
        if self._bank is None:
            return None, None
        bank = self._bank if self._near is None else self._bank.subset(self._near[members].unique())
        _, features, pixels = _rows(self._nodes, members)
        among = bank.with_unlabelled(features, pixels)
        return among, torch.arange(len(bank), len(among), device=features.device)


def evaluate(
    student: Student, test: ImageSet, bank: Bank | None, *, batch_size: int, repeats: int, seed: int
) -> tuple[dict[str, Any], StudentOutput]:
    """Accuracies in [0, 1] under every protocol, and the nodes under `anchors`.

    Args:
        batch_size: B of `batch` and `sorted`; `repeats`: reshuffles, drawn from `seed`.
    """
    nodes = alone(student, test.images)
    labels = test.labels.to(nodes.logits.device)
    anchored = anchors(student, nodes, bank)
    batch_size = min(batch_size, len(test))
    generator = torch.Generator().manual_seed(seed)
    in_batches = InBatches(student, nodes, bank)
    shuffled = []
    for _ in range(repeats):
        order = torch.randperm(len(test), generator=generator).to(labels.device)
        shuffled.append(accuracy(in_batches(order, batch_size), labels))
    in_order = in_batches(torch.argsort(labels, stable=True), batch_size)
    figures = {
        "alone": accuracy(nodes.logits, labels),
        "batch": {
            "mean": statistics.fmean(shuffled),
            "std": statistics.stdev(shuffled) if repeats > 1 else 0.0,
            "batch_size": batch_size,
            "repeats": repeats,
        },
        "anchors": accuracy(anchored.logits, labels),
        "sorted": accuracy(in_order, labels),
    }
    return figures, anchored


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


def throughput(
    student: Student, test: ImageSet, bank: Bank | None, batch_size: int
) -> dict[str, float]:
    """Images per second from pixels to prediction, `{batch, anchors}`; median of three passes."""
    images = test.images[: max(batch_size, min(len(test), 2000))]

    def timed(protocol: Callable[[StudentOutput], object]) -> float:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            protocol(alone(student, images))
            if images.device.type == "cuda" or next(student.parameters()).is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        return len(images) / statistics.median(seconds)

    order = torch.arange(len(images))
    return {
        "batch": timed(lambda nodes: InBatches(student, nodes, bank)(order, batch_size)),
        "anchors": timed(lambda nodes: anchors(student, nodes, bank)),
    }


def node_tensors(
    nodes: StudentOutput, labels: Tensor, teacher_logits: Tensor | None = None
) -> dict[str, Tensor]:
    """What is saved of nodes and their graph, by name, on the CPU."""
    tensors = {
        "labels": labels,
        "logits": nodes.logits,
        "own_logits": nodes.own_logits,
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


def _rows(nodes: StudentOutput, members: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    pixels = None if nodes.pixels is None else nodes.pixels[members]
    return nodes.own_logits[members], nodes.features[members], pixels


def _joined(parts: list[StudentOutput]) -> StudentOutput:
    """Put the nodes of several passes against one bank behind each other."""

    def column(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    graphs = [part.graph for part in parts if part.graph is not None]
    distances = [graph.distances for graph in graphs if graph.distances is not None]
    graph = SparseGraph(
        torch.cat([graph.neighbours for graph in graphs]),
        torch.cat([graph.weights for graph in graphs]),
        torch.cat(distances) if distances else None,
        sources=graphs[0].sources,
    )
    names = ("logits", "own_logits", "gate", "features")
    return StudentOutput(**{name: column(name) for name in names}, graph=graph)

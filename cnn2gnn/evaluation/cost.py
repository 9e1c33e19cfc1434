"""What a prediction costs: multiply-adds by torch's own counter, and time on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cnn2gnn.data import ImageSet
from cnn2gnn.evaluation.protocols import InBatches, inductive, no_graph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput

REPEATS = 20


def multiply_adds(model: Callable[[Tensor], object], images: Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one call."""
    from torch.utils.flop_counter import FlopCounterMode  # brings along Triton

    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two operations


def latency(model: Callable[[Tensor], object], images: Tensor) -> float:
    """Median milliseconds of one call."""
    return latencies([model], images)[0]


def latencies(models: Sequence[Callable[[Tensor], object]], images: Tensor) -> list[float]:
    """Median milliseconds of one call of each; they take turns: other load meets all alike."""
    for model in models:
        model(images)  # the first one allocates
    rounds = [[_milliseconds(model, images) for model in models] for _ in range(REPEATS)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _milliseconds(model: Callable[[Tensor], object], images: Tensor) -> float:
    began = time.perf_counter()
    model(images)
    _wait()
    return 1000 * (time.perf_counter() - began)


def _wait() -> None:
    """Wait for what a GPU has been asked: a call returns before it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def throughput(
    student: Student, test: ImageSet, bank: Bank | None, batch_size: int
) -> dict[str, float]:
    """Images per second from pixels to prediction, `{batch, inductive}`; median of three passes."""
    images = test.images[: max(batch_size, min(len(test), 2000))]

    def timed(protocol: Callable[[StudentOutput], object]) -> float:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            protocol(no_graph(student, images))
            _wait()
            seconds.append(time.perf_counter() - began)
        return len(images) / statistics.median(seconds)

    order = torch.arange(len(images), device=next(student.parameters()).device)
    return {
        "batch": timed(lambda nodes: InBatches(student, nodes, bank)(order, batch_size)),
        "inductive": timed(lambda nodes: inductive(student, nodes, bank)),
    }

"""What a prediction costs: multiply-adds by torch's own counter, and time on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cnn2gnn.report.results import Results
from cnn2gnn.student import Student

REPEATS = 20


@torch.no_grad()
def cost_table(result: Results) -> pd.DataFrame:
    """Multiply-adds and latency of one image, by stage, of the models that still lie there.

    Returns:
        Rows of `tables.STAGES`; columns multiply_adds (convolutions and matrix products of one
        image, the search in the bank among them) and milliseconds (median, one image, CPU).
    """
    nodes = result.nodes
    student, bank, image = nodes.student, nodes.bank, nodes.splits.test.images[:1]
    models: dict[str, Callable[[Tensor], object]] = {}
    if nodes.teacher is not None:
        models["teacher"] = nodes.teacher
    path = result.run.folder / "baselines" / "stem_only" / "student.safetensors"
    if path.exists():
        models["stem_only"] = Student.load(path)
    elif "stem_only" in result.metrics["baselines"]:  # it is the student's own branch
        models["stem_only"] = lambda images: student.own(student.embed(images))
    models["student"] = lambda images: student(images, bank)
    rows = {
        stage: {"multiply_adds": multiply_adds(model, image), "milliseconds": latency(model, image)}
        for stage, model in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def multiply_adds(model: Callable[[Tensor], object], images: Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one call."""
    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 2  # torch counts a multiply-add as two operations


def latency(model: Callable[[Tensor], object], images: Tensor) -> float:
    """Median milliseconds of one call."""
    model(images)  # the first one allocates
    milliseconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        model(images)
        milliseconds.append(1000 * (time.perf_counter() - began))
    return statistics.median(milliseconds)


def machine() -> str:
    """What the latency was measured on."""
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"

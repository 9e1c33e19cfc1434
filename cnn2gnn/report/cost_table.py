"""The cost of a run's models, side by side."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.cost import latency, multiply_adds
from cnn2gnn.report.results import Results


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
    if "twin" in result.metrics["baselines"]:
        models["twin"] = result.run.load_student("twin")
    models["student"] = lambda images: student(images, bank)
    rows = {
        stage: {"multiply_adds": multiply_adds(model, image), "milliseconds": latency(model, image)}
        for stage, model in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")

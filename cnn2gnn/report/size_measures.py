"""What the models of a configuration cost, and which of them no other one beats."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.bank_sizes import smaller_banks
from cnn2gnn.evaluation.cost import latencies
from cnn2gnn.evaluation.pareto import pareto
from cnn2gnn.report.results import Results
from cnn2gnn.runs.epochs import GRAPH

BYTES = 4  # of a parameter, float32
COSTS = ("milliseconds", "megabytes", "seconds")


@torch.no_grad()
def costs(results: Sequence[Results]) -> pd.DataFrame:
    """Accuracy and costs of runs that differ in their seeds: the twin, and the graph by its bank.

    Returns:
        One row a model: model, graph (bool), accuracy (test, inductive, in [0, 1]), milliseconds
        (of one image, CPU), megabytes (parameters and bank), seconds (of training). Accuracy and
        seconds are means over the runs, the others the first run's. Students that have no twin in
        every run are compared without.
    """
    nodes, image = results[0].nodes, results[0].splits.test.images[:1]
    rows: list[dict[str, Any]] = []
    models: list[Callable[[Tensor], object]] = []
    if all("twin" in result.metrics["baselines"] for result in results):
        twin = results[0].run.load_student("twin")
        accuracy = statistics.fmean(r.metrics["baselines"]["twin"]["accuracy"] for r in results)
        models.append(twin)
        rows.append(
            {
                "model": "twin",
                "graph": False,
                "accuracy": accuracy,
                "megabytes": BYTES * twin.parameter_count / 1e6,
                "seconds": _mean_seconds(results, "twin"),
            }
        )
    tests = pd.concat([result.bank_sizes for result in results]).groupby("bank")["test"].mean()
    seconds = _mean_seconds(results, "student")
    for name, bank in smaller_banks(nodes.student, nodes.bank):
        models.append(partial(nodes.student, bank=bank))
        rows.append(
            {
                "model": f"graph, bank {name}",
                "graph": True,
                "accuracy": tests[name],
                "megabytes": BYTES * nodes.student.parameter_count / 1e6 + bank.megabytes,
                "seconds": seconds,
            }
        )
    return pd.DataFrame(rows).assign(milliseconds=latencies(models, image))


def on_front(points: pd.DataFrame) -> pd.DataFrame:
    """Add a column front: whether no other point has as much accuracy at no higher costs."""
    # what some point does not know its costs of compares none
    less_is_better = points[[*COSTS]].dropna(axis=1).assign(error=-points["accuracy"])
    return points.assign(front=pareto(less_is_better.to_numpy())).reset_index(drop=True)


def _mean_seconds(results: Sequence[Results], stage: str) -> float:
    """Mean of those runs that know it; NaN where none does."""
    known = [each for r in results if not math.isnan(each := training_seconds(r, stage))]
    return statistics.fmean(known) if known else math.nan


def training_seconds(result: Results, stage: str) -> float:
    """Seconds of both stages of a student, validation included, as of `metrics.jsonl`.

    NaN where a stage is not in it: a damaged file was deleted, and its epochs are forgotten.
    """
    taken: dict[str, float] = {}
    for row in result.run.history():
        taken[row["stage"]] = taken.get(row["stage"], 0.0) + row["seconds"]
    # a twin that shares the student's stage one has none of its own
    first = taken.get(stage, taken.get("student", math.nan))
    return first + taken.get(stage + GRAPH, math.nan)

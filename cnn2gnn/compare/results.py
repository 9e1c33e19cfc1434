"""What the cells of a comparison have found, in one tidy frame, and differences between them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnn2gnn.compare.grid import SEEDS, Cell
from cnn2gnn.compare.statistics import paired_interval
from cnn2gnn.graph import effective_neighbours
from cnn2gnn.report.results import Results
from cnn2gnn.report.size_measures import training_seconds
from cnn2gnn.report.tables import measured_accuracies
from cnn2gnn.runs import manifest


def tidy(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return what finished cells measured, one row a cell, model, protocol and metric.

    Returns:
        Columns cell, configuration (the varied parameters without seeds, as text), one for each
        varied parameter, model, protocol (empty where a metric has none), metric, value, source,
        and what binds the row to its run: manifest (a hash), teacher_fingerprint,
        train_fingerprint, test_fingerprint. Accuracies are in [0, 1].
    """
    return pd.concat([_rows(cell) for cell in cells], ignore_index=True)


def configuration(cell: Cell) -> str:
    """Return the varied parameters of a cell but its seeds: `graph=adaptive, k=10`."""
    return ", ".join(f"{name}={v}" for name, v in cell.varied.items() if name not in SEEDS)


def manifest_hash(cell: Cell) -> str:
    """Return what binds a measurement to the run of a finished cell."""
    return hashlib.sha256((cell.folder / manifest.FILE).read_bytes()).hexdigest()[:16]


def by_configuration(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells of each configuration; they differ in their seeds alone."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(configuration(cell), []).append(cell)
    return groups


def gains(groups: Mapping[str, Sequence[Cell]]) -> pd.DataFrame:
    """Return what the graph is worth in each configuration: the student against its own twin.

    Returns:
        Columns configuration, against, runs, points, low, high (of the 95 % interval); no row where
        there is no graph or no twin.
    """
    rows = []
    for name, cells in groups.items():
        results = [Results.read(cell.folder) for cell in cells]
        if all(r.has_graph and "twin_logits" in r.tensors for r in results):
            rows.append(_row(name, "its twin", _right(results), _right(results, "twin_logits")))
    return pd.DataFrame(rows, columns=_COLUMNS)


def differences(groups: Mapping[str, Sequence[Cell]]) -> pd.DataFrame:
    """Return each configuration's student against that of the first, over the seeds of both.

    Returns:
        Columns as of `gains`; no row where they share no seed, or are `unpaired`.
    """
    first, *others = groups
    left_out = unpaired(groups)
    reference = {_seeds(cell): Results.read(cell.folder) for cell in groups[first]}
    rows = []
    for name in others:
        here = {_seeds(cell): Results.read(cell.folder) for cell in groups[name]}
        shared = [seeds for seeds in here if seeds in reference]
        if shared and name not in left_out:
            mine, theirs = ([side[s] for s in shared] for side in (here, reference))
            rows.append(_row(name, first, _right(mine), _right(theirs)))
    return pd.DataFrame(rows, columns=_COLUMNS)


def unpaired(groups: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Return the configurations that were tested on other images than the first."""
    first, *others = groups
    return [name for name in others if len(_test_images([*groups[first], *groups[name]])) > 1]


_COLUMNS = ["configuration", "against", "runs", "points", "low", "high"]


def _row(name: str, against: str, mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> list[Any]:
    interval = paired_interval(mine, theirs)
    return [name, against, len(mine), *(100 * bound for bound in interval)]


def _right(results: Sequence[Results], which: str = "logits") -> NDArray[np.bool_]:
    """Which test images were classified rightly, `(S, N)`."""
    said = [result.tensors[which].argmax(1) == result.tensors["labels"] for result in results]
    return np.stack([row.numpy() for row in said])


def _seeds(cell: Cell) -> tuple[Any, ...]:
    return tuple(cell.varied.get(name) for name in SEEDS)


def _test_images(cells: Sequence[Cell]) -> set[str]:
    """Fingerprints of the images that the cells were tested on."""
    return {manifest.read(cell.folder)["data"]["test images"] for cell in cells}


def _rows(cell: Cell) -> pd.DataFrame:
    result = Results.read(cell.folder)
    metrics, run = result.metrics, result.run
    accuracies = measured_accuracies([result]).rename(columns={"accuracy": "value"})
    rows = accuracies[["model", "protocol", "value", "source"]].assign(metric="accuracy")
    student = metrics["student"]
    more = {
        ("student", "inductive", "expected_calibration_error"): student[
            "expected_calibration_error"
        ],
        ("student", "", "parameters"): student["parameters"],
        ("student", "", "bank_megabytes"): student["bank_megabytes"],
        ("teacher", "", "parameters"): metrics["teacher"]["parameters"],
    }
    for protocol, speed in student["images_per_second"].items():
        more["student", protocol, "images_per_second"] = speed
    if result.has_graph:
        effective = effective_neighbours(result.tensors["weights"]).mean().item()
        more["student", "inductive", "effective_neighbours"] = effective
    for model in ("student", *metrics["baselines"]):
        more[model, "", "training_seconds"] = training_seconds(result, model)
    others = pd.DataFrame(
        [(*keys, value) for keys, value in more.items()],
        columns=["model", "protocol", "metric", "value"],
    ).assign(source=result.source("metrics.json"))
    content = run.manifest
    bound = {
        "manifest": manifest_hash(cell),
        "teacher_fingerprint": content["teacher"],
        **{f"{part}_fingerprint": content["data"][f"{part} images"] for part in ("train", "test")},
    }
    columns = {"cell": cell.name, "configuration": configuration(cell), **cell.varied}
    return pd.concat([rows, others], ignore_index=True).assign(**columns | bound)

"""What the report says of runs of one configuration, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cnn2gnn.report import measures, prediction_figures, tables
from cnn2gnn.report.accuracy_sections import accuracy, training
from cnn2gnn.report.batch_sections import batches
from cnn2gnn.report.graph_sections import classes, graph, images
from cnn2gnn.report.origin import origin
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import NODES_FILE, Exhibit, Section, sources
from cnn2gnn.report.size_sections import bank_sizes


def sections(results: Sequence[Results]) -> list[Section]:
    """Build all sections of runs that differ in their seeds alone.

    What only one run can show, such as images, is the first run's; captions name it.
    """
    with_graph = all(result.has_graph for result in results)
    parts = [accuracy(results), training(results)]
    if with_graph:
        if all(result.has_sizes for result in results):
            parts.append(bank_sizes(results))
        parts += [batches(results), graph(results), classes(results), images(results[0])]
    return [*parts, predictions(results), origin(results)]


def predictions(results: Sequence[Results]) -> Section:
    """Confidence, confusion and agreement with the teacher."""
    pooled = {
        model: (
            torch.cat([r.tensors[name] for r in results]),
            torch.cat([r.tensors["labels"] for r in results]),
        )
        for model, name in (
            ("teacher", "teacher_logits"), ("no_graph", "base_logits"), ("student", "logits")
        )
        if model != "no_graph" or results[0].has_graph
    }  # fmt: skip
    agreements = tables.tidy(results, measures.agreement, NODES_FILE)
    errors = agreements.groupby("model")["ece"].mean().to_dict()
    calibrations = {model: measures.calibration(*pair) for model, pair in pooled.items()}
    source, names = sources(results, NODES_FILE), results[0].classes
    shares = ["agreement", "both", "teacher only", "student only", "neither", "ece"]
    shown = agreements[agreements["model"].isin([*pooled])].replace(
        {"model": prediction_figures.NAMES}
    )
    alone = ", of the same student without neighbours" if results[0].has_graph else ""
    return Section(
        "Predictions",
        f"Of the student under inductive{alone}, and of the teacher.",
        (
            Exhibit(
                "reliability",
                f"Reliability diagram, {measures.BINS} bins; below, the share of samples. ECE: "
                "expected calibration error, 15 bins.",
                source,
                prediction_figures.reliability(calibrations, errors),
            ),
            Exhibit(
                "confusion",
                "Confusion: what test samples of a class (row) are taken for; white: it has none.",
                source,
                prediction_figures.class_matrix(
                    measures.confusion(*pooled["student"]), names, "true class", "predicted class"
                ),
            ),
            Exhibit(
                "teacher_agreement",
                "Who is right, teacher or student, and how far their probabilities lie apart.",
                source,
                prediction_figures.teacher_agreement(agreements),
            ),
            Exhibit(
                "agreement",
                "Agreement with the teacher's prediction; KL in nat; who is right; calibration.",
                source,
                tables.over_runs(shown, "model", shares),
                agreements,
            ),
        ),
    )

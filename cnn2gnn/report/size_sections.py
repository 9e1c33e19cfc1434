"""Sections on what accuracy costs: in megabytes of the bank, and as a Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cnn2gnn.evaluation.bank_sizes import TOLERATED, chosen
from cnn2gnn.report import size_figures, size_measures, tables
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import BANK_FILE, STUDENT_FILE, Exhibit, Section, sources

FILES = (STUDENT_FILE, BANK_FILE)


def bank_sizes(results: Sequence[Results]) -> Section:
    """Accuracy against the megabytes of the bank; validation images choose one."""
    measured = tables.tidy(results, lambda r: r.bank_sizes, *FILES)
    best = chosen(measured)
    table = tables.over_runs(measured, "bank", ["validation", "test"])
    table["chosen"] = ["yes" if name == best else "" for name in table.index]
    source = f"{sources(results, *FILES)}, and the data"
    choice = (
        f"Chosen: the smallest that costs at most {100 * TOLERATED:.1f} points on validation "
        "samples; test samples choose nothing."
    )
    return Section(
        "The size of the bank",
        "Compressed: keys of 8, 4 or 2 bits a dimension, the largest probabilities alone, and at "
        "last, of every class, a share of the nodes, those that keep its mean (herding). Nothing "
        "is trained again; protocol inductive.",
        (
            Exhibit(
                "accuracy_by_bank_size",
                f"Accuracy against the bank's size. {choice}"
                + (" Bars: one standard deviation." if len(results) > 1 else ""),
                source,
                size_figures.accuracy_by_bank_size(measured, best),
            ),
            Exhibit(
                "bank_sizes",
                f"Accuracy by the bank's size in MB (10⁶ bytes). {choice}",
                source,
                table,
                measured,
            ),
        ),
    )


def front(groups: Mapping[str, Sequence[Results]]) -> Section:
    """Accuracy against latency, megabytes and training time, of all configurations together.

    Args:
        groups: runs with a graph, by configuration, as of `results.configurations`.
    """
    points = size_measures.on_front(
        pd.concat(
            [
                size_measures.costs(results).assign(configuration=name)
                for name, results in groups.items()
            ]
        )
    )
    everything = [result for results in groups.values() for result in results]
    source = sources(everything, "metrics.json", "metrics.jsonl", *FILES)
    shown = pd.DataFrame(
        {
            "configuration": points["configuration"],
            "accuracy [%]": [tables.number(100 * value) for value in points["accuracy"]],
            "latency [ms]": [tables.number(value) for value in points["milliseconds"]],
            "MB": [tables.number(value) for value in points["megabytes"]],
            "training [s]": [f"{value:,.0f}" for value in points["seconds"]],
            "front": ["yes" if value else "" for value in points["front"]],
        }
    )
    shown.index = pd.Index(points["model"], name="model")
    if len(groups) == 1:
        shown = shown.drop(columns="configuration")
    text = (
        "Test accuracy (of several runs the mean; inductive), latency of one sample on this CPU, "
        "MB of parameters (float32) and bank, and seconds of the student's training, both stages, "
        "on the machine of the run; the teacher's are not counted. On the front: no other point "
        "is at least as good in all four, and better in one."
    )
    return Section(
        "Pareto front",
        text,
        (
            Exhibit(
                "pareto",
                "Accuracy against each cost; filled: on the front of all four.",
                source,
                size_figures.pareto_front(points),
            ),
            Exhibit("pareto_points", text, source, shown, points.assign(source=source)),
        ),
    )

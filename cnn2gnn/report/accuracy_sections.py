"""Sections on what was reached: accuracy and its cost, and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cnn2gnn.report import figures, tables
from cnn2gnn.report.cost_table import cost_table
from cnn2gnn.report.origin import differing
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import BANK_FILE, STUDENT_FILE, Exhibit, Section, sources
from cnn2gnn.runs import environment

NO_GRAPH = "The student has no graph: under each protocol it says the same."


def accuracy(results: Sequence[Results]) -> Section:
    """Accuracies and cost of all models; what the graph and distillation are worth."""
    measured = tables.measured_accuracies(results)
    gains = tables.differences(measured)
    table = tables.accuracy_table([result.metrics for result in results])
    metrics, count = sources(results, "metrics.json"), results[0].metrics["images"]["test"]
    spread, costs = _spread(results), _costs(results[0]) if results[0].has_graph else None
    if costs is not None:
        table = table.join(costs.content).fillna(tables.NONE)
        spread += "; multiply-adds and latency as in the table cost"
    return Section(
        "Accuracy",
        f"{count:,} test samples, so that one of them is {100 / count:.2f} points. "
        + (_protocols(results[0]) if results[0].has_graph else NO_GRAPH),
        (
            Exhibit("accuracy", f"Test accuracy in %, {spread}.", metrics, table, measured),
            Exhibit(
                "differences",
                "The student under inductive minus the others, in points, paired by run. "
                "Negative: the student is worse.",
                metrics,
                tables.over_runs(gains, "against"),
                gains,
            ),
            Exhibit(
                "accuracy_by_protocol",
                "Accuracy by model and protocol. Faint: single runs; bars: one standard deviation, "
                "of one run over the reshuffles of batch.",
                metrics,
                figures.accuracies(measured),
            ),
            *([] if costs is None else [costs]),
        ),
    )


def comparison(groups: Mapping[str, Sequence[Results]]) -> Section:
    """Accuracies of several configurations, one below the other."""
    parts = []
    for name, results in groups.items():
        table = tables.accuracy_table([result.metrics for result in results])
        table = table.rename_axis(index="model").reset_index()
        parts.append(table.assign(configuration=name, runs=len(results)))
    measured = [
        tables.measured_accuracies(results).assign(configuration=name)
        for name, results in groups.items()
    ]
    everything = [result for results in groups.values() for result in results]
    return Section(
        "Comparison",
        "Configurations that differ in more than their seeds are never averaged; each has its "
        "sections below. sorted is an audit and never a result.",
        (
            Exhibit(
                "comparison",
                "Test accuracy in %; of several runs, mean ± standard deviation.",
                sources(everything, "metrics.json"),
                pd.concat(parts).set_index("configuration"),
                pd.concat(measured),
            ),
            *differing(everything),
        ),
    )


def _protocols(result: Results) -> str:
    """What a sample has beside it under each of them, and what the twin has not."""
    return (
        "inductive, every sample alone against the bank of training samples, is the protocol to "
        "deploy; batch are random test batches; no_graph is without neighbours. "
        "sorted is an audit of the leak through the order of the samples and never a result."
        + (f" {tables.ONE_BATCH}" if tables.one_batch(result.metrics) else "")
        + _twin(result)
    )


def _twin(result: Results) -> str:
    """How the model without a graph was trained that the graph student is measured by."""
    if "twin" not in result.metrics["baselines"]:
        return ""
    training = result.run.config.training
    passes = (
        f"it learned for as many passes of stage two ({training.graph_epochs}), without a graph."
    )
    if training.twin_kd_weight in (None, training.kd_weight):
        if training.stage_two == "joint":
            return f" The twin begins stage two with the same stem, which goes on, and {passes}"
        return f" The twin has the same stem and hence the same features, and {passes}"
    return (
        f" The twin has the same kind of stem, distilled by itself (kd_weight "
        f"{training.twin_kd_weight:g} instead of {training.kd_weight:g}), and {passes}"
    )


def _spread(results: Sequence[Results]) -> str:
    if len(results) > 1:
        return f"mean ± standard deviation over {len(results)} runs"
    repeats = results[0].metrics["student"]["accuracy"]["batch"]["repeats"]
    if repeats == 1 or tables.one_batch(results[0].metrics):
        return "of one run"
    return "of batch ± standard deviation over reshuffles"


def _costs(result: Results) -> Exhibit:
    costs = cost_table(result)
    speed = result.metrics["student"]["images_per_second"]
    times = (environment.measured("cpu"), result.metrics["measured"])
    now, then = (environment.in_words(time) for time in times)
    table = pd.DataFrame(
        {
            "multiply-adds [M]": [f"{value / 1e6:.1f}" for value in costs["multiply_adds"]],
            "latency [ms]": [f"{value:.2f}" for value in costs["milliseconds"]],
        },
        index=[tables.STAGES[stage] for stage in costs.index],
    )
    source = result.source(STUDENT_FILE, BANK_FILE)
    return Exhibit(
        "cost",
        "Multiply-adds: convolutions and matrix products of one sample, with the search in the "
        f"bank; latency: median of one sample at a time, {now}. When the run ended, the student "
        f"classified {speed['inductive']:,.0f} samples a second under inductive and "
        f"{speed['batch']:,.0f} in batches, {then} ({result.source('metrics.json')}).",
        source,
        table,
        costs.rename_axis("model").reset_index().assign(run=result.name, source=source),
    )


def training(results: Sequence[Results]) -> Section:
    """How loss and validation accuracy came about, in both stages."""
    history = [row for result in results for row in result.run.history()]
    graph = results[0].has_graph
    learned = "learns the graph and its layers" if graph else "goes on with the base branch"
    return Section(
        "Training",
        f"Stage one distils stem and base branch. Stage two {learned}; its loss moves no "
        "features. Each stage and model has a loss of its own: curves compare in "
        "accuracy, not in loss.",
        (
            Exhibit(
                "training_curves",
                "Training loss and validation accuracy by epoch; right of the dotted line, of "
                "stage two"
                + (", where accuracy without neighbours is dashed" if graph else "")
                + (", mean and one standard deviation." if len(results) > 1 else "."),
                sources(results, "metrics.jsonl"),
                figures.training_curves(history),
            ),
        ),
    )

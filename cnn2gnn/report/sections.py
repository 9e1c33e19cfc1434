"""What the report says of runs of one configuration: figures and tables in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from matplotlib.figure import Figure

from cnn2gnn.explore import coordinates
from cnn2gnn.explore.mixing import class_mixing
from cnn2gnn.explore.nodes import BANK, TEST
from cnn2gnn.explore.sensitivity import batch_sensitivity
from cnn2gnn.report import figures, graph_figures, measures, prediction_figures, tables
from cnn2gnn.report.cost import cost_table, machine
from cnn2gnn.report.image_figures import neighbour_sheet
from cnn2gnn.report.results import Results

SHOWN = 5  # images of a sheet
NODES, WEIGHTS = "nodes.safetensors", ("student.safetensors", "bank.safetensors")


@dataclass(frozen=True)
class Exhibit:
    """A figure or table.

    Attributes:
        name: of its files; caption: what it shows; source: the files that its numbers are from.
        content: the figure, or the table as people read it.
        numbers: of a table, unrounded, one row a measurement; None: `content` itself.
    """

    name: str
    caption: str
    source: str
    content: Figure | pd.DataFrame
    numbers: pd.DataFrame | None = None


@dataclass(frozen=True)
class Section:
    """Exhibits under one heading; shows itself in a notebook."""

    title: str
    text: str
    exhibits: tuple[Exhibit, ...]

    def _repr_html_(self) -> str:
        from cnn2gnn.report.page import render_section

        return render_section(self)


def sections(results: Sequence[Results]) -> list[Section]:
    """Build all sections of runs that differ in their seeds alone.

    What only one run can show, such as images, is the first run's; captions name it.
    """
    with_graph = all(result.has_graph for result in results)
    parts = [accuracy(results), training(results)]
    if with_graph:
        parts += [batches(results), graph(results), classes(results), images(results[0])]
    return [*parts, predictions(results), origin(results)]


def accuracy(results: Sequence[Results]) -> Section:
    """Accuracies and cost of all models; what the graph and distillation are worth."""
    measured = tables.measured_accuracies(results)
    table = tables.accuracy_table([result.metrics for result in results])
    metrics = _sources(results, "metrics.json")
    costs, cost_source = [], metrics
    if results[0].has_graph:
        costs = [_costs(results[0])]
        table = table.join(costs[0]).fillna(tables.NONE)
        cost_source += f"; multiply-adds and latency: {results[0].source(*WEIGHTS)}"
    gains = tables.differences(measured)
    several = f"mean ± standard deviation over {len(results)} runs" if len(results) > 1 else ""
    images = results[0].metrics["images"]["test"]
    return Section(
        "Accuracy",
        f"{images:,} test images, so that one image is {100 / images:.2f} points. "
        "`anchors`, every image alone against the bank of training images, is the protocol to "
        "deploy; `batch` are random test batches; `alone` is without neighbours. "
        "`sorted` is an audit of the leak through the order of the images and never a result.",
        (
            Exhibit(
                "accuracy",
                "Test accuracy in % "
                + (several or "(batch: ± standard deviation over reshuffles)")
                + ". Multiply-adds: convolutions and matrix products of one image, with the search "
                f"in the bank; latency: median of one image at a time, {machine()}.",
                cost_source,
                table,
                measured,
            ),
            Exhibit(
                "differences",
                "The graph student under anchors minus the others, in points, paired by run. "
                "Negative: the graph student is worse.",
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
        ),
    )


def _costs(result: Results) -> pd.DataFrame:
    costs = cost_table(result)
    return pd.DataFrame(
        {
            "multiply-adds [M]": [f"{value / 1e6:.1f}" for value in costs["multiply_adds"]],
            "latency [ms]": [f"{value:.2f}" for value in costs["milliseconds"]],
        },
        index=[tables.STAGES[stage] for stage in costs.index],
    )


def training(results: Sequence[Results]) -> Section:
    """How loss and validation accuracy came about."""
    history = [row for result in results for row in result.run.history()]
    return Section(
        "Training",
        "The loss of a student is not the cross-entropy that a model without a teacher has: curves "
        "of different models compare in accuracy, not in loss.",
        (
            Exhibit(
                "training_curves",
                "Training loss and validation accuracy by epoch"
                + (", mean and one standard deviation." if len(results) > 1 else "."),
                _sources(results, "metrics.jsonl"),
                figures.training_curves(history),
            ),
        ),
    )


def batches(results: Sequence[Results]) -> Section:
    """How the prediction depends on the batch: honestly shuffled, and sorted as an audit."""
    sizes = tables.tidy(results, lambda r: measures.batch_sizes(r.nodes), NODES, *WEIGHTS)
    metrics = [result.metrics["student"]["accuracy"] for result in results]
    alone, anchors = (
        sum(m[protocol] for m in metrics) / len(metrics) for protocol in ("alone", "anchors")
    )
    source = _sources(results, NODES, *WEIGHTS)
    shown = sizes.pivot_table("accuracy", "batch_size", ["order"], aggfunc=["mean", "std"]) * 100
    table = pd.DataFrame(
        {
            "shuffled [%]": [
                tables.plus_minus(*row) for row in zip(shown["mean", "shuffled"],
                                                       shown["std", "shuffled"], strict=True)
            ],
            "sorted (audit) [%]": [tables.number(value) for value in shown["mean", "sorted"]],
        },
        index=shown.index.rename("batch size"),
    )  # fmt: skip
    return Section(
        "Batches, and the audit",
        "A graph student may depend on the images that stand beside it. Whoever evaluates on an "
        "unshuffled folder, sorted by class, measures the second curve of the audit.",
        (
            Exhibit(
                "accuracy_by_batch_size",
                "Accuracy in shuffled test batches by their size; bars: one standard deviation.",
                f"{source}; alone and anchors: {_sources(results, 'metrics.json')}",
                figures.accuracy_by_batch_size(sizes, alone, anchors),
            ),
            Exhibit(
                "audit",
                "Audit, no result: batches sorted by class against shuffled ones.",
                source,
                figures.audit(sizes),
            ),
            Exhibit(
                "batch_sizes",
                "Accuracy in batches by their size: mean ± standard deviation over reshuffles"
                + (" and runs." if len(results) > 1 else "."),
                source,
                table,
                sizes,
            ),
        ),
    )


def graph(results: Sequence[Results]) -> Section:
    """The learned graph as a whole."""
    first, graphs = results[0].nodes, [result.nodes.graph for result in results]
    labels, bank_labels = first.labels[TEST], first.labels[BANK]
    names = results[0].classes
    mixing = torch.stack(
        [
            class_mixing(
                r.nodes.labels[TEST],
                r.nodes.labels[BANK][r.nodes.graph.neighbours],
                r.nodes.graph.weights,
                len(names),
            )
            for r in results
        ]
    ).mean(0)
    summary = tables.tidy(
        results, lambda r: measures.graph_summary(r.nodes), NODES, "bank.safetensors"
    )
    every, one = _sources(results, NODES, "bank.safetensors"), results[0].source(NODES)
    adjacency = graph_figures.adjacency(first.graph, labels, bank_labels, names)
    places = coordinates.obtain_umap(first)
    return Section(
        "The learned graph",
        "Every test image spreads one unit of weight over its k nearest images of the bank.",
        (
            Exhibit(
                "graph",
                "The graph in numbers.",
                every,
                tables.over_runs(summary, "measure"),
                summary,
            ),
            Exhibit(
                "adjacency",
                f"Adjacency matrix of {results[0].name}, both sides ordered by class; "
                "white: less than a tenth of chance.",
                f"{one}, {results[0].source('bank.safetensors')}",
                adjacency,
            ),
            Exhibit(
                "class_mixing",
                "Class mixing: the weight that images of a class (row) give to each class.",
                every,
                prediction_figures.class_matrix(mixing, names, "test image", "its neighbours"),
            ),
            Exhibit(
                "distributions",
                "How often images of the bank are looked at, edge weights, and over how many "
                "neighbours an image spreads its weight.",
                every,
                graph_figures.distributions(graphs),
            ),
            Exhibit(
                "umap",
                f"UMAP of the node features of {results[0].name}: test images (large), bank "
                "(small), and the heaviest edges, one an image.",
                results[0].source(NODES, "bank.safetensors", coordinates.FILE.as_posix()),
                graph_figures.umap_with_edges(places, first.graph, labels, bank_labels, names),
            ),
        ),
    )


def classes(results: Sequence[Results]) -> Section:
    """Which classes the graph serves."""
    table = tables.tidy(results, measures.per_class, NODES, "bank.safetensors")
    shares = [name for name in table if name not in ("class", "images", "run", "source")]
    source = _sources(results, NODES, "bank.safetensors")
    return Section(
        "Classes",
        "Does the graph help where it keeps to the class? A line leads from the accuracy without "
        "neighbours to that with them.",
        (
            Exhibit(
                "homophily_against_accuracy",
                "Test accuracy with neighbours (filled) and without (hollow) over homophily.",
                source,
                graph_figures.homophily_against_accuracy(table, results[0].classes),
            ),
            Exhibit(
                "classes",
                "Accuracy, homophily (share of edges) and purity (share of weight) by class.",
                source,
                tables.over_runs(table, "class", shares),
                table,
            ),
        ),
    )


def images(result: Results) -> Section:
    """The images that the graph helped and harmed most, and the ones that depend on company."""
    nodes = result.nodes
    gain = measures.true_probability_gain(nodes)
    k = nodes.graph.neighbours.shape[1]
    sensitivity = batch_sensitivity(nodes, batch_size=max(100, k + 2))
    confidence, predicted = nodes.logits.softmax(1).max(1)
    mistakes = torch.where(predicted != nodes.labels[TEST], confidence, -1.0)
    source = result.source(NODES, "bank.safetensors")
    exhibits = [
        _sheet(result, name, caption, values, source)
        for name, caption, values in (
            ("images_best", "Best: the neighbours raise the true class's probability most", gain),
            ("images_worst", "Worst: the neighbours lower it most", -gain),
            ("images_mistaken", "The most confident mistakes", mistakes),
            ("images_sensitive", "The most batch-sensitive: the true class's probability varies "
             "most with the other images of random batches", sensitivity),
        )
        if (values > 0).any()
    ]  # fmt: skip
    return Section(
        "Images",
        f"Test images of {result.name} and their heaviest neighbours with edge weights. Blue "
        "frame: of the image's class; dashed vermilion: of another.",
        tuple(exhibits),
    )


def _sheet(result: Results, name: str, caption: str, values: torch.Tensor, source: str) -> Exhibit:
    best = values.argsort(descending=True, stable=True)[:SHOWN]
    chosen = [int(index) for index in best if values[index] > 0]
    amounts = ", ".join(f"{values[index]:.2f}" for index in chosen)
    return Exhibit(name, f"{caption} ({amounts}).", source, neighbour_sheet(result.nodes, chosen))


def predictions(results: Sequence[Results]) -> Section:
    """Confidence, confusion and agreement with the teacher."""
    pooled = {
        model: (
            torch.cat([r.tensors[name] for r in results]),
            torch.cat([r.tensors["labels"] for r in results]),
        )
        for model, name in (
            ("teacher", "teacher_logits"), ("own", "own_logits"), ("student", "logits")
        )
        if model != "own" or results[0].has_graph
    }  # fmt: skip
    agreements = tables.tidy(results, measures.agreement, NODES)
    errors = agreements.groupby("model")["ece"].mean().to_dict()
    calibrations = {model: measures.calibration(*pair) for model, pair in pooled.items()}
    source, names = _sources(results, NODES), results[0].classes
    shares = ["agreement", "both", "teacher only", "student only", "neither", "ece"]
    shown = agreements.replace({"model": prediction_figures.NAMES})
    return Section(
        "Predictions",
        "Of the graph student under anchors, of the same student without neighbours, and of the "
        "teacher.",
        (
            Exhibit(
                "reliability",
                f"Reliability diagram, {measures.BINS} bins; below, the share of images. ECE: "
                "expected calibration error, 15 bins.",
                source,
                prediction_figures.reliability(calibrations, errors),
            ),
            Exhibit(
                "confusion",
                "Confusion: what test images of a class (row) are taken for.",
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


def origin(results: Sequence[Results]) -> Section:
    """Which runs these are, and on what they were made."""
    rows = [
        {
            "run": r.name,
            "dataset": r.metrics["dataset"],
            "teacher": r.metrics["teacher"]["name"],
            **{name: r.choices()[name] for name in ("stem", "graph", "scope", "k", "epochs")},
            "seed": r.seed,
            "source": r.source("metrics.json", "config.json"),
        }
        for r in results
    ]
    table = pd.DataFrame(rows)
    return Section(
        "Runs",
        results[0].metrics["protocol"].capitalize() + ".",
        (
            Exhibit(
                "runs",
                "The runs of this report.",
                _sources(results, "metrics.json", "config.json"),
                table.drop(columns="source").set_index("run"),
                table,
            ),
        ),
    )


def _sources(results: Sequence[Results], *files: str) -> str:
    return "; ".join(result.source(*files) for result in results)

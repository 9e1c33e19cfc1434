"""Sections on the learned graph: as a whole, by class, and image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.mixing import class_mixing
from cnn2gnn.evaluation.nodes import BANK, TEST
from cnn2gnn.evaluation.sensitivity import batch_sensitivity
from cnn2gnn.report import graph_figures, measures, prediction_figures, tables
from cnn2gnn.report.image_figures import neighbour_sheet
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import BANK_FILE, NODES_FILE, Exhibit, Section, sources

SHOWN = 5  # images of a sheet


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
    ).nanmean(0)
    summary = tables.tidy(results, lambda r: measures.graph_summary(r.nodes), NODES_FILE, BANK_FILE)
    every, one = sources(results, NODES_FILE, BANK_FILE), results[0].source(NODES_FILE)
    adjacency = graph_figures.adjacency(first.graph, labels, bank_labels, names)
    places = coordinates.obtain_umap(first)
    heads = results[0].run.config.student.heads
    keys = f" for each of {heads} keys" if heads > 1 else ""
    return Section(
        "The learned graph",
        f"Every test node spreads its weight over up to k nodes of the bank{keys}, as the layer "
        "weighs them.",
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
                "Class mixing: the weight that nodes of a class (row) give to each class; white: "
                "it has none.",
                every,
                prediction_figures.class_matrix(mixing, names, "test node", "its neighbours"),
            ),
            Exhibit(
                "distributions",
                "How often nodes of the bank are looked at, edge weights, and over how many "
                "neighbours a node spreads its weight.",
                every,
                graph_figures.distributions(graphs),
            ),
            Exhibit(
                "umap",
                f"UMAP of {coordinates.described(first)}, of {results[0].name}: test nodes "
                "(large), bank (small), and the heaviest edges, one a node.",
                results[0].source(NODES_FILE, BANK_FILE, *coordinates.saved_files(first)),
                graph_figures.umap_with_edges(places, first.graph, labels, bank_labels, names),
            ),
        ),
    )


def classes(results: Sequence[Results]) -> Section:
    """Which classes the graph serves."""
    table = tables.tidy(results, measures.per_class, NODES_FILE, BANK_FILE)
    shares = [name for name in table if name not in ("class", "images", "run", "source")]
    source = sources(results, NODES_FILE, BANK_FILE)
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
    sensitivity = batch_sensitivity(nodes)
    confidence, predicted = nodes.logits.softmax(1).max(1)
    mistakes = torch.where(predicted != nodes.labels[TEST], confidence, -1.0)
    source = result.source(NODES_FILE, BANK_FILE)
    exhibits = [
        _sheet(result, name, caption, values, source)
        for name, caption, values in (
            ("images_best", "Best: the neighbours raise the true class's probability most", gain),
            ("images_worst", "Worst: the neighbours lower it most", -gain),
            ("images_mistaken", "The most confident mistakes", mistakes),
            ("images_sensitive", "The most batch-sensitive: the true class's probability varies "
             "most with the other nodes of random batches", sensitivity),
        )
        if (values > 0).any()
    ]  # fmt: skip
    return Section(
        "Node by node",
        f"Test nodes of {result.name} and their heaviest neighbours with edge weights. Blue "
        "frame: of the node's class; dashed vermilion: of another.",
        tuple(exhibits),
    )


def _sheet(result: Results, name: str, caption: str, values: torch.Tensor, source: str) -> Exhibit:
    best = values.argsort(descending=True, stable=True)[:SHOWN]
    chosen = [int(index) for index in best if values[index] > 0]
    amounts = ", ".join(f"{values[index]:.2f}" for index in chosen)
    return Exhibit(name, f"{caption} ({amounts}).", source, neighbour_sheet(result.nodes, chosen))

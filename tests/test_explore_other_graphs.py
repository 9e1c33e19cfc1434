"""What explorer and report show of graphs whose rows are no plain ones: heads, and degrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import small_config

from cnn2gnn import Explorer, distil
from cnn2gnn.data import load
from cnn2gnn.drawing.pictures import adjacency_blocks
from cnn2gnn.evaluation.nodes import BANK, TEST
from cnn2gnn.explore import export
from cnn2gnn.explore.pictures import thumbnail
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.graph import AdaptiveNeighbours, SparseGraph, purity
from cnn2gnn.notebooks import runner
from cnn2gnn.report.graph_figures import distributions
from cnn2gnn.report.measures import graph_summary
from cnn2gnn.report.model_card import model_card
from cnn2gnn.runs import Run

FEW: dict[str, Any] = {"train_images": 300, "epochs": 1, "teacher_epochs": 1, "graph_epochs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A graph of two heads, whose weights degrees divide."""
    folder = tmp_path_factory.mktemp("runs")
    more = {"heads": 2, "layer": "gcn", "baselines": "twin", **FEW}
    return distil(small_config(folder, run="heads", **more))


@pytest.fixture
def other(run: Run) -> ExplorerState:
    return ExplorerState(run)


def test_class_mixing_and_adjacency_are_of_shares(other: ExplorerState) -> None:
    nodes = other.nodes
    labels, bank_labels = nodes.labels[TEST], nodes.labels[BANK]
    assert (nodes.graph.weights.sum(1) < 0.95).all()
    torch.testing.assert_close(other.edges.mixing.sum(1), torch.ones(10))
    of_class = torch.stack(
        [purity(nodes.graph, labels, bank_labels)[labels == c].mean() for c in range(10)]
    )
    torch.testing.assert_close(other.edges.mixing.diagonal(), of_class)
    blocks = adjacency_blocks(nodes.graph, labels, bank_labels)
    assert blocks.mean() == pytest.approx(1, abs=0.02)


def test_the_ego_graph_has_edges_alone(other: ExplorerState) -> None:
    graph, hop = other.ego(2), other.ego(2).nodes(data="hop")
    first = [node for node, at in hop if at == 1]
    found = other.nodes.bank_graph(torch.tensor([node.index for node in first])).dense()
    for node, weights in zip(first, found, strict=True):
        told = graph.out_edges(node, data="weight")
        assert len(told) == min(3, int((weights > 0).sum()))
        for _, end, weight in told:
            assert weight == pytest.approx(weights[end.index].item()) and weight > 0


def test_the_atlas_has_edges_alone(other: ExplorerState, tmp_path: Path) -> None:
    path = export.export_atlas(other, tmp_path / "atlas.parquet")
    for line in pyarrow.parquet.read_table(path).to_pylist():
        ids, weights = line["neighbors"]["ids"], line["neighbor_weights"]
        assert len(ids) == len({*ids}) == len(line["neighbors"]["distances"])
        assert min(weights) > 0


def test_the_number_of_neighbours_is_that_of_a_head(other: ExplorerState) -> None:
    assert dict(graph_summary(other.nodes).to_numpy())["neighbours k"] == 10


def test_notebook_03_holds_for_it(run: Run) -> None:
    where = {"runs_dir": str(run.folder.parent), "run": run.folder.name}
    executed = runner.execute(runner.find("03"), where)
    said = "".join(out.get("text", "") for c in executed.cells for out in c.get("outputs", ()))
    assert "weight within a class, mean over classes: 0." in said


def test_the_map_keeps_the_bank_and_comes_back(run: Run) -> None:
    explorer = Explorer(run, interactive=False)
    nodes = explorer.state.nodes
    explorer.list.controls["sort"].value = "mistakes"
    assert explorer.map.scatter.widget.filter is None
    explorer.list.controls["verdicts"].value = ("wrong",)
    shown = explorer.map.scatter.widget.filter
    wrong = np.flatnonzero(explorer.state.table["verdict"] == "wrong")
    assert np.array_equal(shown, [*wrong, *range(len(nodes), nodes.rows)])
    explorer.list.controls["verdicts"].value = ()
    assert explorer.map.scatter.widget.filter is None


def test_a_graph_of_ones_own_has_its_own_k(tmp_path: Path) -> None:
    config = small_config(tmp_path, run="own", baselines="", **FEW)
    run = distil(config, graph=AdaptiveNeighbours(7), data=load("digits", train_images=300))
    explorer = Explorer(run)
    control = explorer.what_if.controls["k"]
    assert control.value == len(explorer.state.edited().neighbours) == 7
    for k in (12, 10, 7):
        control.value = k
        assert len(explorer.state.edited().neighbours) == k
    card = model_card(run)
    assert "in a graph of its author's own (`AdaptiveNeighbours " in card
    assert "Predictor.load(load_run('own', graph=…))" in card and "cnn2gnn export" not in card


def test_a_graph_by_chance_is_no_graph_of_similar_samples(tmp_path: Path) -> None:
    card = model_card(distil(small_config(tmp_path, graph="random", baselines="", **FEW)))
    assert "meets 10 training samples by chance, with their labels." in card
    assert "similar" not in card and "cnn2gnn export" not in card


def test_other_classes_or_no_graph_cannot_be_compared(run: Run, tmp_path: Path) -> None:
    few = {**FEW, "baselines": ""}
    vowels = distil(small_config(tmp_path, run="v", dataset="vowels", image_size=16, **few))
    with pytest.raises(ValueError, match="compare='v' has the classes a, .* this run 0, 1, 2"):
        ExplorerState(run, vowels)
    plain = distil(small_config(tmp_path, run="none", graph="none", **few))
    with pytest.raises(ValueError, match="compare='none' has no graph"):
        ExplorerState(run, plain)


def test_too_little_of_the_bank_is_named(other: ExplorerState) -> None:
    with pytest.raises(ValueError, match=r"bank_share=0\.01 leaves \d of \d+ nodes, too few for k"):
        other.what_if(bank_share=0.01)
    with pytest.raises(ValueError, match=r"k=2\.5 must be a whole number of at least 1"):
        other.what_if(k=2.5)


@pytest.mark.parametrize("k", [7, 15, 20, 30])
def test_equal_weights_are_k_effective_neighbours_in_the_figure(k: int) -> None:
    graph = SparseGraph(torch.randint(0, 100, (50, k)), torch.full((50, k), 1 / k), None, 100)
    bars = distributions([graph]).axes[2].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(100)


def test_a_flat_picture_has_a_thumbnail() -> None:
    assert thumbnail(torch.zeros(3, 4, 600, dtype=torch.uint8)).startswith("data:image/png")

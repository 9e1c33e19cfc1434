"""The map's coordinates and colours, and what is taken along as files."""

from __future__ import annotations

import shutil

import networkx
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import BANK, TEST
from cnn2gnn.explore import colouring, export
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.runs import Run


def test_of_one_dimension_pca_shows_one():
    keys = torch.tensor([[3.0], [1.0], [2.0]])
    assert coordinates.pca(keys).tolist() == [[1, 0], [-1, 0], [0, 0]]


def test_pca_is_pca():
    features = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.arange(1.0, 8)
    )
    ours, theirs = coordinates.pca(features).numpy(), PCA(2).fit_transform(features.numpy())
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # nor needed
def test_umap_is_computed_once_and_never_stale(small_run, tmp_path):
    folder = shutil.copytree(
        small_run.folder, tmp_path / "mapless", ignore=shutil.ignore_patterns("umap*")
    )
    state = ExplorerState(Run.open(folder))
    state.use_umap()
    first = state.places
    assert first.shape == (state.nodes.rows, 2)
    keys = state.nodes.together(state.nodes.keys)
    kept = [trustworthiness(keys, places) for places in (first, coordinates.pca(keys))]
    assert kept[0] > max(0.85, kept[1])
    again = ExplorerState(Run.open(folder))
    assert torch.equal(coordinates.saved_umap(again.nodes), first)
    again.nodes.keys[TEST] = again.nodes.keys[TEST] + 1
    assert coordinates.saved_umap(again.nodes) is None


@pytest.mark.parametrize("by", ["class", "prediction", "correctness", "disagreement", "confidence"])
def test_colours_follow_the_table(state, by):
    colours = state.colours(by)
    assert len(colours.codes) == state.nodes.rows
    names = np.array(colours.names)[colours.codes[: len(state.nodes)]]
    column = {"class": "label", "prediction": "predicted", "correctness": "verdict"}.get(by)
    if column:
        assert names.tolist() == state.table[column].tolist()
    else:
        bounds = [tuple(map(float, name.split("–"))) for name in names]
        values = state.table[by]
        assert all(
            low - 0.01 <= v <= high + 0.01 for (low, high), v in zip(bounds, values, strict=True)
        )


def test_degree_counts_who_looks_at_a_bank_node(state):
    colours = state.colours("degree")
    hub = int(state.nodes.graph.neighbours.flatten().bincount().argmax())
    assert colours.codes[len(state.nodes) + hub] == len(colours.colours) - 1
    with pytest.raises(ValueError, match="colour='size' must be one of"):
        state.colours("size")


@pytest.mark.parametrize("most", [1, 2, 3, 5, 40])
def test_degrees_are_whole_numbers_and_each_has_one_colour(state, monkeypatch, most):
    bank = np.arange(len(state.nodes.bank)) % (most + 1)
    monkeypatch.setattr(colouring, "bank_degree", lambda nodes: bank)
    codes, _, names = colouring.colouring(state.nodes, state.table.assign(degree=1), "degree")
    pd.Categorical.from_codes(codes, names)  # as the map takes them: each name once
    for degree, code in zip(bank, codes[len(state.nodes) :], strict=True):
        low, *high = map(int, names[code].split("–"))
        assert low <= degree <= (high or [low])[0]


@pytest.mark.parametrize(("suffix", "read"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_a_selection_is_exported(state, tmp_path, suffix, read):
    state.lasso([3, 8, len(state.nodes) + 2])
    table = read(export.export_selection(state, tmp_path / f"selection{suffix}"))
    assert table["part"].tolist() == [TEST, TEST, BANK]
    assert table["index"].tolist() == [3, 8, 2]
    assert table["label"].astype(str).tolist() == [
        state.table["label"][3],
        state.table["label"][8],
        state.nodes.classes[state.nodes.labels[BANK][2]],
    ]
    assert table["predicted"].isna().tolist() == [False, False, True]


def test_without_a_selection_what_is_listed_is_exported(state, tmp_path):
    listed = state.with_filters(sort="mistakes", verdicts=("wrong", "harmed"))
    table = pd.read_csv(export.export_selection(state, tmp_path / "mistakes.csv"))
    assert table["index"].tolist() == listed.tolist()


def test_the_graph_is_exported_to_graphml(state, tmp_path):
    state.lasso([2, 5])
    graph = networkx.read_graphml(export.export_graphml(state, tmp_path / "graph.graphml"))
    for index in (2, 5):
        edges = graph.adj[f"test {index}"]
        weights = {
            f"bank {other}": weight
            for other, weight in zip(
                state.nodes.graph.neighbours[index].tolist(),
                state.nodes.graph.weights[index].tolist(),
                strict=True,
            )
            if weight > 0
        }
        assert {name: edge["weight"] for name, edge in edges.items()} == pytest.approx(weights)
        assert graph.nodes[f"test {index}"]["label"] == state.table["label"][index]
    state.lasso([])
    whole = networkx.read_graphml(export.export_graphml(state, tmp_path / "whole.graphml"))
    assert whole.number_of_edges() == int((state.nodes.graph.weights > 0).sum())


def test_embedding_atlas_gets_rows_and_neighbours(state, tmp_path):
    path = export.export_atlas(state, tmp_path / "atlas.parquet")
    table = pyarrow.parquet.read_table(path)
    nodes, lines = state.nodes, table.to_pylist()
    assert len(lines) == nodes.rows
    assert {"projection_x", "projection_y", "label", "image"} <= set(table.column_names)
    neighbours = lines[4]["neighbors"]
    assert set(neighbours) == {"ids", "distances"}
    for row, distance in zip(neighbours["ids"], neighbours["distances"], strict=True):
        difference = nodes.keys[TEST][4] - nodes.bank.keys[row - len(nodes)]
        expected = difference.square().sum()
        assert distance == pytest.approx(float(expected), rel=1e-3)
    last = nodes.rows - 1
    assert last not in lines[last]["neighbors"]["ids"]
    assert all(len(nodes) <= row <= last for line in lines for row in line["neighbors"]["ids"])
    file = tmp_path / "image.png"
    file.write_bytes(lines[4]["image"]["bytes"])
    assert np.array_equal(np.asarray(Image.open(file)), nodes.splits.test.images[4, 0].numpy())


def test_an_unknown_format_is_an_error_and_leaves_no_file(state, tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.csv, \.parquet"):
        export.export_selection(state, tmp_path / "selection.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"):
        ExplorerState(tmp_path)

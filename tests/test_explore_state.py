"""The explorer's state on a real run: everything a click does, without a browser."""

from __future__ import annotations

import networkx
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import torch
from conftest import small_config
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from cnn2gnn.distil import distil
from cnn2gnn.explore import coordinates, export
from cnn2gnn.explore.mixing import class_mixing
from cnn2gnn.explore.nodes import BANK, TEST, Node
from cnn2gnn.explore.query import WhatIf, thinned
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import predict
from cnn2gnn.graph import SparseGraph

CHANGES = [
    {},
    {"k": 3},
    {"min_weight": 0.08},
    {"bank_share": 0.5},
    {"protocol": "batch", "seed": 3},
    {"k": 6, "min_weight": 0.1, "bank_share": 0.7},
]


@pytest.fixture(scope="module")
def shared(small_run):
    return ExplorerState(small_run)


@pytest.fixture
def state(shared):
    """The same state, looking at test node 0 as if nothing had happened."""
    shared.select(0)
    shared.reset()
    shared._past.clear()
    shared.lasso([])
    shared.with_filters(
        classes=(), verdicts=(), disagree=False, confidence=(0, 1), min_weight=0, sort="index"
    )
    return shared


@pytest.fixture(scope="module")
def batch_state(small_run):
    config = small_config(small_run.folder.parent, run="batch", scope="batch", epochs=2)
    return ExplorerState(distil(config))


# --- the evidence is exact -----------------------------------------------------------------------


def test_recomputed_predictions_are_those_of_the_run(state):
    for index in range(0, len(state.nodes), 23):
        state.select(index)
        original = state.original()
        torch.testing.assert_close(original.logits, state.nodes.logits[index], atol=1e-4, rtol=0)
        assert original.gate == pytest.approx(float(state.nodes.gate[index]), abs=1e-5)


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("node", [Node(TEST, 5), Node(BANK, 7)], ids=str)
def test_contributions_sum_to_the_correction(state, node, change):
    state.select(node)
    found = state.what_if(**change)
    correction = found.logits - found.own_logits
    assert correction.abs().max() > 1e-3
    torch.testing.assert_close(found.contributions.sum(0), correction, atol=1e-5, rtol=0)


def test_each_contribution_is_c_g_s_r(state):
    found = state.original()
    scale, bank = state.nodes.student.evidence_scale, state.nodes.bank
    for position, neighbour in enumerate(found.neighbours):
        own = state.nodes.student.own(bank.features[neighbour.index][None])[0].softmax(0)
        for index in range(len(state.nodes.classes)):
            residual = float(bank.labels[neighbour.index] == index) - float(own[index])
            expected = scale * found.gate * float(found.weights[position]) * residual
            assert float(found.contributions[position, index]) == pytest.approx(expected, abs=1e-5)


def test_in_scope_batch_there_is_no_sum_over_edges(batch_state):
    batch_state.select(3)
    assert batch_state.original().contributions is None
    stored = batch_state.nodes.logits[3]
    torch.testing.assert_close(batch_state.original().logits, stored, atol=1e-4, rtol=0)


# --- what if -------------------------------------------------------------------------------------


def test_without_a_neighbour_is_what_the_student_says_of_the_graph_without_it(state):
    before = state.original()
    gone = before.neighbours[2]
    after = state.switch(gone, on=False)
    graph = state.nodes.graph
    kept = graph.neighbours[0] != gone.index
    weights = graph.weights[:1, kept]
    weights = weights / weights.sum()
    smaller = SparseGraph(
        graph.neighbours[:1, kept], weights, graph.distances[:1, kept], graph.sources
    )
    own, features = state.nodes.own_logits[TEST][:1], state.nodes.features[TEST][:1]
    expected = state.nodes.student.apply_graph(own, features, smaller, state.nodes.bank)
    torch.testing.assert_close(after.logits, expected.logits[0], atol=1e-5, rtol=0)
    assert not torch.equal(after.logits, before.logits)
    again = state.switch(gone, on=True)
    torch.testing.assert_close(again.logits, before.logits)


def test_a_replaced_neighbour_gives_its_place_to_the_next_one(state):
    before = state.original()
    after = state.what_if(off=frozenset(before.neighbours[:1]), replaced=True)
    assert len(after.neighbours) == len(before.neighbours)
    assert before.neighbours[0] not in after.neighbours
    assert set(before.neighbours[1:]) < set(after.neighbours)


def test_without_any_neighbour_the_own_branch_speaks(state):
    nothing = state.what_if(off=frozenset(state.original().neighbours))
    torch.testing.assert_close(nothing.logits, nothing.own_logits)
    assert nothing.gate == 0
    assert float(nothing.weights.sum()) == 0


def test_k_and_pruning_do_what_they_say(state):
    assert len(state.what_if(k=4).neighbours) == 4
    heaviest = float(state.original().weights[0])
    pruned = state.what_if(k=None, min_weight=heaviest - 1e-4)
    assert pruned.on.tolist() == [True] + [False] * 9
    assert pruned.weights.tolist() == [1.0] + [0.0] * 9


def test_a_bank_node_is_never_its_own_neighbour(state):
    for index in range(0, 100, 9):
        node = Node(BANK, index)
        for change in CHANGES:
            assert node not in predict(state.nodes, node, WhatIf(**change)).neighbours


@pytest.mark.parametrize("which", ["state", "batch_state"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_removing_every_edge_at_once_is_removing_one_by_one(which, change, request):
    state = request.getfixturevalue(which)
    state.select(11)
    state.what_if(**change)
    ranking = state.edge_ranking()
    now = state.edited()
    assert (ranking["change"].abs().diff().dropna() <= 1e-7).all()
    for position, line in ranking.iterrows():
        on = bool(now.on[position])
        then = state.switch(line["node"], on=False)
        state.switch(line["node"], on=True)
        expected = then.probabilities - now.probabilities
        assert line["change"] == pytest.approx(float(expected[now.predicted]), abs=1e-5)
        assert line["predicted"] == state.nodes.classes[then.predicted]
        assert on or line["change"] == pytest.approx(0, abs=1e-6)
    state.reset()


def test_the_ranking_of_many_nodes_is_that_of_each(state):
    together = state.rank_edges_of([4, 11])
    assert set(together["test"]) == {4, 11}
    for index in (4, 11):
        state.select(index)
        alone = state.edge_ranking().set_index("node")["change"]
        for _, line in together[together["test"] == index].iterrows():
            assert line["change"] == pytest.approx(alone[Node(BANK, line["bank"])], abs=1e-5)


def test_other_companions_change_the_batch_prediction_only(state):
    first, second = (state.what_if(protocol="batch", seed=seed) for seed in (1, 2))
    assert {node.part for node in first.neighbours + second.neighbours} == {TEST, BANK}
    assert not torch.equal(first.logits, second.logits)
    torch.testing.assert_close(state.what_if(protocol="batch", seed=1).logits, first.logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_weight": 2}, "min_weight=2 must be from 0 to 1"),
        ({"bank_share": 0}, "bank_share=0 must be above 0"),
        ({"protocol": "sorted"}, "protocol='sorted' must be one of anchors, batch"),
        ({"k": 0}, "k=0 must be at least 1"),
        ({"k": 100_000}, "k=100000"),
        ({"batch_size": 1}, "batch_size=1 must be at least 2"),
    ],
)
def test_a_wrong_change_is_one_error_and_changes_nothing(state, change, message):
    state.what_if(k=5)
    with pytest.raises(ValueError, match=message):
        state.what_if(**change)
    assert state.change == WhatIf(k=5)


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_a_thinned_graph_keeps_exactly_what_is_kept(kept):
    keep = torch.tensor(kept)
    n = len(keep)
    neighbours = torch.arange(4).expand(n, 4).contiguous()
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1]).expand(n, 4)
    distances = torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(n, 4)
    graph = thinned(SparseGraph(neighbours, weights, distances, 4), keep)
    wanted = weights * keep
    wanted = wanted / wanted.sum(1, keepdim=True).clamp(min=1e-9)
    torch.testing.assert_close(graph.dense(), wanted)
    for row in range(n):
        if keep[row].any():
            there = distances[row][keep[row]]
            assert graph.distances[row, 0] == there[0]
            assert graph.distances[row, -1] == there[-1]


# --- walking -------------------------------------------------------------------------------------


def test_walking_and_going_back(state):
    first = state.original().neighbours[1]
    assert state.walk(1) == first == state.selected
    second = state.walk(0)
    assert second.part == BANK
    assert second != first
    assert state.back() == first
    assert state.back() == Node(TEST, 0)
    assert state.back() == Node(TEST, 0)


def test_walking_forgets_what_was_changed(state):
    state.what_if(k=3)
    state.walk(0)
    assert state.change == WhatIf()
    assert len(state.edited().neighbours) == 10


@pytest.mark.parametrize("node", [-1, 10**6, Node(BANK, 10**6), Node("validation", 0)], ids=str)
def test_a_node_that_is_not_there_is_an_error(state, node):
    with pytest.raises(ValueError, match="there are test 0 to 448 and bank 0 to"):
        state.select(node)
    assert state.selected == Node(TEST, 0)


def test_the_card_says_what_the_tensors_say(state):
    wrong = state.with_filters(sort="mistakes")[0]
    for index in (0, int(wrong)):
        state.select(index)
        card, nodes = state.card(), state.nodes
        probabilities = nodes.logits[index].softmax(0)
        best = probabilities.argsort(descending=True)[:3]
        assert [name for name, _ in card.student] == [nodes.classes[i] for i in best]
        values = [value for _, value in card.student]
        assert values == pytest.approx(probabilities[best].tolist(), abs=1e-4)
        teacher = nodes.teacher_logits[index].softmax(0)
        assert card.teacher[0] == (
            nodes.classes[int(teacher.argmax())],
            pytest.approx(float(teacher.max())),
        )
        assert card.label == nodes.classes[nodes.splits.test.labels[index]]
        assert card.verdict == state.table["verdict"][index]
        labels = nodes.splits.train.labels[[node.index for node in card.neighbours["node"]]]
        assert card.neighbours["label"].tolist() == [nodes.classes[label] for label in labels]
        assert card.neighbours["weight"].is_monotonic_decreasing


def test_a_bank_node_is_asked_of_the_teacher(state):
    state.select(Node(BANK, 3))
    logits = state.nodes.teacher(state.nodes.splits.train.images[3:4])[0]
    assert state.card().teacher[0][0] == state.nodes.classes[int(logits.argmax())]


# --- tables, filters, classes --------------------------------------------------------------------


def test_the_table_agrees_with_the_run(state, small_run):
    accuracy = small_run.metrics()["student"]["accuracy"]
    assert state.table["correct"].mean() == pytest.approx(accuracy["anchors"])
    right_alone = state.table["verdict"].isin(["correct", "harmed"])
    assert right_alone.mean() == pytest.approx(accuracy["alone"])
    assert set(state.table["verdict"]) <= {"correct", "rescued", "harmed", "wrong"}
    assert ((state.table["verdict"] == "wrong") <= ~state.table["correct"]).all()


def test_filters_and_sorting(state):
    table = state.table
    threes = state.with_filters(classes=("3", "5"))
    assert set(table["label"][threes]) == {"3", "5"}
    assert len(threes) == table["label"].isin(["3", "5"]).sum()
    state.with_filters(classes=())
    mistakes = state.with_filters(sort="mistakes")
    wrong = int((~table["correct"]).sum())
    assert wrong > 0
    assert not table["correct"][mistakes[:wrong]].any()
    assert table["confidence"][mistakes[:wrong]].is_monotonic_decreasing
    unsure = state.with_filters(sort="confidence", confidence=(0.2, 0.9))
    assert table["confidence"][unsure].between(0.2, 0.9).all()
    assert table["confidence"][unsure].is_monotonic_increasing
    heavy = state.with_filters(sort="index", confidence=(0, 1), min_weight=0.3)
    assert set(heavy) == set(np.flatnonzero(state.nodes.graph.weights.amax(1) >= 0.3))
    quarrel = state.with_filters(min_weight=0, disagree=True)
    assert (table["predicted"] != table["teacher_predicted"])[quarrel].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sort": "size"}, "sort='size' must be one of"),
        ({"verdicts": ("right",)}, "verdicts='right' must be of"),
        ({"confidence": (0.9, 0.1)}, "must be an interval"),
        ({"sort": "batch_sensitivity"}, "compute_sensitivity"),
    ],
)
def test_a_wrong_filter_is_one_error_and_changes_nothing(small_run, change, message):
    state = ExplorerState(small_run)
    with pytest.raises(ValueError, match=message):
        state.with_filters(**change)
    assert len(state.listed) == len(state.nodes)


def test_images_ranked_by_batch_sensitivity(small_run):
    state = ExplorerState(small_run)
    state.compute_sensitivity()
    order = state.with_filters(sort="batch_sensitivity")
    values = state.table["batch_sensitivity"]
    assert values[order].is_monotonic_decreasing
    assert values.max() > 0
    most, least = int(order[0]), int(order[-1])

    def spread(index):
        state.select(index)
        label = state.nodes.label(state.selected)
        drawn = [state.what_if(protocol="batch", seed=seed) for seed in range(8)]
        return float(torch.stack([p.probabilities[label] for p in drawn]).std())

    assert spread(most) > spread(least)


def test_class_mixing_and_the_edges_of_a_cell(state):
    nodes, mixing = state.nodes, state.edges.mixing
    expected = torch.zeros(10, 10)
    for index, label in enumerate(nodes.labels[TEST].tolist()):
        for neighbour, weight in zip(
            nodes.graph.neighbours[index].tolist(), nodes.graph.weights[index].tolist(), strict=True
        ):
            expected[label, nodes.labels[BANK][neighbour]] += weight
    expected /= nodes.labels[TEST].bincount()[:, None]
    torch.testing.assert_close(mixing, expected, atol=1e-5, rtol=0)

    wrong = state.edges.between_classes()
    assert (wrong["label"] != wrong["neighbour_label"]).all()
    assert wrong["weight"].is_monotonic_decreasing
    row, column = (nodes.classes.index(wrong.iloc[0][c]) for c in ("label", "neighbour_label"))
    cell = state.edges.of_cell(row, column)
    assert cell.iloc[0].equals(wrong.iloc[0])
    edge = cell.iloc[0]
    position = nodes.graph.neighbours[edge["test"]].tolist().index(edge["bank"])
    assert float(nodes.graph.weights[edge["test"], position]) == pytest.approx(edge["weight"])


def test_class_mixing_leaves_out_unknown_labels():
    mixing = class_mixing(
        torch.tensor([0, 1]), torch.tensor([[1, -1], [1, 0]]), torch.tensor([[0.6, 0.4]] * 2), 2
    )
    torch.testing.assert_close(mixing, torch.tensor([[0.0, 0.6], [0.4, 0.6]]))


@given(
    st.lists(
        st.tuples(st.sampled_from(["replace", "add", "subtract"]), st.sets(st.integers(0, 300)))
    )
)
def test_the_lasso_is_set_algebra(shared, strokes):
    shared.lasso([])
    expected = set()
    for mode, rows in strokes:
        expected = {"replace": rows, "add": expected | rows, "subtract": expected - rows}[mode]
        shared.lasso(list(rows), mode)
    assert shared.selection.tolist() == sorted(expected)


# --- graph and time ------------------------------------------------------------------------------


def test_the_ego_graph_is_what_the_node_sees(state):
    one, two = state.ego(1), state.ego(2)
    original = state.original()
    seen = {
        node for node, weight in zip(original.neighbours, original.weights, strict=True) if weight
    }
    assert set(one) == {state.selected} | seen
    assert sum(weight for *_, weight in one.edges(data="weight")) == pytest.approx(1, abs=1e-5)
    for node, hop in two.nodes(data="hop"):
        if hop == 2:
            parents = list(two.predecessors(node))
            assert all(node in predict(state.nodes, parent).neighbours for parent in parents)
    with pytest.raises(ValueError, match="hops=3 must be 1 or 2"):
        state.ego(3)


def test_the_timeline_is_that_of_the_snapshots(state, small_run):
    snapshots = dict(small_run.snapshots())
    assert state.timeline.epochs == list(snapshots)
    last = state.timeline.epochs[-1]
    snapshot, line = snapshots[last], state.timeline.table.loc[last]
    same = snapshot["neighbour_labels"] == snapshot["labels"][:, None]
    assert line["purity"] == pytest.approx(float((snapshot["weights"] * same).sum(1).mean()))
    assert 1 <= line["effective_neighbours"] <= 10
    rows = {row["epoch"]: row for row in small_run.history() if row["stage"] == "student"}
    assert line["own_accuracy"] == pytest.approx(rows[last]["own_accuracy"])


def test_two_runs_stand_side_by_side(small_run, batch_state):
    state = ExplorerState(small_run, compare=batch_state.nodes.run)
    assert state.other.name == "batch"
    assert state.other.epochs == batch_state.timeline.epochs != []


# --- map and export ------------------------------------------------------------------------------


def test_pca_is_pca():
    features = torch.randn(200, 7, generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.arange(1.0, 8)
    )
    ours, theirs = coordinates.pca(features).numpy(), PCA(2).fit_transform(features.numpy())
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")  # nor needed
def test_umap_is_computed_once_and_never_stale(small_run):
    state = ExplorerState(small_run)
    state.use_umap()
    first = state.places
    assert first.shape == (state.nodes.rows, 2)
    assert torch.isfinite(first).all()
    again = ExplorerState(small_run)
    assert torch.equal(coordinates.saved_umap(again.nodes), first)
    again.nodes.features[TEST] = again.nodes.features[TEST] + 1
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
        keys = nodes.bank.project(nodes.features[TEST][4])
        expected = (keys - nodes.bank.keys[row - len(nodes)]).square().sum()
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

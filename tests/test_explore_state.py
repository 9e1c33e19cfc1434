"""The explorer's state on a real run: walking, lists, graph and time, without a browser."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import small_config
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation.mixing import class_mixing
from cnn2gnn.evaluation.nodes import BANK, TEST, Node
from cnn2gnn.evaluation.sensitivity import batch_sensitivity
from cnn2gnn.explore.clickable import ClickableMatrix
from cnn2gnn.explore.graph_figures import matrix_figure
from cnn2gnn.explore.matrices import show_mixing
from cnn2gnn.explore.query import WhatIf
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import predict

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
    assert state.table["correct"].mean() == pytest.approx(accuracy["inductive"])
    right_without_graph = state.table["verdict"].isin(["correct", "harmed"])
    assert right_without_graph.mean() == pytest.approx(accuracy["no_graph"])
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
        ({"verdicts": "wrong"}, r"verdicts='wrong' must be several: \('wrong', …\)"),
        ({"classes": "8"}, r"classes='8' must be several"),
        ({"classes": ("nope",)}, "classes='nope' must be of 0, 1, 2"),
        ({"confidence": (0.9, 0.1)}, "must be an interval"),
        ({"sort": "batch_sensitivity"}, "compute_sensitivity"),
    ],
)
def test_a_wrong_filter_is_one_error_and_changes_nothing(small_run, change, message):
    state = ExplorerState(small_run)
    with pytest.raises(ValueError, match=message):
        state.with_filters(**change)
    assert len(state.listed) == len(state.nodes)


def test_companions_change_where_images_are_few(small_run):
    """In one batch of all, every order has the same companions."""
    nodes = ExplorerState(small_run).nodes
    assert batch_sensitivity(nodes, batch_size=len(nodes) - 1).max() > 1e-3


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


def test_class_mixing_of_a_class_without_a_node_is_empty():
    mixing = class_mixing(torch.tensor([0]), torch.tensor([[1, 1]]), torch.tensor([[0.6, 0.4]]), 2)
    assert mixing[0].tolist() == [0, 1] and mixing[1].isnan().all()
    matrix = ClickableMatrix()
    show_mixing(matrix, mixing, ("cat", "dog"))
    assert matrix.texts == [["0.000", "1.000"], ["no node", "no node"]]
    assert matrix.colours[1] == ["#00000000"] * 2 and matrix.colours[0][1].endswith("ff")
    axes = matrix_figure(mixing, ("cat", "dog")).axes[0]
    assert [text.get_text() for text in axes.texts] == ["100"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["replace", "add", "subtract"]), st.sets(st.integers(0, 300)))
    )
)
def test_the_lasso_is_set_algebra(shared_state, strokes):
    shared_state.lasso([])
    expected = set()
    for mode, rows in strokes:
        expected = {"replace": rows, "add": expected | rows, "subtract": expected - rows}[mode]
        shared_state.lasso(list(rows), mode)
    assert shared_state.selection.tolist() == sorted(expected)


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
    assert list(snapshots) == [0, 1, 2, 3]
    assert state.timeline.passes == [1, 2, 3, 4]
    snapshot, line = snapshots[3], state.timeline.table.loc[4]
    same = snapshot["neighbour_labels"] == snapshot["labels"][:, None]
    assert line["purity"] == pytest.approx(float((snapshot["weights"] * same).sum(1).mean()))
    assert 1 <= line["effective_neighbours"] <= 10
    rows = {row["epoch"]: row for row in small_run.history() if row["stage"] == "student-graph"}
    assert line["base_accuracy"] == pytest.approx(rows[3]["base_accuracy"])


def test_two_runs_stand_side_by_side(small_run, batch_state):
    state = ExplorerState(small_run, compare=batch_state.nodes.run)
    assert state.other.name == "batch"
    assert state.other.passes == batch_state.timeline.passes != []


def test_a_run_is_compared_with_itself_before_distillation(tmp_path):
    few = {"train_images": 300, "epochs": 2}
    run = distil(small_config(tmp_path, run="both", baselines="undistilled", **few))
    state = ExplorerState(run)
    assert (state.timeline.name, state.other.name) == ("both", "undistilled")
    rows = {row["epoch"]: row for row in run.history() if row["stage"] == "undistilled-graph"}
    assert state.other.passes == [1, 2, 3, 4]
    assert state.other.table.loc[2, "base_accuracy"] == pytest.approx(rows[1]["base_accuracy"])

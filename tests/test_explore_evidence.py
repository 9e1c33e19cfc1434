"""What the explorer says of a prediction is exact, and what if is what the student would say."""

from __future__ import annotations

import pytest
import torch
from conftest import small_config
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import BANK, TEST, Node
from cnn2gnn.evaluation.protocols import InBatches
from cnn2gnn.explore.query import WhatIf, _with_k, ask, thinned
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import predict
from cnn2gnn.graph import Heads, LearnedK, SparseGraph
from cnn2gnn.models.graph_network import GraphNetwork

CHANGES = [
    {},
    {"k": 3},
    {"min_weight": 0.08},
    {"bank_share": 0.5},
    {"protocol": "batch", "seed": 3},
    {"k": 6, "min_weight": 0.1, "bank_share": 0.7},
]


def test_recomputed_predictions_are_those_of_the_run(state):
    for index in range(0, len(state.nodes), 23):
        state.select(index)
        original = state.original()
        torch.testing.assert_close(original.logits, state.nodes.logits[index], atol=1e-4, rtol=0)
        assert original.gate == pytest.approx(float(state.nodes.gate[index]), abs=1e-5)


@pytest.mark.parametrize("learner", [LearnedK(5), Heads(LearnedK(5), 2)], ids=["one", "heads"])
def test_a_graph_that_was_trained_for_one_k_takes_no_other(learner):
    with pytest.raises(ValueError, match="k=3: the graph was trained for k=5 alone"):
        _with_k(GraphNetwork(8, 3, learner), 3)


@pytest.mark.parametrize("which", ["state", "batch_state"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("node", [Node(TEST, 5), Node(BANK, 7)], ids=str)
def test_base_hidden_and_contributions_are_the_logits(which, change, node, request):
    state = request.getfixturevalue(which)
    state.select(node)
    found = state.what_if(**change)
    assert (found.logits - found.base_logits).abs().max() > 1e-3
    whole = found.base_logits + found.hidden + found.contributions.sum(0)
    torch.testing.assert_close(whole, found.logits, atol=1e-5, rtol=0)
    own = state.nodes.base_logits[node.part][node.index].softmax(0)
    # of the bank, half precision is kept
    torch.testing.assert_close(found.base_logits.softmax(0), own, atol=1e-3, rtol=0)


def test_a_share_of_the_bank_is_made_once_for_all_nodes(state, monkeypatch):
    made, scaled = [], GraphNetwork.scaled
    monkeypatch.setattr(GraphNetwork, "scaled", lambda *a: made.append(1) or scaled(*a))
    sizes = set()
    for index in (3, 4, 5):
        state.select(index)
        state.what_if(bank_share=0.37)
        sizes.add(len(ask(state.nodes, Node(TEST, index), WhatIf(bank_share=0.37)).bank))
    assert len(made) == 1
    assert len(sizes) == 1 and 0.3 < sizes.pop() / len(state.nodes.bank) < 0.45


def test_each_contribution_is_what_the_neighbour_says_in_layer_2(state):
    found, nodes = state.original(), state.nodes
    network = nodes.student.network
    for position, neighbour in enumerate(found.neighbours):
        own = nodes.bank.probabilities[neighbour.index]  # of which half precision is kept
        exact = network.base(nodes.features_of(neighbour))[0].softmax(0)
        torch.testing.assert_close(own, exact, atol=1e-3, rtol=0)
        for index in range(len(nodes.classes)):
            y = float(nodes.label(neighbour) == index)
            told = network.evidence_scale * found.gate * (y - float(own[index]))
            expected = float(found.weights[position]) * (told + float(network.label_scale) * y)
            assert float(found.contributions[position, index]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("which", ["state", "batch_state"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_hidden_share_is_what_layer_1_loses_without_that_message(which, change, request):
    state = request.getfixturevalue(which)
    state.select(9)
    found, nodes = state.what_if(**change), state.nodes
    query = ask(nodes, state.selected, state.change)
    places = [int((query.rows == nodes.row(node)).nonzero()) for node in found.neighbours]
    neighbours, k = torch.tensor(places)[None], len(places)

    def hidden(kept):  # the edges that are left out are not there at all
        graph = SparseGraph(neighbours[:, kept], found.weights[None, kept], sources=len(query.bank))
        return nodes.student.network.apply_graph(query.features, graph, query.bank).hidden_logits[0]

    whole = hidden(torch.arange(k))
    torch.testing.assert_close(whole - found.base_logits, found.hidden, atol=1e-5, rtol=0)
    for position in range(k):
        others = torch.tensor([other for other in range(k) if other != position])
        expected = whole - hidden(others)
        torch.testing.assert_close(found.hidden_shares[position], expected, atol=1e-5, rtol=0)
    assert not found.hidden_shares[~found.on].any()


def test_in_scope_batch_neighbours_speak_through_layer_1_alone(batch_state):
    for change in CHANGES:
        batch_state.select(3)
        found = batch_state.what_if(**change)
        assert not found.contributions.any()
        torch.testing.assert_close(found.base_logits + found.hidden, found.logits)
    batch_state.reset()
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
    network, features = state.nodes.student.network, state.nodes.features[:1]
    expected = network.apply_graph(features, smaller, state.nodes.bank)
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
    assert torch.equal(nothing.logits, nothing.base_logits)
    torch.testing.assert_close(nothing.logits, state.nodes.base_logits[TEST][0])
    assert nothing.gate == 0
    assert not nothing.hidden.any()
    assert float(nothing.weights.sum()) == 0


def test_k_and_pruning_do_what_they_say(state):
    assert len(state.what_if(k=4).neighbours) == 4
    heaviest = float(state.original().weights[0])
    pruned = state.what_if(k=None, min_weight=heaviest - 1e-4)
    assert pruned.on.tolist() == [True] + [False] * 9
    assert pruned.weights.tolist() == [pytest.approx(1), *[0.0] * 9]


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
    for index in range(20):  # until there is a node that finds neighbours of both kinds
        state.select(index)
        first, second = (state.what_if(protocol="batch", seed=seed) for seed in (1, 2))
        if {node.part for node in first.neighbours} == {TEST, BANK}:
            break
    assert {node.part for node in first.neighbours} == {TEST, BANK}
    assert not torch.equal(first.logits, second.logits)
    torch.testing.assert_close(state.what_if(protocol="batch", seed=1).logits, first.logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_weight": 2}, "min_weight=2 must be from 0 to 1"),
        ({"bank_share": 0}, "bank_share=0 must be above 0"),
        ({"protocol": "sorted"}, "protocol='sorted' must be one of inductive, batch"),
        ({"k": 0}, "k=0 must be a whole number of at least 1"),
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


@pytest.mark.parametrize("scope", ["bank", "batch"])
@pytest.mark.parametrize("graph", ["fixed", "random", "softmax"])
def test_every_kind_of_graph_can_be_explored(small_run, graph, scope):
    name = f"{graph}-{scope}"
    config = small_config(
        small_run.folder.parent, run=name, graph=graph, scope=scope, epochs=1, eval_repeats=1
    )
    state = ExplorerState(distil(config))
    logits = InBatches(state.nodes.student, state.nodes.no_graph(), state.nodes.bank)(
        torch.arange(len(state.nodes)), len(state.nodes)
    )
    for index in (0, 77):
        state.select(index)
        torch.testing.assert_close(
            state.original().logits, state.nodes.logits[index], atol=1e-4, rtol=0
        )
        together = state.what_if(protocol="batch", batch_size=len(state.nodes)).logits
        if graph != "random":  # which is drawn by the row
            torch.testing.assert_close(together, logits[index], atol=1e-3, rtol=0)
    state.select(Node(BANK, 3))
    assert Node(BANK, 3) not in state.original().neighbours
    assert len(state.ego(2)) > 1
    searched = "the space in which neighbours are found" in coordinates.described(state.nodes)
    assert searched == (graph == "softmax")  # the others look at pixels, or nowhere

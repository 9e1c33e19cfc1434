"""Neighbours through anchors: the two steps of the walk on dense matrices, by autograd."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.graph import AdaptiveNeighbours, AnchorNeighbours, Heads
from cnn2gnn.graph.anchors import ANCHORS, NEAR
from cnn2gnn.models.graph_network import GraphNetwork

D, K, M = 5, 4, 60


def points(n: int, seed: int, d: int = D) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def started(k: int = K, keys: Tensor | None = None) -> AnchorNeighbours:
    learner = AnchorNeighbours(k)
    learner.build(D)
    learner.double().start(points(M, 1) if keys is None else keys)
    return learner


def walk(learner: AnchorNeighbours, queries: Tensor, keys: Tensor, exclude: Tensor) -> Tensor:
    """The k largest of P Q `(N, M)`, row by row, each against a bank without the query."""
    to_anchors = AdaptiveNeighbours(NEAR)(queries, learner.points).dense()  # P, (N, A)
    rows = []
    for row, itself in zip(to_anchors, exclude.tolist(), strict=True):
        others = torch.arange(len(keys))[torch.arange(len(keys)) != itself]
        from_anchors = AdaptiveNeighbours(learner.k)(learner.points, keys[others]).dense()
        reached = torch.zeros(len(keys), dtype=row.dtype).index_add(0, others, row @ from_anchors)
        best = reached.topk(learner.k)
        rows.append(
            torch.zeros_like(reached).scatter(0, best.indices, best.values / best.values.sum())
        )
    return torch.stack(rows)


@settings(max_examples=10, deadline=None)
@given(st.integers(6, 40), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**31))
def test_it_is_the_walk_to_anchors_and_back_in_values_and_gradients(
    m: int, k: int, n: int, seed: int
) -> None:
    queries, keys = points(n, seed).requires_grad_(), points(m, seed + 1).requires_grad_()
    exclude = torch.randint(-1, m, (n,), generator=torch.Generator().manual_seed(seed))
    learner = started(k, keys.detach())
    graph, oracle = learner(queries, keys, exclude), walk(learner, queries, keys, exclude)
    torch.testing.assert_close(graph.dense(), oracle)
    slope, ends = points(n, 9, m), (queries, keys, learner.points)
    ours = torch.autograd.grad((graph.dense() * slope).sum(), ends)
    theirs = torch.autograd.grad((oracle * slope).sum(), ends)
    for mine, right in zip(ours, theirs, strict=True):
        assert (mine - right).abs().max() <= 1e-6 * (1 + right.abs().max())


def test_gradcheck() -> None:
    queries, keys, learner = (
        points(2, 0).requires_grad_(),
        points(8, 1).requires_grad_(),
        started(3),
    )
    assert torch.autograd.gradcheck(lambda q, u: learner(q, u).dense(), (queries, keys))
    assert torch.autograd.gradcheck(lambda u: learner(u).aggregate(u), (keys,))


def test_rows_are_distributions_and_within_a_set_nobody_is_its_own_neighbour() -> None:
    keys, learner = points(M, 1), started()
    graph = learner(keys)
    torch.testing.assert_close(graph.weights.sum(1), torch.ones(M, dtype=torch.float64))
    assert graph.weights.shape == (M, K) and (graph.weights >= 0).all()
    assert not (graph.neighbours == torch.arange(M)[:, None]).any()
    assert graph.distances is not None and (graph.distances.diff(dim=1) >= 0).all()
    torch.testing.assert_close(graph.dense(), learner(keys, keys, torch.arange(M)).dense())


def test_a_query_left_out_is_as_if_it_were_not_there() -> None:
    keys, learner = points(M, 1), started()
    graph = learner(keys[7:8], keys, torch.tensor([7]))
    others = torch.arange(M)[torch.arange(M) != 7]
    expected = learner(keys[7:8], keys[others])
    torch.testing.assert_close(graph.dense()[:, others], expected.dense())


def test_each_query_by_itself_whatever_the_order_of_the_bank() -> None:
    queries, keys, learner = points(9, 0), points(M, 1), started()
    whole, order = learner(queries, keys).dense(), torch.randperm(M)
    torch.testing.assert_close(learner(queries, keys[order]).dense(), whole[:, order])
    alone = torch.cat([learner(queries[i : i + 1], keys).dense() for i in range(9)])
    torch.testing.assert_close(alone, whole)


def test_its_candidates_decide_as_the_whole_bank_does_and_who_joins_far_off_changes_nothing() -> (
    None
):
    queries, keys, learner = points(9, 0), points(M, 1), started()
    whole = learner(queries, keys).dense()
    near = learner.candidates(queries, keys, None)
    assert near.shape == (9, NEAR * (K + 2))
    rows = near.unique()
    torch.testing.assert_close(learner(queries, keys[rows]).dense(), whole[:, rows])
    joined = torch.cat([keys, points(5, 3) + 100])
    torch.testing.assert_close(learner(queries, joined).dense()[:, :M], whole)


@pytest.mark.parametrize("m", [1, M, 2 * ANCHORS])
def test_anchors_start_as_nodes_the_same_each_time(m: int) -> None:
    keys = points(m, 1)
    first, second = started(keys=keys).points, started(keys=keys).points
    assert torch.equal(first, second)
    distances = torch.cdist(first.detach(), keys).amin(1)
    assert int((distances < 1e-6).sum()) == (min(m, ANCHORS) if m > 1 else ANCHORS)
    if m > 1:
        assert len(first.unique(dim=0)) == ANCHORS


def test_a_set_of_copies_is_uniform_and_nan_is_one_clear_error() -> None:
    learner = started()
    graph = learner(torch.full((10, D), 2.5, dtype=torch.float64))
    torch.testing.assert_close(graph.weights, torch.full_like(graph.weights, 1 / K))
    broken = points(20, 0)
    broken[4, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 20 rows hold NaN"):
        learner(points(3, 1), broken)
    with pytest.raises(ValueError, match=f"k={K} .* has {K}"):
        learner(points(3, 1), points(K, 2))


def test_as_a_module_of_ones_own_it_says_what_it_needs_and_takes_what_was_saved() -> None:
    keys, learner = points(M, 1), started()
    for ask in (lambda new: new(keys), lambda new: new.candidates(keys, keys, None)):
        with pytest.raises(ValueError, match=r"no anchors yet: call build\(width\)"):
            ask(AnchorNeighbours(K))
    for whole in (learner, Heads(learner, 2)):
        again = AnchorNeighbours(K) if whole is learner else Heads(AnchorNeighbours(K), 2)
        again.load_state_dict(whole.float().state_dict())
        for (name, value), found in zip(whole.named_parameters(), again.parameters(), strict=True):
            assert torch.equal(value, found), name


def test_a_network_brings_its_anchors_back_and_heads_have_their_own() -> None:
    def made() -> GraphNetwork:
        torch.manual_seed(0)
        return GraphNetwork(D, 3, Heads(AnchorNeighbours(K), 2)).eval()

    network, x = made(), points(M, 1).float()
    network.start_keys(x, torch.arange(M) % 3)
    first, second = (head.points for head in network.learner.each)
    assert first.shape == (ANCHORS, D) and not torch.equal(first, second)
    again = made()
    again.load_state_dict(network.state_dict())
    bank = network.bank(x, torch.arange(M) % 3)
    assert torch.equal(again(x[:4], bank).logits, network(x[:4], bank).logits)

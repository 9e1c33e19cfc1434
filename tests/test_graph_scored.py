"""Learners that weigh by scores: softmax, learned support, Gumbel noise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph_learners import SCORED, features

from cnn2gnn.graph import (
    SoftmaxNeighbours,
    SparseGraph,
)
from cnn2gnn.registry import LEARNERS


def test_softmax_weights_are_the_softmax_of_the_nearest():
    x = features(30, 4)
    graph = SoftmaxNeighbours(6, temperature=0.5)(x)
    distances = (x.unsqueeze(1) - x).square().sum(2).fill_diagonal_(torch.inf)
    ascending = distances.sort(1).values[:, :6]
    torch.testing.assert_close(graph.distances, ascending)
    spread = ascending.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(graph.weights, torch.softmax(-2 * ascending / spread, 1))


@pytest.mark.parametrize("name", ["sparsemax", "entmax"])
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 20), st.integers(0, 2**31))
def test_learned_support_is_that_of_the_entmax_package(name, k, temperature, seed):
    entmax = pytest.importorskip("entmax")
    learner = LEARNERS[name](k, temperature).double()
    distances = features(9, k, seed).square().sort(1).values.requires_grad_()
    scores = learner.scores(distances)
    oracle = {"sparsemax": entmax.sparsemax, "entmax": entmax.entmax15}[name](scores, dim=1)
    weights = learner.weigh(scores)
    torch.testing.assert_close(weights, oracle, rtol=1e-6, atol=1e-7)
    slope = features(9, k, seed=9)
    mine, right = (
        torch.autograd.grad((w * slope).sum(), distances, retain_graph=True)[0]
        for w in (weights, oracle)
    )
    assert (mine - right).abs().max() <= 1e-5 * (1 + right.abs().max())


@pytest.mark.parametrize("name", ["sparsemax", "entmax"])
@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1e4])
def test_extreme_temperatures_lose_no_digits(name, temperature):
    learner = LEARNERS[name](12, temperature)
    distances = features(50, 12).square().sort(1).values
    weights = learner.weigh(learner.scores(distances.float()))
    exact = learner.double()
    expected = exact.weigh(exact.scores(distances))
    torch.testing.assert_close(weights.double(), expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(weights.sum(1), torch.ones(50), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SCORED)
def test_scores_have_no_scale(name):
    learner, distances = LEARNERS[name](6).double().eval(), features(20, 6).square().sort(1).values
    expected = learner.weigh(learner.scores(distances))
    torch.testing.assert_close(learner.weigh(learner.scores(1e4 * distances + 7)), expected)


@pytest.mark.parametrize("name", SCORED)
def test_a_colder_softmax_has_fewer_neighbours(name):
    x = features(60, 5)
    cold, warm = (LEARNERS[name](8, t).double().eval()(x).weights for t in (0.3, 5.0))
    entropies = [torch.special.entr(w).sum(1).mean() for w in (cold, warm)]
    assert entropies[0] < entropies[1] - 0.3


def test_gumbel_draws_by_chance_in_training_only():
    learner, x = LEARNERS["gumbel"](4), features(30, 5, dtype=torch.float32)
    torch.manual_seed(0)
    first, second = learner(x).neighbours, learner(x).neighbours
    assert not first.equal(second)
    torch.manual_seed(0)
    assert learner(x).neighbours.equal(first)
    learner.eval()
    nearest: SparseGraph = SoftmaxNeighbours(4)(x)
    assert learner(x).neighbours.equal(nearest.neighbours)


def test_gumbel_draws_with_the_chances_of_the_softmax():
    """One of two: the nearer with chance softmax(z), over many equal rows."""
    learner = LEARNERS["gumbel"](1, 2.0)
    queries, keys = torch.zeros(20_000, 1), torch.tensor([[1.0], [1.5]])
    torch.manual_seed(0)
    share = (learner(queries, keys).neighbours == 0).float().mean()
    scores = learner.scores(torch.tensor([[1.0, 2.25]]))
    assert share == pytest.approx(scores.softmax(1)[0, 0].item(), abs=0.02)


@pytest.mark.parametrize("name", SCORED)
def test_a_temperature_is_positive(name):
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        LEARNERS[name](3, 0)

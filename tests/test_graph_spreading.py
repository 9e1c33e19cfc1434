"""Labels spread along a graph: the equations, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_moons
from torch import Tensor

from cnn2gnn.graph import AdaptiveNeighbours, SparseGraph
from cnn2gnn.graph.spreading import FAR, spread


def some_graph(seed: int, nodes: int = 30, k: int = 4) -> tuple[SparseGraph, Tensor, Tensor]:
    """A graph of random nodes, answers of three classes, and who is known: one of each at least."""
    generator = torch.Generator().manual_seed(seed)
    graph = AdaptiveNeighbours(k)(torch.randn(nodes, 3, generator=generator))
    answers = torch.rand(nodes, 3, generator=generator).softmax(1)
    answers[:3] = torch.eye(3)
    known = torch.rand(nodes, generator=generator) < 0.2
    known[:3] = True
    return graph, answers, known


def by_hand(graph: SparseGraph, answers: Tensor, known: Tensor) -> np.ndarray:
    """The equations, dense and in double precision."""
    dense = graph.dense().double().numpy()
    weights = (dense + dense.T) / 2
    degrees = weights.sum(1)
    normalised = weights / np.sqrt(degrees[:, None] * degrees[None])
    sources = np.where(known.numpy()[:, None], answers.double().numpy(), 0)
    found = np.linalg.solve(np.eye(len(dense)) - FAR * normalised, sources)
    shares = (answers[known].double().sum(0).numpy() + 1) / (known.sum().item() + 3)
    found *= shares / found.sum(0)
    found /= found.sum(1, keepdims=True)
    return np.where(known.numpy()[:, None], answers.double().numpy(), found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_equations_are_solved(seed: int) -> None:
    graph, answers, known = some_graph(seed)
    found = spread(graph, answers, known)
    np.testing.assert_allclose(found.numpy(), by_hand(graph, answers, known), atol=2e-4)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert torch.equal(found[known], answers[known])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_the_nodes_and_the_unknown_answers_do_not_matter(seed: int) -> None:
    graph, answers, known = some_graph(seed)
    found = spread(graph, answers, known)
    order = torch.randperm(len(graph), generator=torch.Generator().manual_seed(seed + 1))
    place = order.argsort()
    moved = SparseGraph(place[graph.neighbours[order]], graph.weights[order])
    other = answers.where(known[:, None], torch.nan)[order]
    again = spread(moved, other, known[order])
    torch.testing.assert_close(again, found[order], rtol=1e-3, atol=1e-4)


def test_far_from_all_labels_the_equations_are_solved_as_well() -> None:
    """Along a line what a label gives falls by a factor of a million in a hundred nodes."""
    graph = AdaptiveNeighbours(2)(torch.arange(150).float()[:, None])
    known = torch.zeros(150, dtype=torch.bool)
    known[[1, 3, 5]] = True
    answers = torch.eye(3)[torch.arange(150) % 3]
    found = spread(graph, answers, known).numpy()
    np.testing.assert_allclose(found, by_hand(graph, answers, known), atol=1e-4)


def test_unknown_nodes_have_the_classes_in_the_shares_of_the_known() -> None:
    """Exactly so before the answers of each node are brought to a sum of 1; here, nearly."""
    graph = AdaptiveNeighbours(2)(torch.arange(40).float()[:, None])
    known = torch.zeros(40, dtype=torch.bool)
    known[[2, 37]] = True
    answers = torch.zeros(40, 2)
    answers[2, 0] = answers[37, 1] = 1
    found = spread(graph, answers, known)
    mean = found[~known].mean(0)
    assert mean.tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert (found[:20, 0] > 0.5).all() and (found[20:, 1] > 0.5).all()


def test_one_unknown_node_is_told_by_its_neighbours_and_not_by_the_shares() -> None:
    torch.manual_seed(0)
    points = torch.cat([torch.randn(20, 2), torch.randn(20, 2) + 5])
    labels = (torch.arange(40) >= 20).long()
    for row, label in ((3, 0), (30, 1)):
        known = torch.arange(40) != row
        answers = torch.nn.functional.one_hot(labels, 2).float()
        found = spread(AdaptiveNeighbours(5)(points), answers, known)[row]
        assert found[label] > 0.9


def test_two_moons_are_told_apart_by_a_label_each() -> None:
    """Where the classes touch nowhere, one label each is enough, and distance to it is not."""
    points, labels = make_moons(400, noise=0.05, random_state=0)
    x, y = torch.from_numpy(points).float(), torch.from_numpy(labels)
    known = torch.zeros(400, dtype=torch.bool)
    known[[int((y == c).nonzero()[0]) for c in (0, 1)]] = True
    answers = torch.nn.functional.one_hot(y, 2).float()
    found = spread(AdaptiveNeighbours(6)(x), answers, known).argmax(1)
    nearest = y[known][torch.cdist(x, x[known]).argmin(1)]
    assert (found == y).float().mean() > 0.98
    assert (nearest == y).float().mean() < 0.9


def test_a_node_that_no_label_reaches_has_the_shares_that_classes_are_thought_to_have() -> None:
    far = torch.cat([torch.randn(10, 2), torch.randn(10, 2) + 1000])
    graph = AdaptiveNeighbours(3)(far)
    answers = torch.eye(4)[torch.arange(20) % 4]
    known = torch.arange(20) < 6  # classes 0 and 1 twice, 2 and 3 once
    found = spread(graph, answers, known)
    torch.testing.assert_close(found[10:], torch.tensor([[3, 3, 2, 2]]).expand(10, 4) / 10)


def test_all_known_is_nothing_to_do() -> None:
    graph, answers, _ = some_graph(0)
    assert torch.equal(spread(graph, answers, torch.ones(30, dtype=torch.bool)), answers)


def test_what_does_not_fit_is_refused() -> None:
    graph, answers, known = some_graph(0)
    with pytest.raises(ValueError, match=r"answers and known must be of shape \(30, C\) and \(30,"):
        spread(graph, answers[:5], known)
    with pytest.raises(ValueError, match="known: no node is"):
        spread(graph, answers, torch.zeros(30, dtype=torch.bool))
    against = SparseGraph(graph.neighbours, graph.weights, sources=30)
    with pytest.raises(ValueError, match="within a set"):
        spread(against, answers, known)

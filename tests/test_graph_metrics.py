"""Graph metrics against loops over edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn2gnn.graph import (
    RandomNeighbours,
    SparseGraph,
    degree,
    effective_neighbours,
    homophily,
    purity,
)


def edges(graph):
    """(node, neighbour, weight) of every edge."""
    for i, row in enumerate(graph.neighbours.tolist()):
        for j, weight in zip(row, graph.weights[i].tolist(), strict=True):
            if weight > 0:
                yield i, j, weight


@st.composite
def labelled_graphs(draw):
    """A random graph with labels, within a set or against other sources, some weights zero."""
    m, seed = draw(st.integers(5, 30)), draw(st.integers(0, 2**31))
    torch.manual_seed(seed)
    inside = draw(st.booleans())
    n = m if inside else draw(st.integers(1, 20))
    keys = None if inside else torch.zeros(m, 1)
    graph = RandomNeighbours(draw(st.integers(1, 4)), seed)(torch.zeros(n, 1), keys)
    weights = torch.rand(graph.weights.shape).double()
    weights = torch.where(weights < 0.3, 0, weights)
    weights[:, 0] = 1
    graph = SparseGraph(
        graph.neighbours, weights / weights.sum(1, keepdim=True), None, graph.sources
    )
    labels, ends = torch.randint(0, 3, (n,)), torch.randint(0, 3, (m,))
    return graph, labels, None if inside else ends


@settings(max_examples=60, deadline=None)
@given(labelled_graphs())
def test_against_brute_force(case):
    graph, labels, source_labels = case
    ends = labels if source_labels is None else source_labels
    of, to = labels.tolist(), ends.tolist()
    listed = list(edges(graph))
    same = [of[i] == to[j] for i, j, _ in listed]

    edge = sum(same) / len(listed)
    assert homophily(graph, labels, source_labels) == pytest.approx(edge)

    share = []
    for node in range(len(graph)):
        mine = [of[i] == to[j] for i, j, _ in listed if i == node]
        share.append(sum(mine) / len(mine))
    node_homophily = homophily(graph, labels, source_labels, kind="node")
    assert node_homophily == pytest.approx(sum(share) / len(share), rel=1e-5)

    # Chance: any node's edge end paired with any edge's other end.
    pairs = [of[i] == to[j] for i, _, _ in listed for _, j, _ in listed]
    chance = sum(pairs) / len(pairs)
    adjusted = homophily(graph, labels, source_labels, kind="adjusted")
    if chance == 1:
        assert math.isnan(adjusted)
    else:
        assert adjusted == pytest.approx((edge - chance) / (1 - chance))

    mass = [sum(w for i, j, w in listed if i == node and of[i] == to[j])
            for node in range(len(graph))]  # fmt: skip
    torch.testing.assert_close(
        purity(graph, labels, source_labels), torch.tensor(mass, dtype=torch.float64)
    )
    assert degree(graph).tolist() == [
        sum(j == source for _, j, _ in listed) for source in range(graph.num_sources)
    ]


def test_adjusted_is_the_papers_on_an_undirected_graph():
    # The path 0 - 1 - 2 - 3 and the edge 0 - 2; classes a a b b.
    pairs = [(0, 1), (1, 2), (2, 3), (0, 2)]
    dense = torch.zeros(4, 4)
    for i, j in pairs:
        dense[i, j] = dense[j, i] = 1
    dense /= dense.sum(1, keepdim=True)
    graph = SparseGraph(torch.arange(4).repeat(4, 1), dense)
    degrees = {"a": 2 + 2, "b": 3 + 1}
    chance = sum(d**2 for d in degrees.values()) / (2 * len(pairs)) ** 2
    expected = (2 / 4 - chance) / (1 - chance)  # Platonov et al. 2023, eq. 1
    found = homophily(graph, torch.tensor([0, 0, 1, 1]), kind="adjusted")
    assert found == pytest.approx(expected)


def test_effective_neighbours_from_one_to_k():
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    torch.testing.assert_close(effective_neighbours(weights), torch.tensor([1.0, 2.0, 4.0]))


def test_labels_that_do_not_fit_are_refused():
    inside = RandomNeighbours(2)(torch.zeros(5, 1))
    outside = RandomNeighbours(2)(torch.zeros(5, 1), torch.zeros(9, 1))
    labels = torch.zeros(5, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"labels must be of shape \(5,\), not \(4,\)"):
        purity(inside, labels[:4])
    with pytest.raises(ValueError, match=r"source_labels must be of shape \(9,\), not \(5,\)"):
        homophily(outside, labels, labels)
    with pytest.raises(ValueError, match="source_labels belong to"):
        purity(outside, labels)
    with pytest.raises(ValueError, match="source_labels belong to"):
        purity(inside, labels, labels)
    with pytest.raises(ValueError, match="kind='class' must be one of edge, node, adjusted"):
        homophily(inside, labels, kind="class")


def test_a_node_without_edges_has_no_share_in_homophily() -> None:
    weights = torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])
    graph = SparseGraph(torch.tensor([[1, 2], [0, 2], [0, 1]]), weights)
    assert homophily(graph, torch.tensor([0, 0, 1]), kind="node") == pytest.approx((0.5 + 0) / 2)

"""`SparseGraph`: aggregation, pruning and its other forms."""

from __future__ import annotations

import subprocess
import sys

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn2gnn.graph import AdaptiveNeighbours, RandomNeighbours, SparseGraph


def features(n, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def graph():
    return AdaptiveNeighbours(5)(features(30))


@pytest.fixture
def bank_graph():
    return AdaptiveNeighbours(5)(features(10), features(30, seed=1))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(3, 30), st.integers(1, 6), st.integers(0, 2**31))
def test_aggregate_is_the_dense_product(n, m, d, seed):
    graph = RandomNeighbours(min(3, m), seed)(torch.zeros(n, 1), torch.zeros(m, 1))
    values = features(m, d, seed).requires_grad_()
    torch.testing.assert_close(graph.aggregate(values), graph.dense().double() @ values)


@pytest.mark.parametrize("which", ["graph", "bank_graph"])
def test_aggregate_is_differentiable_in_weights_and_values(which, request):
    graph = request.getfixturevalue(which)
    values = features(30, 3).requires_grad_()

    def aggregate(weights, values):
        return SparseGraph(graph.neighbours, weights, sources=graph.sources).aggregate(values)

    weights = graph.weights.clone().requires_grad_()
    assert torch.autograd.gradcheck(aggregate, (weights, values))
    assert torch.autograd.gradcheck(aggregate, (weights, values.detach()))


def test_aggregate_takes_the_wider_dtype(graph):
    single = SparseGraph(graph.neighbours, graph.weights.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert single.aggregate(features(30).bfloat16()).dtype == torch.float32
    assert single.aggregate(features(30)).dtype == torch.float64


def test_aggregate_refuses_values_of_other_nodes(graph):
    with pytest.raises(ValueError, match=r"values must be of shape \(30, d\), not \(29, 4\)"):
        graph.aggregate(features(29))


@pytest.mark.parametrize("which", ["graph", "bank_graph"])
def test_scipy_is_the_dense_matrix(which, request):
    graph = request.getfixturevalue(which)
    adjacency = graph.scipy()
    assert adjacency.format == "csr"
    assert adjacency.nnz == int((graph.weights > 0).sum())
    np.testing.assert_array_equal(adjacency.toarray(), graph.dense().numpy())


def test_scipy_is_a_copy(graph):
    before = graph.weights.clone()
    graph.scipy().data[:] = 0
    assert graph.weights.equal(before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_are_single_ones_elsewhere(graph, dtype):
    half = SparseGraph(graph.neighbours, graph.weights.to(dtype))
    assert half.scipy().dtype == np.float32
    np.testing.assert_array_equal(half.scipy().toarray(), half.dense().float().numpy())
    dense = networkx.to_numpy_array(half.networkx(), nodelist=range(30))
    np.testing.assert_array_equal(dense, half.dense().double().numpy())
    np.testing.assert_allclose(half.symmetrise().toarray(), (dense + dense.T) / 2)
    assert half.ego(3).nodes == graph.ego(3).nodes


@pytest.mark.parametrize("sources", [None, 3])
def test_weights_of_a_neighbour_that_is_named_twice_are_summed(sources):
    neighbours, weights = torch.tensor([[1, 1, 0], [0, 2, 0], [1, 1, 1]]), torch.rand(3, 3)
    graph = SparseGraph(neighbours, weights, sources=sources)
    first = 0 if sources is None else sources
    dense = networkx.to_numpy_array(graph.networkx(), nodelist=range(first + 3))
    np.testing.assert_allclose(dense[first:, :3], graph.dense().numpy())


def test_symmetrise(graph):
    dense = graph.dense().numpy()
    np.testing.assert_allclose(graph.symmetrise().toarray(), (dense + dense.T) / 2)


def test_networkx_carries_weights_images_and_labels(graph):
    labels = torch.arange(30) % 4
    result = graph.networkx(labels)
    dense = networkx.to_numpy_array(result, nodelist=range(30))
    np.testing.assert_array_equal(dense, graph.dense().numpy())
    assert result.nodes[7] == {"image": 7, "label": 3}
    assert "label" not in graph.networkx().nodes[7]


def test_networkx_of_a_bank_graph_puts_queries_after_sources(bank_graph):
    result = bank_graph.networkx(torch.arange(40))
    dense = networkx.to_numpy_array(result, nodelist=range(40))
    np.testing.assert_array_equal(dense[30:, :30], bank_graph.dense().numpy())
    assert dense[:30].sum() == dense[:, 30:].sum() == 0
    assert result.nodes[32] == {"image": 2, "label": 32}
    with pytest.raises(ValueError, match="labels must have 40 rows"):
        bank_graph.networkx(torch.arange(30))


@pytest.mark.parametrize("hops", [0, 1, 2, 50])
def test_ego_is_networkx_ego_graph(graph, hops):
    ours, oracle = graph.ego(3, hops), networkx.ego_graph(graph.networkx(), 3, radius=hops)
    assert dict(ours.nodes(data="hop")) == networkx.single_source_shortest_path_length(oracle, 3)
    assert {(i, j): w for i, j, w in ours.edges(data="weight")} == {
        (i, j): w for i, j, w in oracle.edges(data="weight")
    }


@pytest.mark.parametrize("kind", [torch.tensor, np.int64])
def test_ego_takes_whole_numbers_of_any_kind(graph, kind):
    ours = graph.ego(kind(3), kind(2))
    assert all(type(node) is int for node in ours)
    assert networkx.utils.graphs_equal(ours, graph.ego(3, 2))
    with pytest.raises(ValueError, match=r"node=2\.5 must be a whole number"):
        graph.ego(2.5)


def test_a_graph_is_made_without_networkx_scipy_and_matplotlib():
    code = "import sys, cnn2gnn.graph, cnn2gnn.models.student; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("networkx", "matplotlib", "scipy.sparse"):
        assert f"'{name}'" not in done.stdout


def test_ego_refuses_what_does_not_exist(graph, bank_graph):
    with pytest.raises(ValueError, match="node=30 must be from 0 to 29"):
        graph.ego(30)
    with pytest.raises(ValueError, match="hops=-1"):
        graph.ego(0, -1)
    with pytest.raises(ValueError, match="ego needs a graph within a set"):
        bank_graph.ego(0)
    with pytest.raises(ValueError, match="symmetrise needs a graph within a set"):
        bank_graph.symmetrise()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
class TestPyG:
    """torch_geometric warns on import that it uses what torch deprecates."""

    @pytest.mark.parametrize("which", ["graph", "bank_graph"])
    def test_messages_along_its_edges_are_aggregate(self, which, request):
        nn = pytest.importorskip("torch_geometric.nn")
        graph = request.getfixturevalue(which)
        nodes = features(30 if graph.sources is None else 40)
        data = graph.pyg(nodes, labels=torch.arange(len(nodes)))
        assert data.validate()
        assert data.num_nodes == len(data.y) == len(nodes)
        received = nn.SimpleConv(aggr="sum")(data.x, data.edge_index, data.edge_weight)
        torch.testing.assert_close(received[-len(graph) :], graph.aggregate(nodes[:30]))

    def test_round_trip_and_gradient(self):
        utils = pytest.importorskip("torch_geometric.utils")
        x = features(30).requires_grad_()
        graph = AdaptiveNeighbours(5)(x)
        data = graph.pyg(x)
        dense = utils.to_dense_adj(data.edge_index, edge_attr=data.edge_weight, max_num_nodes=30)
        torch.testing.assert_close(dense[0].T, graph.dense())
        assert torch.autograd.grad(data.edge_weight.square().sum(), x)[0].abs().sum() > 0

    def test_refuses_features_of_other_nodes(self, graph):
        pytest.importorskip("torch_geometric")
        with pytest.raises(ValueError, match="features must have 30 rows, one a node, not 29"):
            graph.pyg(features(29))


def test_pyg_without_torch_geometric_says_what_to_install(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric.data", None)
    with pytest.raises(ImportError, match="pip install torch_geometric"):
        graph.pyg()


def test_prune_drops_light_edges_and_keeps_the_heaviest():
    graph = SparseGraph(
        torch.tensor([[1, 2, 3], [0, 2, 3]]), torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]]),
        sources=4,
    )  # fmt: skip
    pruned = graph.prune(0.2)
    torch.testing.assert_close(pruned.weights[0], torch.tensor([2 / 3, 1 / 3, 0]))
    torch.testing.assert_close(pruned.weights[1], graph.weights[1])
    assert pruned.scipy().nnz == 5
    torch.testing.assert_close(graph.prune(0.5).weights, torch.tensor([[1.0, 0, 0], [1.0, 0, 0]]))
    assert graph.prune(0).weights.equal(graph.weights)
    with pytest.raises(ValueError, match="min_weight=1.5 must be from 0 to 1"):
        graph.prune(1.5)


def test_detach_and_to_keep_everything_else():
    graph = AdaptiveNeighbours(3)(features(6).requires_grad_(), features(9))
    still = graph.detach().to("cpu")
    assert graph.weights.requires_grad
    assert not still.weights.requires_grad
    assert not still.distances.requires_grad
    assert (len(still), still.sources, still.num_sources) == (6, 9, 9)
    assert still.to("meta").neighbours.is_meta


def test_shapes_that_do_not_fit_are_refused():
    neighbours = torch.zeros(3, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"weights must be of shape \(3, 2\), not \(3, 1\)"):
        SparseGraph(neighbours, torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"distances must be of shape \(3, 2\)"):
        SparseGraph(neighbours, torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match="neighbours must be int64"):
        SparseGraph(neighbours.int(), torch.ones(3, 2))


@pytest.mark.parametrize("with_distances", [True, False])
def test_stacked_rows_are_those_of_one_graph(with_distances: bool) -> None:
    neighbours, weights = torch.randint(0, 9, (7, 3)), torch.rand(7, 3)
    distances = torch.rand(7, 3) if with_distances else None

    def rows(part: slice) -> SparseGraph:
        some = None if distances is None else distances[part]
        return SparseGraph(neighbours[part], weights[part], some, sources=9)

    whole = SparseGraph.stacked([rows(slice(0, 4)), rows(slice(4, 5)), rows(slice(5, 7))])
    assert torch.equal(whole.dense(), rows(slice(None)).dense()) and len(whole) == 7
    assert (whole.distances is None) if distances is None else whole.distances.equal(distances)

"""The approximate search: what it never gets wrong, how much it finds, and where it stays away."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn2gnn.graph import (
    AdaptiveNeighbours,
    approximate,
    distances,
    nearest,
    search,
    search_keys,
)


class BruteDescent:
    """In place of `pynndescent.NNDescent`, which compiles for a minute; it misses some too."""

    blind = False  # sees the first dimension alone

    def __init__(self, points, n_neighbors, random_state):
        assert random_state == approximate.SEED
        seen = torch.from_numpy(points[:, : 1 if self.blind else None])
        found = torch.cdist(seen, seen).topk(n_neighbors, largest=False).indices.int().numpy()
        found[::7, -4:] = -1
        self.neighbor_graph = found, None


@pytest.fixture(params=["hnsw", "nn-descent"])
def index(request, monkeypatch):
    """One of the indices, for more than 500 nodes."""
    if request.param == "hnsw":
        pytest.importorskip("faiss")
    fake = SimpleNamespace(NNDescent=BruteDescent)
    monkeypatch.setitem(sys.modules, "pynndescent", fake)
    monkeypatch.setattr(approximate, "method", lambda: request.param)
    monkeypatch.setattr(search, "EXACT", 500)


def clustered(nodes, d=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(20, d, generator=generator)
    drawn = torch.randint(20, (nodes,), generator=generator)
    return centres[drawn] + torch.randn(nodes, d, generator=generator)


def recall(found, exact):
    return (found[:, :, None] == exact[:, None]).any(2).double().mean().item()


def squared(queries, keys, neighbours):
    return (queries[:, None] - keys[neighbours]).square().sum(2)


def test_a_whole_set_finds_nearly_all_of_the_nearest_and_never_itself(index, monkeypatch):
    points = clustered(2500)
    found = nearest(points, None, 10)
    assert nearest(points, None, 10).equal(found)  # the same call, the same answer
    assert not (found == torch.arange(2500)[:, None]).any()
    assert (squared(points, points, found).diff(dim=1) >= -1e-4).all()  # nearest first
    monkeypatch.setattr(search, "EXACT", 10_000)
    assert recall(found, nearest(points, None, 10)) > 0.97


def test_other_queries_do_so_too_without_what_they_exclude(index, monkeypatch):
    keys, queries = clustered(2000), clustered(1500, seed=1)
    queries[:1000] = keys[:1000]  # would find themselves
    exclude = torch.arange(1500).where(torch.arange(1500) < 1000, -1)
    found = nearest(queries, search_keys.SearchKeys.of(keys), 10, exclude)
    assert not (found == exclude[:, None]).any()
    monkeypatch.setattr(search, "EXACT", 10_000)
    assert recall(found, nearest(queries, keys, 10, exclude)) > 0.97


def white(nodes, d=200, seed=0):
    """Points that lie in no cluster and fill all dimensions, as learned keys nearly do."""
    return torch.randn(nodes, d, generator=torch.Generator().manual_seed(seed))


def searched_exactly(monkeypatch):
    """The numbers of queries that are answered by the exact search, as it is asked."""
    asked, search_all = [], search.nearest_exactly
    monkeypatch.setattr(
        search, "nearest_exactly", lambda q, *rest: asked.append(len(q)) or search_all(q, *rest)
    )
    return asked


@pytest.mark.parametrize("within", [True, False])
def test_an_index_that_finds_too_little_is_not_used(index, monkeypatch, within):
    points = white(3000)
    queries, keys = (points, None) if within else (white(1000, seed=1), points)
    monkeypatch.setattr(search, "EXACT", 10_000)
    exact = nearest(queries, keys, 10)
    monkeypatch.setattr(search, "EXACT", 500)
    monkeypatch.setattr(approximate, "SEARCHING", (20,))
    monkeypatch.setattr(BruteDescent, "blind", True)
    asked = searched_exactly(monkeypatch)
    assert nearest(queries, keys, 10).equal(exact)
    assert asked == [approximate.SAMPLE, len(queries)]


def test_nn_descent_is_for_a_graph_within_a_set(monkeypatch):
    monkeypatch.setattr(approximate, "method", lambda: "nn-descent")
    monkeypatch.delitem(sys.modules, "pynndescent", raising=False)
    monkeypatch.setattr(search, "EXACT", 500)
    asked = searched_exactly(monkeypatch)
    nearest(clustered(1000, seed=1), clustered(2000), 10)
    assert asked == [approximate.SAMPLE, 1000]
    assert "pynndescent" not in sys.modules


def test_hnsw_searches_longer_until_it_finds_enough(monkeypatch):
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(search, "EXACT", 500)
    monkeypatch.setattr(approximate, "method", lambda: "hnsw")
    searched, efforts = faiss.IndexHNSWFlat.search, []

    def search_index(index, queries, count):
        efforts.append((len(queries), index.hnsw.efSearch))
        return searched(index, queries, count)

    monkeypatch.setattr(faiss.IndexHNSWFlat, "search", search_index)
    monkeypatch.setattr(approximate, "SEARCHING", (20, 3000, 9000))
    asked, points = searched_exactly(monkeypatch), white(3000)
    found = nearest(points, None, 10)
    # at least twice as far as what is asked for: ten, a query itself, and eight to spare
    assert efforts == [(500, 38), (500, 3000), (3000, 3000)]
    assert asked == [approximate.SAMPLE]
    monkeypatch.setattr(search, "EXACT", 10_000)
    assert recall(found, nearest(points, None, 10)) > approximate.RECALL


def test_threads_change_nothing(monkeypatch):
    faiss = pytest.importorskip("faiss")
    monkeypatch.setattr(search, "EXACT", 500)
    points, before = clustered(2000), faiss.omp_get_max_threads()
    found = []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        found.append(nearest(points, None, 5))
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    assert found[0].equal(found[1])


def test_duplicates_and_points_far_from_the_origin_have_k_distinct_neighbours(index):
    points = clustered(600)
    points[:300] = points[0]
    found = nearest(points + 1e3, None, 20)
    assert all(len(row.unique()) == 20 for row in found)
    assert not (found == torch.arange(600)[:, None]).any()


@pytest.mark.parametrize(("queries", "keys"), [(500, 2000), (2000, 500), (500, None)])
def test_up_to_the_limit_no_index_is_asked(queries, keys, monkeypatch):
    monkeypatch.setattr(search, "EXACT", 500)
    monkeypatch.delattr(approximate, "proposals")
    points, others = clustered(queries), None if keys is None else clustered(keys, seed=1)
    found = nearest(points, others, 3)
    monkeypatch.undo()
    assert found.equal(nearest(points, others, 3))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6), st.booleans())
def test_proposals_are_ranked_by_true_distance_and_what_is_missing_is_found(seed, k, excludes):
    """Whatever an index proposes: twice the same, nothing, or what is excluded."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    queries = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    exclude = torch.randint(-1, 40, (30,), generator=generator) if excludes else None
    proposed = torch.randint(-1, 40, (30, 9), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "EXACT", 10)
        patch.setattr(approximate, "proposals", lambda *a: proposed)
        found = nearest(queries, points, k, exclude)
    for row, query in enumerate(queries):
        barred = {-1} if exclude is None else {-1, int(exclude[row])}
        allowed = set(proposed[row].tolist()) - barred
        if len(allowed) < k:  # then all are compared
            allowed = set(range(40)) - barred
        rank = sorted(allowed, key=lambda key: float((points[key] - query).square().sum()))
        assert found[row].tolist() == rank[:k]


def test_values_that_are_not_finite_are_told_before_an_index_is_built(monkeypatch):
    monkeypatch.setattr(search, "EXACT", 10)
    monkeypatch.delattr(approximate, "proposals")
    points = clustered(50)
    points[3, 2] = torch.nan
    with pytest.raises(ValueError, match="queries: 1 of 50 rows hold NaN"):
        nearest(points, None, 3)


def test_distances_and_gradients_of_many_nodes_are_those_of_all_at_once(monkeypatch):
    points = clustered(200)
    results = []
    for limit in (2**30, 7 * 11 * 16 * 4):  # at once, and seven nodes at a time
        monkeypatch.setattr(distances, "DIFFERENCE_BYTES", limit)
        leaf = points.clone().requires_grad_()
        graph = AdaptiveNeighbours(10)(leaf)
        graph.weights.square().sum().backward()
        results.append((graph.weights.detach(), graph.neighbours, leaf.grad))
    (weights, neighbours, grad), (weights_7, neighbours_7, grad_7) = results
    assert weights.equal(weights_7) and neighbours.equal(neighbours_7)
    torch.testing.assert_close(grad, grad_7)


def test_faiss_is_used_where_it_is_installed(monkeypatch):
    for installed, expected in ((object(), "hnsw"), (None, "nn-descent")):
        monkeypatch.setattr(approximate, "find_spec", lambda name, found=installed: found)
        assert approximate.method() == expected

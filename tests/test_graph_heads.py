"""Several heads: the mean of graphs, each on its own part of the keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_config
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn import Predictor, distil
from cnn2gnn.config import ConfigError
from cnn2gnn.evaluation.nodes import TEST, RunNodes
from cnn2gnn.evaluation.sensitivity import batch_sensitivity
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import predict, without_each_edge
from cnn2gnn.graph import (
    AdaptiveNeighbours,
    FixedNeighbours,
    Heads,
    LearnedK,
    RandomNeighbours,
    SoftmaxNeighbours,
)
from cnn2gnn.graph.heads import merged
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.keys import whitening
from cnn2gnn.runs import Run

DOUBLE = torch.float64


def points(n: int, seed: int, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.mark.parametrize("kind", [AdaptiveNeighbours, SoftmaxNeighbours, LearnedK])
@pytest.mark.parametrize("within", [True, False])
def test_the_graph_is_the_mean_of_what_each_head_finds(kind: type, within: bool) -> None:
    queries, keys = points(12, 0), None if within else points(30, 1)
    learner = kind(4)
    found = Heads(learner, 3)(queries, keys)
    parts = [
        learner(queries[:, i : i + 2], None if keys is None else keys[:, i : i + 2]).dense()
        for i in (0, 2, 4)
    ]
    torch.testing.assert_close(found.dense(), sum(parts) / 3)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(12, dtype=DOUBLE))
    assert found.distances is not None
    there = (queries if keys is None else keys)[found.neighbours]
    torch.testing.assert_close(
        found.distances, (queries[:, None] - there).square().sum(2) / 3, check_dtype=False
    )
    assert (found.distances.diff(dim=1) >= 0).all()


def test_a_neighbour_that_heads_agree_on_has_one_edge() -> None:
    same = points(9, 0, 3).repeat(1, 2)  # both heads see the same
    one, both = AdaptiveNeighbours(3)(same[:, :3]), Heads(AdaptiveNeighbours(3), 2)(same)
    torch.testing.assert_close(both.dense(), one.dense())
    assert ((both.weights > 0).sum(1) == 3).all()


@given(st.data(), st.integers(1, 6), st.integers(1, 9))
def test_merging_keeps_every_weight(data: st.DataObject, rows: int, n: int) -> None:
    ids = data.draw(st.lists(st.integers(0, 4), min_size=rows * n, max_size=rows * n))
    neighbours = torch.tensor(ids).reshape(rows, n)
    weights = torch.rand(rows, n, generator=torch.Generator().manual_seed(n), dtype=DOUBLE)
    found, sums = merged(neighbours, weights)
    empty = torch.zeros(rows, 5, dtype=DOUBLE)
    expected = empty.scatter_add(1, neighbours, weights)
    torch.testing.assert_close(empty.scatter_add(1, found, sums), expected)
    for row, weight in zip(found, sums, strict=True):
        kept = row[weight > 0].tolist()
        assert len(kept) == len({*kept})


def test_the_gradient_reaches_both_ends_in_every_head() -> None:
    queries, keys = points(5, 0).requires_grad_(), points(20, 1).requires_grad_()
    values = points(20, 2)
    heads = Heads(AdaptiveNeighbours(3), 2)

    def prediction(q: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return heads(q, u).aggregate(values)

    assert torch.autograd.gradcheck(prediction, (queries, keys))


def test_a_query_meets_itself_in_no_head() -> None:
    keys = points(20, 0)
    rows = torch.arange(20)
    graph = Heads(AdaptiveNeighbours(3), 2)(keys, keys, rows)
    assert not ((graph.neighbours == rows[:, None]) & (graph.weights > 0)).any()


def test_the_searched_part_of_a_bank_decides_as_the_whole() -> None:
    torch.manual_seed(0)
    network = GraphNetwork(6, 3, Heads(AdaptiveNeighbours(4), 2)).eval()
    x, labels = torch.randn(50, 6), torch.arange(50) % 3
    network.start_keys(x, labels)
    bank = network.bank(x, labels)
    queries = torch.randn(7, 6)
    near = network.candidates(queries, bank)
    assert near is not None and near.shape == (7, 10)
    part = network(queries, bank.subset(near.unique()))
    torch.testing.assert_close(part.logits, network(queries, bank).logits)


def test_heads_start_apart_and_the_first_from_whitening() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6) * torch.arange(1, 7)
    network = GraphNetwork(6, 3, Heads(AdaptiveNeighbours(4), 2))
    labels = torch.arange(200) % 3
    network.start_keys(x, labels)
    first, second = network.keys(x).chunk(2, 1)
    expected = x @ whitening(x, labels, 6)
    torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(first, second, atol=0.1)


def test_of_a_single_feature_heads_start_apart_too() -> None:
    network = GraphNetwork(1, 3, Heads(AdaptiveNeighbours(4), 3))
    network.start_keys(points(50, 0, 1).float(), torch.arange(50) % 3)
    started = network.project.weight[:, 0]
    assert started.isfinite().all() and len(started.unique()) == 3


@pytest.mark.parametrize("learner", [FixedNeighbours(3), RandomNeighbours(3)])
def test_what_does_not_go_by_keys_has_no_heads(learner: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="heads=2 needs a graph that goes by distances"):
        Heads(learner, 2)  # type: ignore[arg-type]


def test_how_many_heads_is_a_whole_number_of_at_least_one() -> None:
    for heads, told in ((0, "at least 1"), (2.5, "a whole number"), (True, "a whole number")):
        with pytest.raises(ConfigError, match=f"^heads={heads} must be {told}$"):
            Heads(AdaptiveNeighbours(3), heads)  # type: ignore[arg-type]
    keys, learner = points(9, 0), AdaptiveNeighbours(3)
    torch.testing.assert_close(Heads(learner, 1)(keys).dense(), learner(keys).dense())


def test_it_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    config = small_config(tmp_path, run="wrong", graph="random", heads=2)
    with pytest.raises(ConfigError, match=r"heads=2 needs a graph .*, not graph='random'"):
        distil(config)
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def two_heads(small_run: Run) -> Run:
    more = {"run": "two-heads", "heads": 2, "graph_epochs": 2}
    return distil(small_config(small_run.folder.parent, **more))


def test_a_student_of_two_heads_is_explained_edge_by_edge(two_heads: Run) -> None:
    state = ExplorerState(two_heads)
    node = state.selected
    found = predict(state.nodes, node)
    assert 10 <= len(found.neighbours) <= 20
    assert len({*found.neighbours}) == len(found.neighbours) and (found.weights > 0).all()
    assert len(without_each_edge(state.nodes, node)) == len(found.neighbours)
    total = found.base_logits + found.hidden + found.contributions.sum(0)
    torch.testing.assert_close(total, found.logits, rtol=1e-4, atol=1e-4)


def test_companions_of_two_heads_change_where_images_are_few(two_heads: Run) -> None:
    """Two heads of ten neighbours need batches of twelve, not of twenty-two."""
    nodes = RunNodes.load(two_heads)
    some = {
        name: {part: values[: 30 if part == TEST else None] for part, values in held.items()}
        for name, held in (("labels", nodes.labels), ("base_logits", nodes.base_logits))
    }
    few = replace(nodes, features=nodes.features[:30], logits=nodes.logits[:30], **some)
    assert batch_sensitivity(few, batch_size=15).max() > 1e-3


def test_a_predictor_of_two_heads_lists_each_neighbour_once(two_heads: Run) -> None:
    predictor = Predictor.load(two_heads.folder)
    images = two_heads.load_splits().test.images[:5]
    found = predictor.neighbours(images)
    assert not found.duplicated(["image", "node"]).any() and (found["weight"] > 0).all()
    assert found.groupby("image")["weight"].sum().tolist() == pytest.approx([1] * 5)
    assert (found.groupby("image")["rank"].max() == found.groupby("image").size()).all()


def test_heads_share_a_width_and_all_have_keys_of_it() -> None:
    heads = Heads(AdaptiveNeighbours(2), 3)
    with pytest.raises(ValueError, match="^heads=3 must divide the width of queries, 4"):
        heads(points(6, 0, d=4))
    with pytest.raises(ValueError, match=r"^keys must be of shape \(M, 6\)"):
        heads(points(6, 0), points(6, 0, d=3))

"""Local scaling: the geometry by hand, hubs that lose, and banks that change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.base.files import BrokenFileError
from cnn2gnn.config import StudentConfig
from cnn2gnn.graph import AdaptiveNeighbours, nearest
from cnn2gnn.graph import local_scaling as module
from cnn2gnn.graph.local_scaling import radii, raised
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.student import Student
from cnn2gnn.predictor import Predictor
from cnn2gnn.registry import LEARNERS

DOUBLE = torch.float64


def points(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y[None]).square().sum(2)


@settings(deadline=None, max_examples=30)
@given(m=st.integers(2, 12), n=st.integers(0, 12), k=st.integers(1, 20), heads=st.integers(1, 3))
def test_a_radius_is_the_mean_distance_to_the_neighbours(
    m: int, n: int, k: int, heads: int
) -> None:
    x, others = points(m, 4 * heads, 0), points(n, 4 * heads, 1)
    found = radii(x, others if n else None, k, heads)
    for head in range(heads):
        part = slice(4 * head, 4 * head + 4)
        everyone = torch.cat([others, x])[:, part]
        apart = squared(x[:, part], everyone)
        apart[torch.arange(m), n + torch.arange(m)] = torch.inf  # nobody is near itself
        expected = apart.sort(1).values[:, : min(k, n + m - 1)].mean(1)
        torch.testing.assert_close(found[:, head], expected)


def test_the_only_node_has_no_neighbours() -> None:
    assert radii(points(1, 3, 0), None, 5).tolist() == [[0.0]]


@pytest.mark.parametrize("joining", [False, True])
def test_of_many_nodes_a_sample_is_looked_at(
    joining: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = points(50, 4, 0)
    monkeypatch.setattr(module, "SAMPLE", 20)
    drawn = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:20]
    apart = squared(x, x).fill_diagonal_(torch.inf)[:, drawn]
    expected = apart.sort(1).values[:, :4].mean(1)
    if joining:
        found, expected = radii(x[30:], x[:30], 4), expected[30:]
    else:
        found = radii(x, None, 4)
    torch.testing.assert_close(found[:, 0], expected)


def test_a_sample_is_of_all_classes_in_whatever_order_they_lie() -> None:
    x = points(6000, 3, 0)
    x[::2] += 100  # two clusters in turns: of every second node all would be of one
    found = radii(x, None, 5)[:, 0]
    assert 0.5 < found[::2].mean() / found[1::2].mean() < 2


@pytest.mark.parametrize("heads", [1, 2])
def test_raised_points_are_as_far_apart_as_scaled_distances_say(heads: int) -> None:
    queries, keys = points(7, 3 * heads, 0), points(30, 3 * heads, 1)
    reach = 0.75 * radii(keys, None, 5, heads)  # β ρ_j, (M, H)
    places = raised(keys, (reach.max() - reach).sqrt())
    found = squared(raised(queries, torch.zeros(7, heads, dtype=DOUBLE)), places)
    expected = squared(queries, keys) - reach.sum(1) + heads * reach.max()
    torch.testing.assert_close(found, expected)


def network(graph: str = "adaptive", beta: float = 0.75, d: int = 40, k: int = 5) -> GraphNetwork:
    torch.manual_seed(0)
    made = GraphNetwork(d, 3, LEARNERS[graph](k), local_scaling=beta).double().eval()
    made.start_keys(points(300, d, 2), torch.arange(300) % 3)
    return made


def bank_of(net: GraphNetwork, x: Tensor) -> Bank:
    return net.settled(net.bank(x, torch.arange(len(x)) % 3))


def test_the_graph_is_that_of_scaled_distances() -> None:
    net, x, queries = network(), points(60, 40, 0), points(9, 40, 1)
    graph = net.find_graph(queries, bank_of(net, x))
    u, v = net.keys(queries), net.keys(x)
    scaled = squared(u, v) - 0.75 * radii(v, None, 5)[:, 0]
    best = scaled.sort(1)
    margin = best.values[:, 5:6] - best.values[:, :5]
    expected = torch.zeros_like(scaled).scatter(
        1, best.indices[:, :5], margin / margin.sum(1, keepdim=True)
    )
    torch.testing.assert_close(graph.dense(), expected)
    # the distances that it tells are those between the keys, the nearest first
    torch.testing.assert_close(graph.distances, squared(u, v).gather(1, graph.neighbours))
    assert (graph.distances.diff(dim=1) >= 0).all()


def test_hubs_lose() -> None:
    # points of 40 dimensions and, in their middle, ten that are near to all of them
    x = torch.cat([points(300, 40, 0), 0.1 * points(10, 40, 1)])
    queries = points(200, 40, 3)
    looks = {}
    for beta in (0.0, 0.75):
        net = network(beta=beta)
        graph = net.find_graph(queries, bank_of(net, x))
        looks[beta] = (graph.neighbours >= 300).float().mean().item()
    assert looks[0.0] > 0.8
    assert looks[0.75] < 0.1


def test_a_duplicate_is_at_distance_zero() -> None:
    net, x = network(), points(60, 40, 0)
    graph = net.find_graph(x[:4].float().double(), bank_of(net, x.float().double()))
    assert torch.equal(graph.distances[:, 0], torch.zeros(4, dtype=DOUBLE))


def test_a_part_of_a_bank_that_is_searched_beside_others_is_raised_as_the_whole() -> None:
    net, x, queries = network(), points(60, 40, 0), points(9, 40, 1)
    bank = bank_of(net, x)
    parts = [replace(bank.subset(rows), ceiling=bank.top) for rows in torch.arange(60).split(25)]
    assert torch.equal(torch.cat([part.places for part in parts]), bank.places)
    whole = nearest(bank.seeking(net.keys(queries)), bank.places, 6)
    assert torch.equal(net.candidates(queries, bank), whole)


@pytest.mark.parametrize("graph", ["cosine", "anchors", "random"])
def test_who_goes_by_other_things_is_left_alone(graph: str) -> None:
    net = network(graph)
    assert bank_of(net, points(60, 40, 0)).radii is None


def test_without_scaling_nothing_is_measured() -> None:
    net, x, queries = network(beta=0.0), points(60, 40, 0), points(9, 40, 1)
    bank = bank_of(net, x)
    assert bank.radii is None
    expected = AdaptiveNeighbours(5)(net.keys(queries), net.keys(x))
    assert torch.equal(net.find_graph(queries, bank).weights, expected.weights)


def student(**config: object) -> Student:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "linear", "k": 4, **config})  # type: ignore[arg-type]
    return Student(settings, channels=1, size=8, classes=3, mean=[0.5], std=[0.3]).eval()


IMAGES = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8)
LABELS = torch.arange(90) % 3


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("graph", ["adaptive", "fixed"])
def test_a_bank_that_grows_is_the_bank_of_all(graph: str, packed: bool) -> None:
    made = student(graph=graph)
    bank, whole = made.bank(IMAGES[:60], LABELS[:60]), made.bank(IMAGES, LABELS)
    if packed:
        bank = made.network.scaled(bank.compressed(1.0))
        whole = made.network.scaled(replace(whole, bits=bank.bits, grid=bank.grid).compact())
    grown = made.enlarged(bank, IMAGES[60:], LABELS[60:])
    assert grown.bits == (8 if packed else None)
    assert torch.equal(grown.radii, whole.radii)
    assert torch.equal(grown.compact().places, whole.places), "as it will be saved"


def test_radii_are_saved_with_the_bank(tmp_path: Path) -> None:
    bank = student().bank(IMAGES, LABELS)
    bank.save(tmp_path / "bank.safetensors")
    assert torch.equal(Bank.load(tmp_path / "bank.safetensors").places, bank.places)


def test_a_student_of_an_older_version_is_not_scaled() -> None:
    made = student()
    old = made.architecture
    del old["config"]["local_scaling"]
    again = Student.restore(made.state_dict(), old, "student.safetensors")
    assert again.network.local_scaling == 0
    assert again.bank(IMAGES, LABELS).radii is None
    assert again.architecture["config"]["local_scaling"] == 0


def test_heads_have_radii_of_their_own() -> None:
    made = student(heads=2)
    bank = made.bank(IMAGES, LABELS)
    assert bank.radii.shape == (90, 2)
    out = made(IMAGES[:5], bank)
    both = (made.network.keys(made.features(IMAGES[:5])), bank.keys)
    true = squared(*(each.double() for each in both)) / 2
    found = true.gather(1, out.graph.neighbours).float()
    torch.testing.assert_close(out.graph.distances, found, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("heads", [0, 3])
def test_radii_that_do_not_fit_the_keys_are_no_bank(heads: int) -> None:
    bank = Bank(torch.randn(9, 4), torch.arange(9) % 3, torch.full((9, 3), 1 / 3))
    with pytest.raises(BrokenFileError, match=f"radii of {heads} heads"):
        Bank.restore(bank.tensors | {"radii": torch.ones(9, heads)}, "bank")


def test_an_outlier_costs_nobody_digits() -> None:
    x, queries = points(300, 40, 0), points(9, 40, 1)
    far = torch.cat([x, 1000 * points(1, 40, 5)])
    single = network().float()
    weights = {}
    for name, nodes in {"without": x, "with": far}.items():
        graph = single.find_graph(queries.float(), bank_of(single, nodes.float()))
        weights[name] = graph.dense()[:, :300]
    torch.testing.assert_close(weights["with"], weights["without"], atol=1e-3, rtol=0)


def test_late_classes_move_no_node_of_the_others() -> None:
    net = network()
    own, late = net.bank(points(60, 40, 0), LABELS[:60]), points(20, 40, 4)
    more = own.joined(net.bank(late, torch.full((20,), 3)))
    scaled = net.scaled(more)
    assert torch.equal(scaled.radii[:60], net.scaled(own).radii)
    assert torch.equal(scaled.subset(scaled.trained).places, net.scaled(own).places)
    joined = net.joining(net.bank(late, torch.full((20,), 3)), net.scaled(own))
    assert torch.equal(scaled.radii[60:], joined.radii)


def test_a_predictor_refuses_a_bank_that_is_not_scaled() -> None:
    made = student()
    bank = made.bank(IMAGES, LABELS)
    with pytest.raises(ValueError, match="bank: no local scaling in it, the student's is 0.75"):
        Predictor(made, replace(bank, radii=None), ("a", "b", "c"))
    with pytest.raises(ValueError, match="bank: local scaling in it, the student's is 0"):
        Predictor(student(local_scaling=0.0), bank, ("a", "b", "c"))

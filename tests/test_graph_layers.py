"""Layers: what PyTorch Geometric says of the same graph, and whom they leave as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import small_config
from torch import Tensor, nn

from cnn2gnn import Predictor, distil
from cnn2gnn.config import Config
from cnn2gnn.evaluation.nodes import BANK, Node
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.explore.whatif import predict, without_each_edge
from cnn2gnn.graph import AdaptiveNeighbours, GraphLayer, Heads, SparseGraph, SparsemaxNeighbours
from cnn2gnn.graph.sparse import shared_out
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LAYERS
from cnn2gnn.runs import Run

N, M, D, K = 7, 30, 6, 4
DOUBLE = torch.float64
KIT = ("mean", "attention", "gcn")


def points(n: int, seed: int) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def made(name: str, heads: int = 1) -> GraphLayer:
    torch.manual_seed(0)
    layer = LAYERS[name](D, heads).double()
    for parameter in layer.parameters():  # as after training
        nn.init.normal_(parameter, std=0.5)
    return layer


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
class TestPyG:
    """torch_geometric warns on import that it uses what torch deprecates."""

    @pytest.mark.parametrize("heads", [1, 3])
    def test_attention_is_that_of_gatv2_times_the_learners_weights(self, heads: int) -> None:
        pyg = pytest.importorskip("torch_geometric.nn")
        queries, keys, layer = points(N, 0), points(M, 1), made("attention", heads)
        graph = SparsemaxNeighbours(K).double()(queries, keys)
        conv = pyg.GATv2Conv(D, layer.score.shape[1], heads, concat=False, add_self_loops=False)
        conv = conv.double()
        with torch.no_grad():
            conv.lin_l.weight.copy_(layer.key.weight), conv.lin_l.bias.zero_()
            conv.lin_r.weight.copy_(layer.query.weight), conv.lin_r.bias.copy_(layer.query.bias)
            conv.att.copy_(layer.score[None])
        query, slot = (graph.weights > 0).nonzero(as_tuple=True)
        edges = torch.stack([graph.neighbours[query, slot], query])
        _, (_, alpha) = conv((keys, queries), edges, return_attention_weights=True)  # (E, H)
        found = layer(graph, queries, keys)
        theirs = torch.zeros(N, K, heads, dtype=DOUBLE)
        theirs[query, slot] = alpha * graph.weights[query, slot, None]
        theirs = (theirs / theirs.sum(1, keepdim=True)).mean(2)
        torch.testing.assert_close(found.weights, theirs)
        torch.testing.assert_close(found.weights.sum(1), torch.ones(N, dtype=DOUBLE))

    def test_gcn_is_the_convolution_on_the_undirected_graph_and_its_queries(self) -> None:
        pyg = pytest.importorskip("torch_geometric.nn")
        queries, keys, learner = points(N, 0), points(M, 1), AdaptiveNeighbours(K)
        training, graph = learner(keys), learner(queries, keys)
        looks, to = torch.arange(M).repeat_interleave(K), training.neighbours.flatten()
        asks = M + torch.arange(N).repeat_interleave(K)
        # bank nodes hear whom they look at and who looks at them; nobody hears a query
        edges = torch.stack(
            [torch.cat([to, looks, graph.neighbours.flatten()]), torch.cat([looks, to, asks])]
        )
        weights = torch.cat(
            [w.flatten() for w in (training.weights, training.weights, graph.weights)]
        )
        conv = pyg.GCNConv(D, D, add_self_loops=False, bias=False).double()
        nn.init.eye_(conv.lin.weight)
        heard = conv(torch.cat([keys, queries]), edges, weights)[M:]
        found = made("gcn")(graph, queries, keys, training.dense().sum(0))
        torch.testing.assert_close(found.aggregate(keys), heard)
        assert (found.weights.sum(1) < 1).all()


@pytest.mark.parametrize(("name", "heads"), [*((name, 1) for name in KIT), ("attention", 2)])
def test_gradcheck(name: str, heads: int) -> None:
    layer, values, looked_at = made(name, heads), points(10, 2), points(10, 3)[:, 0].abs()
    learner = AdaptiveNeighbours(3) if heads == 1 else Heads(AdaptiveNeighbours(3), heads)

    def heard(q: Tensor, u: Tensor) -> Tensor:
        return layer(learner(q, u), q, u, looked_at).aggregate(values)

    ends = points(2, 0).requires_grad_(), points(10, 1).requires_grad_()
    assert torch.autograd.gradcheck(heard, ends)


@pytest.mark.parametrize("name", KIT)
def test_a_layer_makes_no_edge(name: str) -> None:
    queries, keys = points(N, 0), points(M, 1)
    graph = SparsemaxNeighbours(12, temperature=2.0).double()(queries, keys)
    found = made(name)(graph, queries, keys, torch.ones(M, dtype=DOUBLE))
    assert (graph.weights == 0).any()
    assert torch.equal(found.weights > 0, graph.weights > 0)
    assert torch.equal(found.neighbours, graph.neighbours)
    assert (found is graph) == (name == "mean")


@pytest.mark.parametrize(("name", "heads"), [*((name, 1) for name in KIT), ("attention", 2)])
def test_a_node_without_edges_stays_without(name: str, heads: int) -> None:
    ends = [points(N, 0).requires_grad_(), points(M, 1).requires_grad_()]
    graph, layer = AdaptiveNeighbours(K)(*ends), made(name, heads)
    kept = (torch.arange(N) != 2).double()[:, None]
    looked_at = torch.zeros(M, dtype=DOUBLE)  # nobody looks at anybody
    found = layer(replace(graph, weights=graph.weights * kept), *ends, looked_at).weights
    assert not found[2].any() and found.isfinite().all()
    others = layer(graph, *ends, looked_at).weights
    assert torch.equal(found[[0, 1, 3]], others[[0, 1, 3]])
    found.square().sum().backward()
    assert all(end.grad.isfinite().all() for end in (*ends, *layer.parameters()))


def test_attention_begins_as_the_learners_weights() -> None:
    queries, keys = points(N, 0), points(M, 1)
    graph = AdaptiveNeighbours(K)(queries, keys)
    found = LAYERS["attention"](D, 2).double()(graph, queries, keys)
    torch.testing.assert_close(found.weights, graph.weights)


def test_attention_keeps_its_precision_under_autocast() -> None:
    queries, keys, layer = points(N, 0).float(), points(M, 1).float(), made("attention").float()
    graph = AdaptiveNeighbours(K)(queries, keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(graph, queries, keys)
    assert torch.equal(found.weights, layer(graph, queries, keys).weights)


def test_a_hub_tells_each_less() -> None:
    graph = SparseGraph(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.5]]), sources=2)
    found = made("gcn")(graph, points(1, 0), points(2, 1), torch.tensor([8.0, 0.0]))
    torch.testing.assert_close(found.weights, torch.tensor([[0.5 / 3, 0.5]]))
    with pytest.raises(ValueError, match="needs to know how much each node is looked at"):
        made("gcn")(graph, points(1, 0), points(2, 1))


@pytest.mark.parametrize("total", [1.0, 0.6])
def test_edges_that_stay_take_over_the_weight_of_the_others(total: float) -> None:
    weights = total * torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.8, 0.0]])
    kept = torch.tensor([[True, False, True], [False, False, True]])
    expected = total * torch.tensor([[5 / 7, 0, 2 / 7], [0, 0, 0]])
    torch.testing.assert_close(shared_out(weights, kept), expected)
    assert torch.equal(shared_out(weights, weights >= 0), weights)


def network(layer: str, scope: str = "bank") -> GraphNetwork:
    torch.manual_seed(0)
    net = GraphNetwork(D, 3, AdaptiveNeighbours(K), scope, layer=LAYERS[layer]).double()
    net.start_keys(points(M, 1), torch.arange(M) % 3)
    for name, parameter in net.named_parameters():
        if "message" in name:
            nn.init.normal_(parameter, std=0.3)
    return net.eval()


def whole(net: GraphNetwork) -> Bank:
    return net.settled(net.bank(points(M, 1), torch.arange(M) % 3))


@pytest.mark.parametrize("layer", KIT)
@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_the_order_and_the_searched_part_of_the_bank_change_nothing(layer: str, scope: str) -> None:
    net, queries = network(layer, scope), points(N, 0)
    bank = whole(net)
    here, order = net(queries, bank).logits, torch.randperm(M)
    torch.testing.assert_close(net(queries, bank.subset(order)).logits, here)
    again = net.settled(bank.subset(order))  # counted anew
    torch.testing.assert_close(net(queries, again).logits, here)
    near = net.candidates(queries, bank)
    assert near is not None
    torch.testing.assert_close(net(queries, bank.subset(near.unique())).logits, here)


@pytest.mark.parametrize("layer", KIT)
def test_a_query_alone_is_predicted_as_among_others_and_never_meets_itself(layer: str) -> None:
    net, queries = network(layer), points(N, 0)
    bank = whole(net)
    out = net(queries, bank)
    for i in range(N):
        torch.testing.assert_close(net(queries[i : i + 1], bank).logits[0], out.logits[i])
    rows = torch.arange(M)
    assert not (net.bank_graph(bank, rows).neighbours == rows[:, None]).any()
    torch.testing.assert_close(
        net.bank_graph(bank, rows).weights, net(points(M, 1), bank, rows).graph.weights
    )


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_who_looks_is_counted_in_the_graph_of_the_training_images(scope: str) -> None:
    net = network("gcn", scope)
    bank = whole(net)
    expected = AdaptiveNeighbours(K)(net.keys(points(M, 1))).dense().sum(0)
    torch.testing.assert_close(bank.looked_at, expected)
    assert not bank.looked_at.requires_grad
    among = net.among(points(9, 5), bank=bank if scope == "bank" else None)
    if scope == "bank":  # they join it, and nobody has looked at them
        assert torch.equal(among.looked_at, torch.zeros(9, dtype=DOUBLE))
        assert torch.equal(bank.joined(among).looked_at[:M], bank.looked_at)
    else:
        torch.testing.assert_close(among.looked_at.sum().item(), 9.0)
    assert network("mean").bank(points(M, 1), torch.zeros(M, dtype=torch.int64)).looked_at is None


@pytest.mark.parametrize("bits", [None, 8])
def test_counts_are_saved_with_the_bank(bits: int | None, tmp_path) -> None:
    bank = Bank(torch.randn(9, 4), torch.arange(9) % 3, torch.full((9, 3), 1 / 3), bits=bits)
    counted = Bank(**vars(bank) | {"looked_at": torch.rand(9)})
    counted.save(tmp_path / "bank.safetensors")
    found = Bank.load(tmp_path / "bank.safetensors")
    assert torch.equal(found.looked_at, counted.looked_at)
    bank.save(tmp_path / "bank.safetensors")
    assert Bank.load(tmp_path / "bank.safetensors").looked_at is None


def test_students_from_before_there_were_layers_load_and_say_the_same() -> None:
    config = Config.from_parameters(stem="linear", k=4).student
    torch.manual_seed(0)
    student = Student(config, channels=1, size=8, classes=3, mean=[0.5], std=[0.5]).eval()
    assert not [name for name in student.state_dict() if "weighting" in name]
    before = student.architecture
    del before["config"]["layer"]
    found = Student.restore(student.state_dict(), before, "old")
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    bank = student.bank(images, torch.arange(20) % 3)
    assert torch.equal(found(images[:3], bank).logits, student(images[:3], bank).logits)


@pytest.fixture(scope="module", params=["attention", "gcn", "anchors"])
def run(request: pytest.FixtureRequest, small_run: Run) -> Run:
    """A run that shares stage one with `small_run`."""
    which = "layer" if request.param in KIT else "graph"
    more = {"run": request.param, which: request.param, "graph_epochs": 2}
    return distil(small_config(small_run.folder.parent, **more))


def test_the_explorer_is_exact_whatever_graph_and_layer(run: Run) -> None:
    state = ExplorerState(run)
    for node, change in ((state.selected, {}), (Node(BANK, 7), {}), (state.selected, {"k": 4})):
        state.select(node)
        found = state.what_if(**change)
        whole = found.base_logits + found.hidden + found.contributions.sum(0)
        torch.testing.assert_close(whole, found.logits, atol=1e-5, rtol=0)
        state.reset()
    nodes, node = state.nodes, state.selected
    weights = nodes.graph.weights[node.index]
    fresh = nodes.student.network.find_graph(nodes.features_of(node), nodes.bank).weights[0]
    torch.testing.assert_close(fresh, weights, atol=1e-5, rtol=0)
    found = predict(nodes, node)
    assert torch.equal(found.weights, weights.sort(descending=True).values)
    torch.testing.assert_close(found.logits, nodes.logits[node.index], atol=1e-4, rtol=0)
    without = without_each_edge(nodes, node)
    switched = state.switch(found.neighbours[0], False)
    torch.testing.assert_close(switched.logits, without[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(switched.weights.sum(), weights.sum())


def test_a_predictor_of_one_file_says_what_the_run_said(run: Run, tmp_path) -> None:
    predictor = Predictor.load(run)
    predictor.save(tmp_path / "it.predictor")
    images, said = run.load_splits().test.images[:20], run.load_nodes()
    found = Predictor.load(tmp_path / "it.predictor")
    expected = said["logits"][:20].softmax(1).numpy()
    np.testing.assert_allclose(found.predict_proba(images), expected, atol=1e-4)
    weights = found.neighbours(images).groupby("image")["weight"].sum()
    assert weights.tolist() == pytest.approx(said["weights"][:20].sum(1).tolist(), abs=1e-4)
    found.add(images[:2], ["3", "3"])  # nobody has looked at them yet
    assert len(found.predict(images)) == 20
    counts = found.bank.looked_at
    assert (counts is None) == (run.config.student.layer != "gcn")
    assert counts is None or (counts[-2:].tolist() == [0, 0] and counts[:-2].sum() > 0)

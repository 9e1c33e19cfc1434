"""The two graph layers: what their equations say, edge by edge, and where gradients flow."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.graph import AdaptiveNeighbours, Heads, SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.keys import whitening
from cnn2gnn.registry import LAYERS, LEARNERS

D, CLASSES, K, M, ALPHA = 12, 5, 4, 60, 1.5
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(M + 10, D, generator=GENERATOR)
LABELS = torch.randint(0, CLASSES, (M,), generator=GENERATOR)
QUERIES = X[M:]


def make(graph: str = "adaptive", scope: str = "bank", layer: str = "mean") -> GraphNetwork:
    """A network whose messages and gate say something, as after training."""
    torch.manual_seed(0)
    learner = None if graph == "none" else LEARNERS[graph](K)
    network = GraphNetwork(D, CLASSES, learner, scope, layer=LAYERS[layer])
    network.start_keys(X[:M], LABELS)
    for name, parameter in network.named_parameters():
        if "message" in name or "weighting" in name:
            nn.init.normal_(parameter, std=0.3)
    if scope == "bank" and learner is not None:
        network.label_scale.fill_(ALPHA)
    return network.eval()


def bank_of(network: GraphNetwork) -> Bank:
    pixels = X[:M].sigmoid() if network.learner and network.learner.space == "pixels" else None
    return network.settled(network.bank(X[:M], LABELS, pixels))


@pytest.mark.parametrize("layer", ["mean", "attention", "gcn"])
def test_logits_are_the_two_layers_edge_by_edge(layer: str) -> None:
    network = make(layer=layer)
    bank = bank_of(network)
    out = network(QUERIES, bank)
    for i, x in enumerate(QUERIES):
        messages, evidence, votes = torch.zeros(256), torch.zeros(CLASSES), torch.zeros(CLASSES)
        u = network.project.weight @ x
        for j, s in zip(out.graph.neighbours[i], out.graph.weights[i], strict=True):
            y = F.one_hot(LABELS[j], CLASSES).float()
            r = y - network.base(X[j][None])[0].softmax(0)
            t = network.difference_message(
                torch.relu(network.difference(u - network.project.weight @ X[j]))
            )
            messages += s * (network.label_message(y) + network.residual_message(r) + t)
            evidence += s * r
            votes += s * y
        h = torch.relu(network.norm(network.layer1(x) + messages))
        expected = network.layer2(h) + network.evidence_scale * out.gate[i] * evidence
        expected = expected + ALPHA * votes
        torch.testing.assert_close(out.logits[i], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(out.hidden_logits[i], network.layer2(h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("graph", "layer"),
    [
        *((name, "mean") for name in LEARNERS if name != "none"),
        *(("adaptive", layer) for layer in ("attention", "gcn")),
    ],
)
@pytest.mark.parametrize("scope", ["bank", "batch"])
@pytest.mark.parametrize("mixed", [False, True])
def test_every_trained_part_gets_a_gradient(
    graph: str, layer: str, scope: str, mixed: bool
) -> None:
    network = make(graph, scope, layer).train()
    bank, exclude = bank_of(network), None
    pixels = QUERIES.sigmoid() if bank.pixels is not None else None
    if scope == "batch":
        bank, exclude = network.among(QUERIES, pixels), torch.arange(len(QUERIES))
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        out = network(QUERIES, bank, exclude, pixels)
    F.cross_entropy(out.logits.float(), LABELS[: len(QUERIES)]).backward()
    # among unlabelled nodes nothing is known to be wrong: neither gate nor B has anything to do
    idle = {"gate", "log_scale", "residual_message"} if scope == "batch" else set()
    idle |= set() if network.learner.learns_keys else {"project"}
    for name, parameter in network.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert moved == (name.split(".")[0] not in idle), name


def test_the_metric_is_learned_through_both_ends_of_an_edge() -> None:
    network = make()
    x, others = QUERIES.clone().requires_grad_(), X[:M].clone().requires_grad_()
    graph = network.find_graph(x, network.bank(others, LABELS))
    graph.weights.square().sum().backward()
    assert x.grad.abs().sum(1).min() > 0
    chosen = torch.zeros(M, dtype=torch.bool)
    chosen[graph.neighbours[graph.weights > 0]] = True
    assert others.grad[chosen].abs().sum(1).min() > 0
    assert network.project.weight.grad.abs().sum() > 0


def test_the_gradient_of_the_whole_network_is_right() -> None:
    network = make().double()
    nn.init.zeros_(network.gate.network[-1].weight)  # what the gate is told carries no gradient
    x, others = QUERIES[:3].double(), X[:M].double()

    def loss(p: Tensor) -> Tensor:
        changed = {"project.weight": p}
        bank = Bank(others @ p.T, LABELS, network.base(others).softmax(1).detach())
        return torch.func.functional_call(network, changed, (x, bank)).logits

    assert torch.autograd.gradcheck(loss, network.project.weight.detach().requires_grad_())


def test_without_messages_it_is_its_twin_to_the_bit() -> None:
    network = make()
    twin = make("none")
    twin.load_state_dict({name: network.state_dict()[name] for name in twin.state_dict()})
    bank = bank_of(network)
    silent = copy.deepcopy(network)
    silent.label_scale.zero_()
    for name, parameter in silent.named_parameters():
        if "message" in name:
            nn.init.zeros_(parameter)
    nothing_wrong = Bank(bank.keys, torch.full_like(LABELS, -1), bank.probabilities)
    expected = twin(QUERIES).logits
    assert torch.equal(silent(QUERIES, nothing_wrong).logits, expected)
    edgeless = network.find_graph(QUERIES, bank)
    edgeless = SparseGraph(edgeless.neighbours, edgeless.weights * 0, edgeless.distances, M)
    assert torch.equal(network.apply_graph(QUERIES, edgeless, bank).logits, expected)


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_a_permuted_bank_predicts_the_same(scope: str) -> None:
    network = make(scope=scope)
    bank = bank_of(network)
    order = torch.randperm(M, generator=GENERATOR)
    there, here = network(QUERIES, bank.subset(order)), network(QUERIES, bank)
    torch.testing.assert_close(there.logits, here.logits)
    assert order[there.graph.neighbours].sort().values.equal(here.graph.neighbours.sort().values)


def test_in_scope_batch_no_label_is_looked_at() -> None:
    network = make(scope="batch")
    bank = bank_of(network)
    changed = Bank(bank.keys, (LABELS + 1) % CLASSES, bank.probabilities)
    assert torch.equal(network(QUERIES, changed).logits, network(QUERIES, bank).logits)


def test_unlabelled_nodes_vote_as_they_are_predicted_and_add_no_evidence() -> None:
    network = make()
    among = bank_of(network).joined(network.among(QUERIES))
    assert len(among) == M + 10 and among.residuals[M:].abs().sum() == 0
    probabilities = network.base(QUERIES).softmax(1)
    torch.testing.assert_close(among.probabilities[M:], probabilities)
    onehot = F.one_hot(LABELS, CLASSES).float()
    torch.testing.assert_close((among.residuals + among.probabilities)[:M], onehot)


def test_keys_start_white_within_the_classes() -> None:
    """By hand: scatter around class means, shrunk; and classes apart where they were."""
    mixing = torch.eye(D) + 0.3 * torch.randn(D, D, generator=GENERATOR)
    features = torch.randn(50_000, D, generator=GENERATOR) @ mixing * 10 + 3
    labels = torch.arange(50_000) % CLASSES
    features[:, 0] += 100 * labels
    network = make()
    network.start_keys(features, labels)
    keys = network.keys(features)
    means = torch.stack([keys[labels == c].mean(0) for c in range(CLASSES)])
    within = (keys - means[labels]).T.cov()
    torch.testing.assert_close(within, torch.eye(D), atol=2e-2, rtol=0)
    assert keys.T.cov().diagonal().max() > 50, "what tells classes apart stays long"


@pytest.mark.parametrize("count", [7, 40])
def test_of_few_images_whitening_is_shrunk(count: int) -> None:
    torch.manual_seed(0)
    x, labels = 5 * torch.randn(count, D), torch.arange(count) % CLASSES
    means = torch.stack([x[labels == c].mean(0) for c in range(CLASSES)])
    apart = (x - means[labels]).double()
    scatter, share = apart.T @ apart / count, D / (count + D)
    sigma = (1 - share) * scatter + share * scatter.trace() / D * torch.eye(D)
    w = whitening(x, labels, D).double()
    # whitened: Wᵀ Σ W = I, and W is symmetric: nothing is turned
    torch.testing.assert_close(w.T @ sigma @ w, torch.eye(D).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(w, w.T, atol=1e-5, rtol=0)
    few = whitening(x, labels, 2).double()
    torch.testing.assert_close(few.T @ sigma @ few, torch.eye(2).double(), atol=1e-4, rtol=0)
    largest = torch.linalg.eigvalsh((x.double() @ w).T.cov())[-2:]
    torch.testing.assert_close((x.double() @ few).T.cov(), largest.diag(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("labels", [torch.arange(100), torch.zeros(100, dtype=torch.int64)])
def test_a_direction_without_variance_is_not_blown_up(labels: Tensor) -> None:
    """Nor where each class has one image, or all have one class."""
    features = torch.randn(100, D)
    features[:, 2] = 7.0
    network = make()
    network.start_keys(features, labels)
    assert (network.keys(features) - network.keys(features).mean(0)).abs().max() < 10


def test_features_that_are_all_the_same_have_keys() -> None:
    network = make()
    network.start_keys(torch.full((20, D), 3.0), torch.arange(20) % 2)
    assert network.project.weight.isfinite().all()


def test_keys_keep_their_precision_under_autocast() -> None:
    network = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        there = network.keys(X)
    assert torch.equal(there, network.keys(X))


@pytest.mark.parametrize("heads", [1, 3])
def test_keys_start_alike_whatever_was_drawn_before(heads: int) -> None:
    """Processes draw different numbers, and a run that goes on draws at other times."""
    started = []
    for seed in (1, 2):
        learner = AdaptiveNeighbours(K) if heads == 1 else Heads(AdaptiveNeighbours(K), heads)
        network = GraphNetwork(D, CLASSES, learner)
        torch.manual_seed(seed)
        network.start_keys(X[:M], LABELS)
        drawn = torch.rand(3)
        torch.manual_seed(seed)
        assert torch.equal(drawn, torch.rand(3)), "nothing is taken from the global generator"
        started.append(network.project.weight.detach().clone())
    assert torch.equal(*started)

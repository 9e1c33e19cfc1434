"""Graph learners: any tensors as nodes, and any key that a node must not get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.graph import GraphLearner, Heads, SparseGraph
from cnn2gnn.registry import LEARNERS
from surfaces.outcomes import Kind

TYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.bool,
    torch.complex64,
)
FILLS = {
    "normal": lambda shape, chance: torch.randn(shape, generator=chance),
    "far away": lambda shape, chance: torch.randn(shape, generator=chance) + 1000,
    "ties": lambda shape, chance: torch.randint(0, 2, shape, generator=chance).float(),
    "constant": lambda shape, chance: torch.full(shape, 0.1),
    "zero": lambda shape, chance: torch.zeros(shape),
    "huge": lambda shape, chance: 1e15 * torch.randn(shape, generator=chance),
    "too large": lambda shape, chance: 1e30 * torch.randn(shape, generator=chance),
    "tiny": lambda shape, chance: 1e-18 * torch.randn(shape, generator=chance),
    "vanishing": lambda shape, chance: 1e-38 * torch.randn(shape, generator=chance),
    "of all sizes": lambda shape, chance: 10 ** (6 * torch.randn(shape, generator=chance)),
    "a NaN": lambda shape, chance: _with(float("nan"), shape, chance),
    "an infinity": lambda shape, chance: _with(float("inf"), shape, chance),
}
EXCLUDES = ("none", "right", "outside", "float", "too few")
RANKED = ("adaptive", "whitened", "fixed", "fixed-features", "softmax", "sparsemax", "entmax")


def _with(odd: float, shape: tuple[int, ...], chance: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=chance)
    if values.numel():
        values.view(-1)[int(torch.randint(values.numel(), (), generator=chance))] = odd
    return values


@dataclass(frozen=True)
class Nodes:
    """What a learner is given.

    Attributes:
        n, m: how many queries and keys; m None: within a set.
        d: their dimensions; another number for the keys in `keys_d`.
    """

    learner: str
    heads: int
    k: int
    n: int
    m: int | None
    d: int
    keys_d: int
    type_: torch.dtype
    fill: str
    exclude: str
    strided: bool
    training: bool
    seed: int

    def tensor(self, count: int, d: int, number: int) -> Tensor:
        """The nodes `(count, d)`."""
        chance = torch.Generator().manual_seed(self.seed + number)
        shape = (d, count) if self.strided else (count, d)
        values = FILLS[self.fill](shape, chance).to(self.type_)
        return values.T if self.strided else values

    def forbidden(self) -> Tensor | None:
        """What each query must not get."""
        if self.exclude == "none" or self.m is None:
            return None
        chance = torch.Generator().manual_seed(self.seed + 2)
        count = self.n - 1 if self.exclude == "too few" else self.n
        if self.exclude == "outside":
            return torch.full((count,), self.m)
        found = torch.randint(-1, max(1, self.m), (max(0, count),), generator=chance)
        return found.float() if self.exclude == "float" else found


def cases() -> st.SearchStrategy[Nodes]:
    """Mostly what fits, so that not everything is refused for one of many reasons."""
    few, some = st.integers(0, 4), st.integers(8, 40)
    return st.builds(
        Nodes,
        learner=st.sampled_from([name for name in LEARNERS if ":" not in name]),
        heads=st.sampled_from([1] * 8 + [2, 3]),
        k=st.integers(1, 6) | st.sampled_from([1, 2, 3, 30, 10**6, 0, -1]),
        n=few | some | some,
        m=st.none() | few | some | some,
        d=st.integers(0, 9) | st.integers(1, 9),
        keys_d=st.sampled_from([-1] * 9 + [2]),
        type_=st.sampled_from([torch.float32] * 6 + [*TYPES]),
        fill=st.sampled_from([*FILLS][:5] * 2 + [*FILLS]),
        exclude=st.sampled_from(["none", "right"] * 4 + [*EXCLUDES]),
        strided=st.booleans(),
        training=st.booleans(),
        seed=st.integers(0, 2**31),
    )


def learner_of(nodes: Nodes) -> GraphLearner:
    """The learner as a network has it, started where it has something to start from."""
    learner = LEARNERS[nodes.learner](nodes.k)
    if nodes.heads > 1:
        learner = Heads(learner, nodes.heads)
    learner.build(nodes.d * nodes.heads)
    learner.start(torch.randn(20, nodes.d * nodes.heads))
    return learner.train(nodes.training)


def learn(nodes: Nodes) -> None:
    """Let a learner find a graph, and look at it."""
    torch.manual_seed(nodes.seed)
    learner = learner_of(nodes)
    d = nodes.d * nodes.heads
    queries = nodes.tensor(nodes.n, d, 0)
    keys = None if nodes.m is None else nodes.tensor(nodes.m, d if nodes.keys_d < 0 else 2, 1)
    given = [t for t in (queries, keys) if t is not None and t.is_floating_point()]
    for tensor in given:
        tensor.requires_grad_()
    exclude = nodes.forbidden()
    graph = learner(queries, keys, exclude)
    check_graph(graph, nodes, exclude)
    if nodes.learner in RANKED and nodes.heads == 1:
        check_nearest(graph, queries.detach(), keys, exclude)
    if graph.weights.requires_grad:
        slope = torch.randn(graph.weights.shape)
        (graph.weights * slope).sum().backward()
        for tensor in (*given, *learner.parameters()):
            assert tensor.grad is None or tensor.grad.isfinite().all(), "a gradient is not finite"


def check_graph(graph: SparseGraph, nodes: Nodes, exclude: Tensor | None) -> None:
    """Assert what every graph is."""
    sources = nodes.n if nodes.m is None else nodes.m
    edges = graph.weights > 0
    assert len(graph) == nodes.n and graph.num_sources == sources
    assert graph.weights.isfinite().all(), "a weight is not finite"
    assert (graph.weights >= 0).all(), "a weight is negative"
    assert (graph.weights.double().sum(1) - 1).abs().max() < 1e-4, "a row does not sum to 1"
    assert 0 <= graph.neighbours.min() and graph.neighbours.max() < sources, "out of range"
    if graph.distances is not None:
        assert graph.distances.isfinite().all() and (graph.distances >= 0).all(), "distances"
    itself = torch.arange(nodes.n) if nodes.m is None else exclude
    if itself is not None and nodes.learner != "none":
        assert not (edges & (graph.neighbours == itself[:, None])).any(), "itself, or excluded"
    for row, there in zip(graph.neighbours, edges, strict=True):
        assert row[there].unique().numel() == int(there.sum()), "a neighbour has two edges"


def check_nearest(
    graph: SparseGraph, queries: Tensor, keys: Tensor | None, exclude: Tensor | None
) -> None:
    """Assert that no node that was left out is nearer than one that was taken, but for rounding."""
    if keys is None:
        keys, exclude = queries, torch.arange(len(queries))
    keys = keys.detach().double()
    # (N, M), in float64
    distances = (queries.double()[:, None] - keys[None]).square().sum(2)
    if exclude is not None:
        rows = (exclude >= 0).nonzero()[:, 0]
        distances[rows, exclude[rows]] = torch.inf
    farthest = distances.gather(1, graph.neighbours).amax(1)
    right = distances.topk(graph.neighbours.shape[1], 1, largest=False).values[:, -1]
    # float32 has no squares below 1e-38
    room = 1e-5 * (queries.double().square().sum(1) + keys.square().sum(1).max()) + 1e-36
    assert (farthest <= right + room).all(), "a nearer node was left out"


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    names = ("queries", "keys", "k=", "exclude", "heads=")
    yield Kind("learners", "any nodes", cases(), learn, lambda nodes: names, share=10)

"""A node asks for its neighbours: who may be one, what graph is learned, which edges remain."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.base.values import plain
from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes
from cnn2gnn.graph import GraphLearner, SparseGraph
from cnn2gnn.graph.sparse import shared_out
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.graph_network import GraphNetwork
from cnn2gnn.models.student import Student, StudentOutput


@dataclass(frozen=True)
class WhatIf:
    """What is changed about the graph of a node; the default changes nothing.

    Attributes:
        off: neighbours that are switched off.
        replaced: whether others move up for them (the graph is learned anew without them), or
            the remaining neighbours share their weight.
        k: another number of neighbours.
        min_weight: lighter edges are pruned, from 0 to 1.
        bank_share: a random share of the bank, in (0, 1].
        protocol: `inductive`: the bank alone. `batch`: among `batch_size` random test images, in
            scope bank beside the bank, in scope batch instead of it.
        seed: of the random share and of the batch.
    """

    off: frozenset[Node] = frozenset()
    replaced: bool = False
    k: int | None = None
    min_weight: float = 0.0
    bank_share: float = 1.0
    protocol: str = "inductive"
    batch_size: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_weight <= 1:
            raise ValueError(f"min_weight={self.min_weight} must be from 0 to 1")
        if not 0 < self.bank_share <= 1:
            raise ValueError(f"bank_share={self.bank_share} must be above 0 and at most 1")
        if self.protocol not in ("inductive", "batch"):
            raise ValueError(f"protocol={self.protocol!r} must be one of inductive, batch")
        if self.k is not None and not (isinstance(plain(self.k), int) and self.k >= 1):
            raise ValueError(f"k={self.k} must be a whole number of at least 1")
        if self.batch_size < 2:
            raise ValueError(f"batch_size={self.batch_size} must be at least 2")


NOTHING = WhatIf()


class Query(NamedTuple):
    """B nodes with their graph before edges are switched off.

    Attributes:
        features: x `(B, d)`.
        graph: edges to nodes of the bank, `(B, k)`.
        bank: M' nodes that can be neighbours, as the student takes them: in scope batch without
            their labels.
        rows: which of all N + M nodes those of the bank are, `(M',)`.
    """

    features: Tensor
    graph: SparseGraph
    bank: Bank
    rows: Tensor

    def of(self, nodes: Tensor) -> Query:
        """Return the query of some of its nodes, `nodes` int64 `(n,)`; one may come repeatedly."""
        return self._replace(features=self.features[nodes], graph=_part(self.graph, nodes))


def apply(student: Student, query: Query, keep: Tensor) -> StudentOutput:
    """Return what the student says of a query with only the edges `keep` `(B, k)`."""
    graph = thinned(query.graph, keep)
    return student.network.apply_graph(query.features, graph, query.bank)


def thinned(graph: SparseGraph, keep: Tensor) -> SparseGraph:
    """Return the graph with only the edges `keep` `(N, k)`, which take over the others' weight.

    The shape stays: a missing edge becomes a copy of the row's last kept one, of weight 0, so that
    whoever looks at the farthest distance sees that of an edge that is there.
    """
    last = keep.sum(1, keepdim=True).clamp(min=1) - 1  # (N, 1)
    places = torch.arange(keep.shape[1]).expand_as(keep)  # (N, k)
    # the kept ones first, in their order of distance
    order = (~keep).to(torch.int8).argsort(dim=1, stable=True)
    order = order.gather(1, places.minimum(last))  # (N, k)
    weights = shared_out(graph.weights, keep).gather(1, order)
    return SparseGraph(
        graph.neighbours.gather(1, order),
        weights * (places <= last),
        None if graph.distances is None else graph.distances.gather(1, order),
        graph.sources,
    )


def ask(nodes: RunNodes, node: Node, change: WhatIf = NOTHING) -> Query:
    """Return the query of a node: who may be its neighbours, and the graph learned among them."""
    off = change.off if change.replaced else frozenset()
    # switching edges off, or pruning them, needs no new search
    return _asked(nodes, node, replace(change, min_weight=0.0, off=off))


@lru_cache(maxsize=2)  # every panel asks: the node as it is, and as it is changed
def _asked(nodes: RunNodes, node: Node, change: WhatIf) -> Query:
    nodes.row(node)  # complains about a node that is not there
    x, network = nodes.features_of(node), nodes.student.network  # (1, d)
    bank, rows = _bank(nodes, change)
    untouched = change.k is None and len(rows) == len(nodes.bank)
    if node.part == TEST and untouched and change.protocol == "inductive":
        return Query(x, _part(nodes.graph, torch.tensor([node.index])), bank, rows)
    if change.protocol == "batch":
        others = _others(nodes, node, change)  # (B − 1,)
        mates = _mates(nodes, node, others)
        if network.scope == "bank":
            bank, rows = bank.joined(mates), torch.cat([rows, others])
        else:
            bank, rows = mates, others
    itself = torch.nonzero(rows == nodes.row(node))[:, 0]  # (1,), or (0,): not in this bank
    finder = network if change.k is None else _with_k(network, change.k)
    pixels = nodes.student.pixels(nodes.sample(node)[None])  # (1, p)
    graph = finder.find_graph(x, bank, itself if len(itself) else None, pixels)
    return Query(x, graph, bank, rows)


def _bank(nodes: RunNodes, change: WhatIf) -> tuple[Bank, Tensor]:
    """Return the bank less what the change takes from it, and the rows `(M',)` of what remains."""
    bank, rows = _share(nodes, change.bank_share, change.seed)
    off = [n.index for n in change.off if n.part == BANK] if change.replaced else []
    keep = ~torch.isin(rows, torch.tensor(off, dtype=torch.int64))
    bank = bank if keep.all() else bank.subset(keep)
    return bank, len(nodes) + rows[keep]


@lru_cache(maxsize=2)  # of each node that is looked at: distances of fewer are scaled anew
def _share(nodes: RunNodes, share: float, seed: int) -> tuple[Bank, Tensor]:
    """Return a random share of the bank, and its rows `(M',)`."""
    bank = nodes.bank if nodes.student.scope == "bank" else nodes.bank.unlabelled()
    rows = torch.arange(len(nodes.bank))  # (M,)
    if share == 1:
        return bank, rows
    keep = torch.rand(len(rows), generator=torch.Generator().manual_seed(seed)) < share
    learner = nodes.student.network.learner
    assert learner is not None  # `RunNodes.load` refused a run without graph
    if keep.sum() <= learner.k + 1:  # distances of k neighbours, of each other node too
        raise ValueError(
            f"bank_share={share} leaves {int(keep.sum())} of {len(rows)} nodes, too few for "
            f"k={learner.k}"
        )
    return nodes.student.network.scaled(bank.subset(keep)), rows[keep]


def _mates(nodes: RunNodes, node: Node, others: Tensor) -> Bank:
    """The other members `(B − 1,)` of a batch, as they stand in it beside the node."""
    itself = torch.tensor([node.index] if node.part == TEST else [], dtype=torch.int64)
    batch, pixels = torch.cat([itself, others]), nodes.pixels[TEST]
    network = nodes.student.network
    among = network.among(
        nodes.features[batch],
        None if pixels is None else pixels[batch],
        nodes.bank if network.scope == "bank" else None,
    )
    return among.subset(slice(len(itself), None))


def _others(nodes: RunNodes, node: Node, change: WhatIf) -> Tensor:
    """Rows of the other members of a batch, `(B − 1,)`."""
    generator = torch.Generator().manual_seed(change.seed)
    order = torch.randperm(len(nodes), generator=generator)  # (N,)
    gone = {node, *change.off} if change.replaced else {node}
    missing = torch.tensor([n.index for n in gone if n.part == TEST], dtype=torch.int64)
    return order[~torch.isin(order, missing)][: change.batch_size - 1]


def _part(graph: SparseGraph, nodes: Tensor) -> SparseGraph:
    """Return the graph of some of its nodes, `nodes` `(n,)`."""
    distances = None if graph.distances is None else graph.distances[nodes]
    return SparseGraph(graph.neighbours[nodes], graph.weights[nodes], distances, graph.sources)


def switched_on(nodes: RunNodes, query: Query, change: WhatIf) -> Tensor:
    """Which edges of the node in question carry weight, bool `(k,)`."""
    off = torch.tensor([nodes.row(node) for node in change.off], dtype=torch.int64)
    weights = query.graph.weights[0]
    return ~torch.isin(query.rows[query.graph.neighbours[0]], off) & (weights >= change.min_weight)


@lru_cache(maxsize=8)
def _with_k(network: GraphNetwork, k: int) -> GraphNetwork:
    """The network with another number of neighbours.

    Raises:
        ValueError: its learner knows only the k that it was trained with.
    """
    changed = deepcopy(network)
    assert changed.learner is not None  # `RunNodes.load` refused a run without graph
    if not changed.learner.any_k:
        raise ValueError(f"k={k}: the graph was trained for k={changed.learner.k} alone")
    for part in changed.learner.modules():  # each head, if there are several
        if isinstance(part, GraphLearner):
            part.k = k
    return changed

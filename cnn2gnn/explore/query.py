"""A node asks for its neighbours: who may be one, what graph is learned, which edges remain."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import BANK, TEST, Node, RunNodes
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student


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
        if self.k is not None and self.k < 1:
            raise ValueError(f"k={self.k} must be at least 1")
        if self.batch_size < 2:
            raise ValueError(f"batch_size={self.batch_size} must be at least 2")


NOTHING = WhatIf()


class Query(NamedTuple):
    """B nodes (row 0 is the one in question) with their graph before edges are switched off.

    `rows` `(P,)` tells which of all nodes the graph's neighbours are.
    """

    features: Tensor
    base_logits: Tensor
    graph: SparseGraph
    bank: Bank | None
    rows: Tensor


def apply(student: Student, query: Query, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits `(B, C)` and gate `(B,)` of a query with only the edges `keep` `(B, k)`.

    A node without any edge falls back on its base branch.
    """
    graph = thinned(query.graph, keep)
    out = student.apply_graph(query.base_logits, query.features, graph, query.bank)
    linked = graph.weights.sum(1) > 0  # (B,)
    assert out.gate is not None
    logits = torch.where(linked[:, None], out.logits, query.base_logits)
    return logits, out.gate * linked


def thinned(graph: SparseGraph, keep: Tensor) -> SparseGraph:
    """Return the graph with only the edges `keep` `(N, k)`; what remains is scaled to sum to 1.

    The shape stays: a missing edge becomes a copy of the row's last kept one, of weight 0, so that
    whoever looks at the farthest distance sees that of an edge that is there.
    """
    last = keep.sum(1, keepdim=True).clamp(min=1) - 1  # (N, 1)
    places = torch.arange(keep.shape[1]).expand_as(keep)  # (N, k)
    # the kept ones first, in their order of distance
    order = (~keep).to(torch.int8).argsort(dim=1, stable=True)
    order = order.gather(1, places.minimum(last))  # (N, k)
    weights = graph.weights.gather(1, order) * (places <= last) * keep.any(1, keepdim=True)
    total = weights.sum(1, keepdim=True)
    return SparseGraph(
        graph.neighbours.gather(1, order),
        weights / total.where(total > 0, 1.0),
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
    part, here = node.part, slice(node.index, node.index + 1)
    features, own = nodes.features[part][here], nodes.base_logits[part][here]  # (1, d), (1, C)
    untouched = change.k is None and not (change.replaced and change.off)
    if part == TEST and untouched and change.bank_share == 1 and change.protocol == "inductive":
        graph = rows_of(nodes.graph, torch.tensor([node.index]))
        return Query(features, own, graph, nodes.bank, _bank_rows(nodes))
    student = _with_k(nodes.student, change.k or nodes.student.config.k)
    others = _batch(nodes, node, change)
    if change.protocol == "batch" and nodes.student.scope == "batch":
        members = torch.cat([torch.tensor([nodes.row(node)]), others])  # (B,)
        features, own = (
            nodes.together(values)[members] for values in (nodes.features, nodes.base_logits)
        )
        pixels = _pixels(nodes, members)
        return Query(features, own, student.find_graph(features, pixels=pixels), None, members)
    bank, rows = _bank(nodes, change)
    itself = torch.nonzero(rows == nodes.row(node))[:, 0]  # (1,), or (0,): not in this bank
    if change.protocol == "batch":
        bank = bank.with_unlabelled(nodes.features[TEST][others], _pixels(nodes, others))
        rows = torch.cat([rows, others])
    pixels = _pixels(nodes, torch.tensor([nodes.row(node)]))
    graph = student.find_graph(features, bank, itself if len(itself) else None, pixels)
    return Query(features, own, graph, bank, rows)


def _bank(nodes: RunNodes, change: WhatIf) -> tuple[Bank, Tensor]:
    """Return the bank less what the change takes from it, and the rows `(M',)` of what remains."""
    keep = torch.ones(len(nodes.bank), dtype=torch.bool)
    if change.bank_share < 1:
        generator = torch.Generator().manual_seed(change.seed)
        keep = torch.rand(len(keep), generator=generator) < change.bank_share
    for other in change.off if change.replaced else ():
        if other.part == BANK:
            keep[other.index] = False
    if keep.all():
        return nodes.bank, _bank_rows(nodes)
    return nodes.bank.subset(keep), _bank_rows(nodes)[keep]


def _batch(nodes: RunNodes, node: Node, change: WhatIf) -> Tensor:
    """Rows of the other members of the batch `(B − 1,)`; none under protocol inductive."""
    if change.protocol != "batch":
        return torch.empty(0, dtype=torch.int64)
    generator = torch.Generator().manual_seed(change.seed)
    order = torch.randperm(len(nodes), generator=generator)  # (N,)
    gone = {node, *change.off} if change.replaced else {node}
    missing = torch.tensor([n.index for n in gone if n.part == TEST], dtype=torch.int64)
    return order[~torch.isin(order, missing)][: change.batch_size - 1]


def _pixels(nodes: RunNodes, rows: Tensor) -> Tensor | None:
    """Raw pixels `(n, p)` of some of all N + M rows, if the graph is taken from them."""
    test, bank = nodes.pixels[TEST], nodes.pixels[BANK]
    if test is None or bank is None:
        return None
    return torch.stack(
        [test[row] if row < len(nodes) else bank[row - len(nodes)] for row in rows.tolist()]
    )


def _bank_rows(nodes: RunNodes) -> Tensor:
    return torch.arange(len(nodes), nodes.rows)


def rows_of(graph: SparseGraph, rows: Tensor) -> SparseGraph:
    """Return the graph of some of its nodes, `rows` `(n,)`; against other sources only."""
    distances = None if graph.distances is None else graph.distances[rows]
    return SparseGraph(graph.neighbours[rows], graph.weights[rows], distances, graph.sources)


def switched_on(nodes: RunNodes, query: Query, change: WhatIf) -> Tensor:
    """Which edges of the node in question carry weight, bool `(k,)`."""
    off = torch.tensor([nodes.row(node) for node in change.off], dtype=torch.int64)
    weights = query.graph.weights[0]
    return ~torch.isin(query.rows[query.graph.neighbours[0]], off) & (weights >= change.min_weight)


def repeated(query: Query, copies: int) -> Query:
    """The query `copies` times; a graph within a set becomes so many disjoint graphs."""
    graph, size = query.graph, len(query.features)
    neighbours = graph.neighbours.repeat(copies, 1)  # (copies·B, k)
    if graph.sources is None:
        neighbours = neighbours + size * torch.arange(copies).repeat_interleave(size)[:, None]
    distances = None if graph.distances is None else graph.distances.repeat(copies, 1)
    return query._replace(
        features=query.features.repeat(copies, 1),
        base_logits=query.base_logits.repeat(copies, 1),
        graph=SparseGraph(neighbours, graph.weights.repeat(copies, 1), distances, graph.sources),
    )


@lru_cache(maxsize=8)
def _with_k(student: Student, k: int) -> Student:
    """The student with another number of neighbours."""
    if k == student.config.k:
        return student
    changed = deepcopy(student)
    changed.learner.k = k
    return changed

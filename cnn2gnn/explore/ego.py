"""The ego graph: what a node sees, and what its neighbours see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import networkx
import torch

from cnn2gnn.evaluation.nodes import BANK, Node, RunNodes
from cnn2gnn.explore.whatif import Prediction
from cnn2gnn.graph.conversions import looked_at

SECOND = 3  # edges that are shown of each neighbour: k² nodes would be no picture


def ego_graph(nodes: RunNodes, prediction: Prediction, hops: int = 1) -> networkx.DiGraph:
    """Return the node of a prediction with its neighbours, and with theirs.

    Args:
        hops: 1, or 2 with the `SECOND` nearest of each bank neighbour.

    Returns:
        Nodes are `Node`s with `hop`; edges carry `weight`.

    Raises:
        ValueError: another number of hops.
    """
    if hops not in (1, 2):
        raise ValueError(f"hops={hops} must be 1 or 2")

    def look(seen: Sequence[Node]) -> Iterator[tuple[Node, Node, float]]:
        """Edges (from, to, weight) of nodes: of the selected one as edited, of others as found."""
        if seen == [prediction.node]:
            weights = prediction.weights.tolist()
            for node, weight in zip(prediction.neighbours, weights, strict=True):
                if weight > 0:
                    yield prediction.node, node, weight
            return
        bank = [node for node in seen if node.part == BANK]
        found = nodes.bank_graph(torch.tensor([node.index for node in bank], dtype=torch.int64))
        for node, indices, shares in zip(bank, found.neighbours, found.weights, strict=True):
            edges = shares > 0  # of heads that share a neighbour, one row of it has all
            there = zip(indices[edges].tolist(), shares[edges].tolist(), strict=True)
            for index, weight in islice(there, SECOND):
                yield node, Node(BANK, index), weight

    return looked_at(look, prediction.node, hops)

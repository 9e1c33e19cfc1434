"""The ego graph: what a node sees, and what its neighbours see."""

from __future__ import annotations

import networkx
import torch

from cnn2gnn.evaluation.nodes import BANK, Node, RunNodes
from cnn2gnn.explore.whatif import Prediction

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
    graph = networkx.DiGraph()
    graph.add_node(prediction.node, hop=0)
    for node, weight in zip(prediction.neighbours, prediction.weights.tolist(), strict=True):
        if weight > 0:
            graph.add_node(node, hop=1)
            graph.add_edge(prediction.node, node, weight=weight)
    first = [node for node, hop in graph.nodes(data="hop") if hop == 1 and node.part == BANK]
    if hops == 2 and first:
        found = nodes.bank_graph(torch.tensor([node.index for node in first]))
        for node, indices, weights in zip(first, found.neighbours, found.weights, strict=True):
            pairs = zip(indices[:SECOND].tolist(), weights[:SECOND].tolist(), strict=True)
            for other, weight in ((Node(BANK, index), weight) for index, weight in pairs):
                if other not in graph:
                    graph.add_node(other, hop=2)
                graph.add_edge(node, other, weight=weight)
    return graph

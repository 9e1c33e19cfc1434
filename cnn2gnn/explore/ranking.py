"""Edges by what they do: how far the prediction moves when each is removed.

Computed by the student without the edge, not guessed from the weight.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import TEST, Node, RunNodes
from cnn2gnn.explore.query import NOTHING, WhatIf
from cnn2gnn.explore.whatif import predict, without_each_edge, without_each_edge_of


def edges_of_node(nodes: RunNodes, node: Node, change: WhatIf = NOTHING) -> pd.DataFrame:
    """Return the edges of one node, the one that moves the prediction most first.

    Returns:
        Columns node, label, weight; change, of the probability of the class now predicted;
        change_true, of the true class; predicted, the class then predicted. The index is the
        position among the neighbours, 0 for the heaviest.
    """
    now = predict(nodes, node, change)
    then = without_each_edge(nodes, node, change).softmax(1)  # (k, C)
    moved = then - now.probabilities  # (k, C)
    ranking = pd.DataFrame(
        {
            "node": now.neighbours,
            "label": [nodes.classes[nodes.label(neighbour)] for neighbour in now.neighbours],
            "weight": now.weights.numpy(),
            "change": moved[:, now.predicted].numpy(),
            "change_true": moved[:, nodes.label(node)].numpy(),
            "predicted": [nodes.classes[best] for best in then.argmax(1)],
        }
    )
    return _by_change(ranking)


def edges_of_test_nodes(nodes: RunNodes, indices: np.ndarray) -> pd.DataFrame:
    """Return all edges of several test nodes, the one that moves its prediction most first.

    Args:
        indices: of test nodes, `(n,)`.

    Returns:
        Columns test, bank (indices), weight, change and change_true as in `edges_of_node`, and
        flips, whether the prediction changes.
    """
    chosen = torch.from_numpy(np.array(indices, dtype=np.int64))  # (n,)
    then = without_each_edge_of(nodes, chosen).softmax(2)  # (n, k, C)
    moved = then - nodes.logits[chosen].softmax(1)[:, None]  # (n, k, C)
    predicted = nodes.logits[chosen].argmax(1)[:, None, None]  # (n, 1, 1)
    true = nodes.labels[TEST][chosen][:, None, None]  # (n, 1, 1)
    k = then.shape[1]

    def of(classes: Tensor) -> np.ndarray:
        return moved.gather(2, classes.expand(-1, k, -1)).flatten().numpy()

    ranking = pd.DataFrame(
        {
            "test": chosen.repeat_interleave(k).numpy(),
            "bank": nodes.graph.neighbours[chosen].flatten().numpy(),
            "weight": nodes.graph.weights[chosen].flatten().numpy(),
            "change": of(predicted),
            "change_true": of(true),
            "flips": (then.argmax(2) != predicted[:, 0]).flatten().numpy(),
        }
    )
    return _by_change(ranking[ranking["weight"] > 0])  # the others are no edges


def _by_change(ranking: pd.DataFrame) -> pd.DataFrame:
    return ranking.sort_values("change", key=np.abs, ascending=False, kind="stable")

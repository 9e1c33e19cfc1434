"""Which classes the graph connects: edge mass between classes, and the edges of a cell."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.graph import shares


def class_mixing(labels: Tensor, neighbour_labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Mean share of their weight that nodes of class a give to neighbours of class b, `(C, C)`.

    Rows of classes that occur sum to 1, also where a node's weights do not (degrees divide them),
    those of others are NaN:
    M_ab = Σ_{i: y_i=a} Σ_j s_ij [y_j = b] / Σ_j s_ij / n_a.

    Args:
        labels: `(N,)`; neighbour_labels: `(N, k)`, −1 for unknown; weights: `(N, k)`.
    """
    weights = shares(weights)
    known = neighbour_labels >= 0  # (N, k)
    cell = labels[:, None] * classes + neighbour_labels.clamp(min=0)  # (N, k)
    mass = torch.zeros(classes * classes, dtype=weights.dtype)
    mass.index_add_(0, cell.flatten(), (weights * known).flatten())
    counts = torch.bincount(labels, minlength=classes)  # (C,)
    return mass.unflatten(0, (classes, classes)) / counts[:, None]


class Edges:
    """All edges of the run, from test nodes to bank nodes, ready to be asked for."""

    def __init__(self, nodes: RunNodes) -> None:
        graph, self._classes = nodes.graph, nodes.classes
        self._test = torch.arange(len(graph)).repeat_interleave(graph.neighbours.shape[1])
        self._bank, self._weights = graph.neighbours.flatten(), graph.weights.flatten()
        self._from, self._to = nodes.labels[TEST][self._test], nodes.labels[BANK][self._bank]
        self.mixing = class_mixing(
            nodes.labels[TEST],
            nodes.labels[BANK][graph.neighbours],
            graph.weights,
            len(nodes.classes),
        )

    def of_cell(self, row: int, column: int, most: int = 50) -> pd.DataFrame:
        """Edges from test nodes of class `row` to bank nodes of class `column`, heaviest first.

        Returns:
            At most `most` lines: test, bank (indices), weight, label, neighbour_label (names).
        """
        return self._heaviest((self._from == row) & (self._to == column), most)

    def between_classes(self, most: int = 50) -> pd.DataFrame:
        """Edges between different classes, heaviest first; columns as in `of_cell`."""
        return self._heaviest(self._from != self._to, most)

    def _heaviest(self, mask: Tensor, most: int) -> pd.DataFrame:
        edges = torch.nonzero(mask & (self._weights > 0))[:, 0]
        best = edges[self._weights[edges].argsort(descending=True, stable=True)[:most]]
        return pd.DataFrame(
            {
                "test": self._test[best].numpy(),
                "bank": self._bank[best].numpy(),
                "weight": self._weights[best].numpy(),
                "label": [self._classes[label] for label in self._from[best]],
                "neighbour_label": [self._classes[label] for label in self._to[best]],
            }
        )

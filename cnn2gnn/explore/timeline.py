"""How the graph changed while stage two learned it."""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from cnn2gnn.evaluation.mixing import class_mixing
from cnn2gnn.graph import effective_neighbours, shares
from cnn2gnn.runs import Run


class Timeline:
    """The snapshots of a run: the graph of some validation images after each pass of stage two.

    Passes are counted from 1, so that the first snapshot is one of a graph that has learned.

    Args:
        baseline: look at the run's baseline of this name instead of its student.

    Attributes:
        name: of the run, or of its baseline.
        table: one line per pass (the index): purity, the mean weight on the own class;
            effective_neighbours, the mean of exp(H); homophily, the share of edges within a
            class; base_accuracy of these images, without neighbours.
        mixing: class-to-class edge mass per pass, `(C, C)`.
    """

    def __init__(self, run: Run, classes: int, baseline: str | None = None) -> None:
        self.name = baseline or run.folder.name
        snapshots = {epoch + 1: snapshot for epoch, snapshot in run.snapshots(baseline)}
        lines = {number: _measures(snapshot) for number, snapshot in snapshots.items()}
        self.table = pd.DataFrame.from_dict(lines, orient="index")
        self.table.index.name = "pass"
        self.mixing: dict[int, Tensor] = {
            number: class_mixing(s["labels"], s["neighbour_labels"], s["weights"], classes)
            for number, s in snapshots.items()
        }

    @property
    def passes(self) -> list[int]:
        """Passes with a snapshot; none if the run saved none."""
        return list(self.mixing)


def _measures(snapshot: dict[str, Tensor]) -> dict[str, float]:
    labels, weights = snapshot["labels"], snapshot["weights"]  # (N,), (N, k)
    same = snapshot["neighbour_labels"] == labels[:, None]  # (N, k)
    return {
        "purity": (shares(weights) * same).sum(1).mean().item(),
        "effective_neighbours": effective_neighbours(weights).mean().item(),
        "homophily": same[weights > 0].float().mean().item(),
        "base_accuracy": (snapshot["base_logits"].argmax(1) == labels).float().mean().item(),
    }

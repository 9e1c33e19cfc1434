"""How the graph changed while the student learned."""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from cnn2gnn.evaluation.mixing import class_mixing
from cnn2gnn.graph import effective_neighbours
from cnn2gnn.runs import Run


class Timeline:
    """The snapshots of a run: the graph of some validation images after each epoch.

    Args:
        baseline: look at the run's baseline of this name instead of its student.

    Attributes:
        name: of the run, or of its baseline.
        table: one line per epoch (the index): purity, the mean weight on the own class;
            effective_neighbours, the mean of exp(H); homophily, the share of edges within a
            class; base_accuracy of these images, without neighbours.
        mixing: class-to-class edge mass per epoch, `(C, C)`.
    """

    def __init__(self, run: Run, classes: int, baseline: str | None = None) -> None:
        self.name = baseline or run.folder.name
        snapshots = run.snapshots(baseline)
        lines = {epoch: _measures(snapshot) for epoch, snapshot in snapshots}
        self.table = pd.DataFrame.from_dict(lines, orient="index")
        self.table.index.name = "epoch"
        self.mixing: dict[int, Tensor] = {
            epoch: class_mixing(s["labels"], s["neighbour_labels"], s["weights"], classes)
            for epoch, s in snapshots
        }

    @property
    def epochs(self) -> list[int]:
        """Epochs with a snapshot; none before the graph joined the training."""
        return list(self.mixing)


def _measures(snapshot: dict[str, Tensor]) -> dict[str, float]:
    labels, weights = snapshot["labels"], snapshot["weights"]  # (N,), (N, k)
    same = snapshot["neighbour_labels"] == labels[:, None]  # (N, k)
    return {
        "purity": (weights * same).sum(1).mean().item(),
        "effective_neighbours": effective_neighbours(weights).mean().item(),
        "homophily": same[weights > 0].float().mean().item(),
        "base_accuracy": (snapshot["base_logits"].argmax(1) == labels).float().mean().item(),
    }

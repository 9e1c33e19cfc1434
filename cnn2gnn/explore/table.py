"""One line per test node, to be filtered, sorted, coloured and exported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.evaluation.verdicts import VERDICTS, verdicts
from cnn2gnn.graph import degree, effective_neighbours, purity

SORTINGS = ("index", "mistakes", "confidence", "disagreement", "batch_sensitivity")


def node_table(nodes: RunNodes) -> pd.DataFrame:
    """Return one line per test node, in order.

    Columns: label, predicted, base_predicted, teacher_predicted (class names); correct; verdict
    (see `verdicts`); confidence, of the
    prediction, in [0, 1]; disagreement, the total variation between student and teacher,
    ½ Σ_c |s_c − t_c|, in [0, 1]; gate; purity, the weight on neighbours of the true class;
    effective_neighbours, exp(H) of the weights; degree, edges of positive weight; heaviest edge.
    """
    labels, student = nodes.labels[TEST], nodes.logits.softmax(1)  # (N,), (N, C)
    teacher = nodes.teacher_logits.softmax(1)  # (N, C)
    confidence, predicted = student.max(1)
    base_logits = nodes.base_logits[TEST]  # (N, C)
    names = np.array(nodes.classes, dtype=object)
    return pd.DataFrame(
        {
            "label": names[labels],
            "predicted": names[predicted],
            "base_predicted": names[base_logits.argmax(1)],
            "teacher_predicted": names[teacher.argmax(1)],
            "correct": (predicted == labels).numpy(),
            "verdict": verdicts(nodes.logits, base_logits, labels),
            "confidence": confidence.numpy(),
            "disagreement": ((student - teacher).abs().sum(1) / 2).numpy(),
            "gate": nodes.gate.numpy(),
            "purity": purity(nodes.graph, labels, nodes.labels[BANK]).numpy(),
            "effective_neighbours": effective_neighbours(nodes.graph.weights).numpy(),
            "degree": (nodes.graph.weights > 0).sum(1).numpy(),
            "heaviest_edge": nodes.graph.weights.amax(1).numpy(),
        },
        index=pd.RangeIndex(len(nodes), name="index"),
    )


def bank_degree(nodes: RunNodes) -> np.ndarray:
    """How many test nodes look at each bank node, `(M,)`."""
    return degree(nodes.graph).numpy()


@dataclass(frozen=True)
class Filters:
    """Which test nodes are listed, and in which order. The default lists all.

    Attributes:
        classes: of the true label; empty: all.
        verdicts: of correct, rescued, harmed, wrong; empty: all.
        disagree: whether only nodes where student and teacher predict different classes.
        confidence: lowest and highest, in [0, 1].
        min_weight: only nodes with an edge at least so heavy.
        sort: `index`, `mistakes` (wrong ones first, the most confident first), `confidence` (the
            least first), `disagreement` or `batch_sensitivity` (the largest first).
    """

    classes: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    disagree: bool = False
    confidence: tuple[float, float] = (0.0, 1.0)
    min_weight: float = 0.0
    sort: str = "index"

    def __post_init__(self) -> None:
        for name in ("classes", "verdicts"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ValueError(f"{name}={given!r} must be several: ({given!r}, …)")
        unknown = [verdict for verdict in self.verdicts if verdict not in VERDICTS]
        if unknown:
            raise ValueError(f"verdicts={unknown[0]!r} must be of {', '.join(VERDICTS)}")
        if self.sort not in SORTINGS:
            raise ValueError(f"sort={self.sort!r} must be one of {', '.join(SORTINGS)}")
        low, high = self.confidence
        if not 0 <= low <= high <= 1:
            raise ValueError(f"confidence={self.confidence} must be an interval within [0, 1]")

    def __call__(self, table: pd.DataFrame) -> np.ndarray:
        """Return the indices that pass, in order.

        Raises:
            ValueError: sorting by a column that is not there yet.
        """
        low, high = self.confidence
        kept = (table["confidence"] >= low) & (table["confidence"] <= high)
        kept &= table["heaviest_edge"] >= self.min_weight
        if self.classes:
            kept &= table["label"].isin(self.classes)
        if self.verdicts:
            kept &= table["verdict"].isin(self.verdicts)
        if self.disagree:
            kept &= table["predicted"] != table["teacher_predicted"]
        return self._sorted(table[kept]).index.to_numpy()

    def _sorted(self, table: pd.DataFrame) -> pd.DataFrame:
        if self.sort == "index":
            return table
        if self.sort == "mistakes":
            return table.sort_values(["correct", "confidence"], ascending=[True, False])
        if self.sort not in table:
            raise ValueError(f"sort={self.sort!r} needs compute_sensitivity() first")
        return table.sort_values(self.sort, ascending=self.sort == "confidence", kind="stable")

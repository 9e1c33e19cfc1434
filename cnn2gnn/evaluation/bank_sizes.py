"""What a smaller bank costs in accuracy: chosen on validation images, shown on test images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
from torch import Tensor

from cnn2gnn.data import Splits
from cnn2gnn.evaluation.bank_changes import check_size
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.quantisation import BITS
from cnn2gnn.models.student import Student, StudentOutput

SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)  # of the nodes of each class
TOLERATED = 0.003  # accuracy that the chosen bank may cost on validation images


def smaller_banks(student: Student, bank: Bank) -> Iterator[tuple[str, Bank]]:
    """Yield the bank as it is and then smaller ones, by name, as far as the student takes them."""
    yield "as saved", bank
    for bits in BITS:
        yield f"keys of {bits} bits", student.network.scaled(bank.rounded(bits))
    for share, smaller in fewer_nodes(student, bank, SHARES):
        yield f"{bits} bits, {share:.0%} of the nodes", smaller


def fewer_nodes(
    student: Student, bank: Bank, shares: Iterable[float]
) -> Iterator[tuple[float, Bank]]:
    """Yield shares of the nodes with keys of the fewest bits, as far as the student takes them."""
    fewest = bank.rounded(min(BITS))
    for share in shares:
        smaller = fewest.condensed(share)
        try:
            check_size(student, smaller, f"share={share}")
        except ValueError:
            return
        yield share, student.network.scaled(smaller)


def bank_sizes(student: Student, bank: Bank, splits: Splits) -> pd.DataFrame:
    """Accuracy under protocol inductive by the bank's size, the largest first.

    Returns:
        Columns bank, nodes, megabytes, validation and test (accuracies in [0, 1]). The bank as it
        is comes first.
    """
    parts = {"validation": splits.validation, "test": splits.test}
    nodes = {name: no_graph(student, part.images) for name, part in parts.items()}
    rows = []
    for name, smaller in smaller_banks(student, bank):
        found = {
            part: inductive_accuracy(student, nodes[part], smaller, images.labels)
            for part, images in parts.items()
        }
        rows.append({"bank": name, "nodes": len(smaller), "megabytes": smaller.megabytes, **found})
    return pd.DataFrame(rows)


def inductive_accuracy(student: Student, nodes: StudentOutput, bank: Bank, labels: Tensor) -> float:
    """Accuracy in [0, 1] of nodes, as of `protocols.no_graph`, that look into a bank."""
    return accuracy(inductive(student, nodes, bank).logits, labels.to(bank.labels.device))


def chosen(sizes: pd.DataFrame) -> str:
    """Name the smallest bank that costs at most `TOLERATED` on validation images.

    Args:
        sizes: as of `bank_sizes`, of one run or of several; then means decide.
    """
    means = sizes.groupby("bank", sort=False)[["megabytes", "validation"]].mean()
    # rounding: one part in a million is no difference between accuracies
    good = means["validation"] >= means["validation"].iloc[0] - TOLERATED - 1e-6
    return str(means.loc[good, "megabytes"].idxmin())

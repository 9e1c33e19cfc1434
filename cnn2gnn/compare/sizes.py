"""Accuracy against what stands beside a test image: how large its batch is, or its bank.

Measured on finished cells after they ran, and kept: each cell is measured once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from cnn2gnn.base.files import replacing
from cnn2gnn.compare.grid import Cell
from cnn2gnn.compare.results import configuration, manifest_hash
from cnn2gnn.evaluation.bank_sizes import SHARES, fewer_nodes, inductive_accuracy
from cnn2gnn.evaluation.protocols import no_graph
from cnn2gnn.report.measures import batch_sizes
from cnn2gnn.report.results import Results

COLUMNS = ["cell", "manifest", "protocol", "beside", "size", "accuracy"]


def by_size(cells: Sequence[Cell], kept: Path) -> pd.DataFrame:
    """Return the students' accuracies by the size that their scope is about, as far as they have.

    Scope `bank`: protocol inductive against fewer nodes, as of `evaluation.bank_sizes`. Scope
    `batch`: shuffled test batches, the mean over reshuffles, as of `report.measures.batch_sizes`.

    Args:
        kept: a parquet of what has been measured; what is missing is added.

    Returns:
        One row a cell and size: cell, manifest (a hash), protocol, beside (`90%` of the
        bank, batches of `100`), size (nodes of the bank, images of a batch), accuracy (test, in
        [0, 1]), configuration.
    """
    known = pd.read_parquet(kept) if kept.is_file() else pd.DataFrame(columns=COLUMNS)
    now = {cell.name: manifest_hash(cell) for cell in cells}
    known = known[known["manifest"] == known["cell"].map(now)]  # of the runs as they are
    missing = [cell for cell in cells if cell.name not in set(known["cell"])]
    for cell in tqdm(missing, "sizes", unit="cell", disable=None):
        found = _measured(cell).assign(cell=cell.name, manifest=now[cell.name])[COLUMNS]
        known = pd.concat([part for part in (known, found) if len(part)] or [known])
        with replacing(kept) as path:  # each is kept at once: a killed comparison goes on here too
            known.to_parquet(path, index=False)
    names = {cell.name: configuration(cell) for cell in cells}
    order = {name: place for place, name in enumerate(names)}
    table = known.assign(configuration=known["cell"].map(names))
    return table.sort_values("cell", key=lambda c: c.map(order), kind="stable", ignore_index=True)


def _measured(cell: Cell) -> pd.DataFrame:
    """Protocol, beside, size and accuracy of one cell; no row where its graph has no size."""
    result = Results.read(cell.folder)
    if cell.config.student.scope == "batch" and result.has_graph:
        found = batch_sizes(result.nodes).query("order == 'shuffled'")
        means = found.groupby("batch_size", as_index=False)["accuracy"].mean()
        beside = [str(size) for size in means["batch_size"]]
        means = means.rename(columns={"batch_size": "size"})
        return means.assign(protocol="batch", beside=beside)
    if not result.has_sizes:
        return pd.DataFrame(columns=COLUMNS)
    student, test = result.nodes.student, result.splits.test
    nodes = no_graph(student, test.images)
    rows = [
        {
            "protocol": "inductive",
            "beside": f"{share:.0%}",
            "size": len(bank),
            "accuracy": inductive_accuracy(student, nodes, bank, test.labels),
        }
        for share, bank in fewer_nodes(student, result.nodes.bank, (1.0, *SHARES))
    ]
    return pd.DataFrame(rows)

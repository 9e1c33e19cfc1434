"""Sections on what stands beside a test sample: batches, sorted ones, and near copies of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnn2gnn.evaluation.near_copies import near_copies
from cnn2gnn.report import figures, measures, tables
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import BANK_FILE, NODES_FILE, STUDENT_FILE, Exhibit, Section, sources


def batches(results: Sequence[Results]) -> Section:
    """How the prediction depends on the batch: honestly shuffled, and sorted as an audit.

    One batch of all test samples has neither; where there is no other, the audit is left out.
    """
    sizes = tables.tidy(
        results, lambda r: measures.batch_sizes(r.nodes), NODES_FILE, STUDENT_FILE, BANK_FILE
    )
    source = sources(results, NODES_FILE, STUDENT_FILE, BANK_FILE)
    audited = "sorted" in {*sizes["order"]}
    leak = (
        "Whoever evaluates on an unshuffled folder, sorted by class, measures the second curve of "
        "the audit."
    )
    caption = "Audit, no result: batches sorted by class against shuffled ones."
    return Section(
        "Batches, and the audit",
        "A graph student may depend on the samples that stand beside it. "
        + (leak if audited else tables.ONE_BATCH),
        (
            _by_size(results, sizes, source),
            *([Exhibit("audit", caption, source, figures.audit(sizes))] if audited else []),
            Exhibit(
                "batch_sizes",
                "Accuracy in batches by their size: mean ± standard deviation over reshuffles"
                + (" and runs" if len(results) > 1 else "")
                + _whole(results, sizes),
                source,
                _table(sizes),
                sizes,
            ),
            _near_copies(results),
        ),
    )


def _by_size(results: Sequence[Results], sizes: pd.DataFrame, source: str) -> Exhibit:
    metrics = [result.metrics["student"]["accuracy"] for result in results]
    no_graph, inductive = (
        sum(m[protocol] for m in metrics) / len(metrics) for protocol in ("no_graph", "inductive")
    )
    return Exhibit(
        "accuracy_by_batch_size",
        "Accuracy in shuffled test batches by their size; bars: one standard deviation"
        + _whole(results, sizes),
        f"{source}; no_graph and inductive: {sources(results, 'metrics.json')}",
        figures.accuracy_by_batch_size(sizes, no_graph, inductive),
    )


def _whole(results: Sequence[Results], sizes: pd.DataFrame) -> str:
    """End a caption: one of the sizes may be that of the whole test split."""
    count = results[0].metrics["images"]["test"]
    within = count in {*sizes["batch_size"]}
    return f"; {count:,} are all in one batch, which has no order." if within else "."


def _table(sizes: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in % of each size, as text; one batch of a single run has no deviation."""
    rows = {}
    for size, group in sizes.groupby("batch_size"):
        shuffled, in_order = (
            100 * group["accuracy"][group["order"] == order] for order in ("shuffled", "sorted")
        )
        varies = len(in_order) or group["run"].nunique() > 1
        rows[size] = {
            "shuffled [%]": tables.mean_std([*shuffled] if varies else [shuffled.mean()]),
            "sorted (audit) [%]": tables.number(in_order.mean()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("batch size")


def _near_copies(results: Sequence[Results]) -> Exhibit:
    """What the graph is worth without test samples that have near copies among the training ones.

    Beside the twin; where a run has none, beside the student itself without neighbours.
    """
    twins = all("twin_logits" in result.tensors for result in results)
    rival, is_called = ("twin", "the twin") if twins else ("base", "the student without neighbours")
    found = tables.tidy(
        results,
        lambda r: near_copies(r.splits, r.tensors["logits"], r.tensors[f"{rival}_logits"]),
        NODES_FILE,
    ).rename(columns={"beside": f"{rival}_accuracy"})
    return Exhibit(
        "near_copies",
        f"Audit: accuracy of {is_called} and with the graph, when the test samples nearest to a "
        "training sample (of images: in pixels, at 8x8) are left out. What vanishes with them was "
        "found in near copies.",
        f"{sources(results, NODES_FILE)}, and the data",
        tables.over_runs(found, "without", [f"{rival}_accuracy", "accuracy", "gain"]),
        found,
    )

"""What a comparison says: accuracies, what the graph is worth, and differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from cnn2gnn.compare import figures, results
from cnn2gnn.compare.grid import SEEDS, Cell
from cnn2gnn.models.quantisation import BITS
from cnn2gnn.report.section import Exhibit, Section
from cnn2gnn.report.tables import NONE, mean_std

_ACCURACY = {
    "teacher": ("teacher", "no_graph"),
    "twin": ("twin", "no_graph"),
    "inductive": ("student", "inductive"),
}


def sections(
    name: str, cells: Sequence[Cell], failed: Mapping[str, str], by_size: pd.DataFrame
) -> list[Section]:
    """Build all sections of the finished `cells` of a comparison.

    Args:
        failed: why the others did not finish, by cell.
        by_size: as of `sizes.by_size`.
    """
    parts = [_failures(failed)] if failed else []
    if not cells:
        return parts
    groups, tidy = results.by_configuration(cells), results.tidy(cells)
    source = f"{name}/results.parquet"
    gains, against = results.gains(groups), results.differences(groups)
    parts.append(_accuracies(tidy, gains, source))
    parts += [_along(tidy, numbers, source) for numbers in [_numbers(tidy, cells)] if numbers]
    worth = "The graph student under inductive minus its own twin."
    if len(gains):
        parts.append(_intervals("gains", "What the graph is worth", worth, gains, source))
    parts += _against(against, results.unpaired(groups), source)
    for protocol, table in by_size.groupby("protocol"):
        parts.append(_sizes(str(protocol), table, f"{name}/sizes.parquet"))
    return parts


def accuracy_table(tidy: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Return accuracies in % and gains in points by configuration, as text.

    Args:
        tidy, gains: as of `results.tidy` and `results.gains`.
    """
    rows = {}
    accuracies = tidy[tidy["metric"] == "accuracy"]
    for name, group in accuracies.groupby("configuration", sort=False):
        row = {"runs": str(group["cell"].nunique())}
        for heading, (model, protocol) in _ACCURACY.items():
            here = group[(group["model"] == model) & (group["protocol"] == protocol)]
            row[heading] = mean_std([100 * value for value in here["value"]])
        gain = gains[gains["configuration"] == name]
        row["gain over twin"] = NONE if gain.empty else _said(gain.iloc[0])
        rows[name or "all runs"] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("configuration")


def _accuracies(tidy: pd.DataFrame, gains: pd.DataFrame, source: str) -> Section:
    table = accuracy_table(tidy, gains)
    return Section(
        "Accuracy",
        "Test accuracy in %, last epoch; nothing is chosen on test. inductive: each sample alone "
        "against the bank; twin: from the same stage one, trained as long, without a graph.",
        (
            Exhibit(
                "accuracy",
                "Test accuracy in %, mean ± standard deviation over the seeds; gain over the "
                "equally trained twin in points, with its 95 % interval.",
                source,
                table,
                tidy,
            ),
            Exhibit(
                "accuracy_by_configuration",
                "Test accuracy by configuration. Faint: single runs; bars: one standard deviation"
                + _cut(len(table)),
                source,
                figures.by_configuration(tidy),
            ),
        ),
    )


def _sizes(protocol: str, by_size: pd.DataFrame, source: str) -> Section:
    """Accuracy by the size of the bank (inductive), or of test batches (batch)."""
    what = {"inductive": "bank", "batch": "batch"}[protocol]
    texts = {
        "bank": "Each sample alone against a compressed bank of fewer nodes, a share of every "
        f"class that keeps its mean, with keys of {BITS[-1]} bits a dimension; nothing is trained "
        "again.",
        "batch": "Students of scope batch, whose neighbours are the other samples of a shuffled "
        "test batch; the mean over reshuffles.",
    }
    columns = {"bank": "by the share of the bank's nodes", "batch": "by the samples in a batch"}
    said = (100 * by_size["accuracy"]).groupby([by_size["configuration"], by_size["beside"]])
    table = said.agg(lambda values: mean_std([*values])).unstack().fillna(NONE)
    table = table.loc[by_size["configuration"].unique(), _largest_first(by_size)]
    names = [name or "all runs" for name in table.index]
    return Section(
        f"By the size of the {what}",
        texts[what],
        (
            Exhibit(
                f"accuracy_by_{what}_size",
                f"Test accuracy by the size of the {what}; bars: one standard deviation over the "
                "seeds" + _cut(len(table)),
                source,
                figures.by_size(
                    by_size, f"{'nodes' if what == 'bank' else 'samples'} of the {what}"
                ),
            ),
            Exhibit(
                f"{what}_sizes",
                f"Test accuracy in %, mean ± standard deviation over the seeds, {columns[what]}.",
                source,
                table.set_axis(pd.Index(names, name="configuration")),
                by_size,
            ),
        ),
    )


def _largest_first(by_size: pd.DataFrame) -> list[str]:
    return list(by_size.groupby("beside")["size"].max().sort_values(ascending=False).index)


def _numbers(tidy: pd.DataFrame, cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Varied parameters that are numbers, each with the other varied ones; seeds are none."""
    varied = dict.fromkeys(n for cell in cells for n in cell.varied if n not in SEEDS)
    return {
        name: [other for other in varied if other != name]
        for name in varied
        if is_numeric_dtype(tidy[name]) and tidy[name].dtype != bool and tidy[name].nunique() > 1
    }


def _along(tidy: pd.DataFrame, numbers: Mapping[str, Sequence[str]], source: str) -> Section:
    return Section(
        "Along a parameter",
        "Lines lead through means, bars are one standard deviation over the seeds.",
        tuple(
            Exhibit(
                f"accuracy_by_{name}",
                f"Test accuracy by {name}.",
                source,
                figures.along(tidy, name, others),
            )
            for name, others in numbers.items()
        ),
    )


def _against(against: pd.DataFrame, unpaired: Sequence[str], source: str) -> list[Section]:
    """Differences from the first configuration, and which have none; empty without either."""
    title, text = "Against the first configuration", "Students under inductive, paired by seed."
    if unpaired:
        text += f" Left out, since tested on other samples: {'; '.join(unpaired)}."
    if len(against):
        return [_intervals("differences", title, text, against, source)]
    return [Section(title, text, ())] if unpaired else []


def _intervals(name: str, title: str, text: str, table: pd.DataFrame, source: str) -> Section:
    said = [_said(row) for _, row in table.iterrows()]
    shown = table[["configuration", "against", "runs"]].replace({"": "all runs"})
    return Section(
        title,
        f"{text} Intervals of 95 % by a bootstrap over seeds and test samples. Of few seeds they "
        "are too narrow where seeds differ much, and too wide where they hardly do. They hold for "
        "what the runs share, such as one teacher and one split.",
        (
            Exhibit(
                name,
                "Differences in points, with their 95 % intervals.",
                source,
                shown.assign(points=said).set_index("configuration"),
                table,
            ),
            Exhibit(
                f"{name}_drawn",
                "Differences in points, with their 95 % intervals" + _cut(len(table)),
                source,
                figures.intervals(table),
            ),
        ),
    )


def _failures(failed: Mapping[str, str]) -> Section:
    table = pd.DataFrame({"error": failed}).rename_axis("cell")
    caption = "Cells without a result, and why."
    return Section("Failed", caption, (Exhibit("failed", caption, "logs", table),))


def _said(row: pd.Series) -> str:
    return f"{row['points']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _cut(count: int) -> str:
    """Say what a figure leaves out."""
    return "." if count <= figures.MANY else f"; the first {figures.MANY} of {count}."

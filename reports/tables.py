"""Write the README's tables of accuracies from `reports/results/`, one row a configuration.

    python reports/tables.py           # rewrites the README between its marks
    python reports/tables.py --keep NAME …   # first takes over what `cnn2gnn compare NAME` found

Each folder `reports/results/NAME/` holds the grid that made it (`comparison.toml`), the tidy
`results.parquet` and `gains.csv`; `about.toml` says in words what was measured, and on what, and
`only = "teacher"` where a large network stands alone, as a competitor, and `alike = true` where all
configurations share a teacher, and perhaps a twin: they have a table of their own, best first. A
graph is in a table with three seeds at least; what has fewer is in the research log alone.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tomlkit

REPORTS = Path(__file__).parent
README = REPORTS.parent / "README.md"
MARK, END = "<!-- {}: made by reports/tables.py -->", "<!-- end of {} -->"
KEPT = ("comparison.toml", "results.parquet", "tables/gains.csv")
SEEDS = 3  # at least
MODELS = {"teacher": "no_graph", "twin": "no_graph", "student": "inductive"}  # and protocols
HEAD = [
    "| data | seeds | teacher | twin | with its graph, `inductive` | gain [95 %] |",
    "|---|---|---|---|---|---|",
]


def main() -> None:
    """Take over the results that are named, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", nargs="+", default=[], metavar="NAME", help="of a comparison")
    for name in parser.parse_args().keep:
        keep(REPORTS / name, REPORTS / "results" / name)
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")


def keep(comparison: Path, folder: Path) -> None:
    """Copy the small files of a comparison's report."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copy(comparison / name, folder)


def with_tables(readme: str) -> str:
    """Return the README with the tables between their marks made anew."""
    for name, table in tables().items():
        mark, end = MARK.format(name), END.format(name)
        before, _, rest = readme.partition(mark)
        _, _, after = rest.partition(end)
        readme = f"{before}{mark}\n\n{table}\n\n{end}{after}"
    return readme


def tables() -> dict[str, str]:
    """Return the tables of all results that are kept, in Markdown, each by its mark's name."""
    made, rows = {}, list(HEAD)
    for folder in sorted(path.parent for path in REPORTS.glob("results/*/results.parquet")):
        about = tomlkit.parse((folder / "about.toml").read_text(encoding="utf-8"))
        tidy = pd.read_parquet(folder / "results.parquet")
        if about.get("alike"):
            made[folder.name] = _alike(folder, about, tidy)
        else:
            rows += _rows(folder, about, tidy)
    return {"measured": "\n".join(rows), **made}


def _alike(folder: Path, about: Mapping[str, Any], tidy: pd.DataFrame) -> str:
    """The table of what shares a teacher, best first; where all share a twin, too, it heads it."""
    gains = pd.read_csv(folder / "gains.csv", keep_default_na=False)
    assert tidy["seed"].nunique() >= SEEDS
    twins = {_accuracy(here, "twin", "no_graph") for _, here in tidy.groupby("configuration")}
    above = ["teacher"] if len(twins) > 1 else ["teacher", "twin"]
    models = [model for model in ("twin", "student") if model not in above]
    alike = tidy[tidy["configuration"] == tidy["configuration"].iloc[0]]  # of those that share
    of = [f"{model} {_accuracy(alike, model, MODELS[model])}" for model in above]
    names = {"twin": "twin", "student": "`inductive`"}
    head = [", ".join([about["data"], *of]), *(names[model] for model in models), "gain [95 %]"]
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    knows = _values(tidy, "student", "inductive").groupby(tidy["configuration"]).mean()
    gains["knows"] = gains["configuration"].map(knows)
    for _, gain in gains.sort_values("knows", ascending=False).iterrows():
        here = tidy[tidy["configuration"] == gain["configuration"]]
        found = (_accuracy(here, model, MODELS[model]) for model in models)
        cells = [f"`{gain['configuration']}`", *found, _points(gain)]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _rows(folder: Path, about: Mapping[str, Any], tidy: pd.DataFrame) -> list[str]:
    if about.get("only") == "teacher":
        return [_row(tidy, about["data"], ["teacher"])]
    if tidy["seed"].nunique() < SEEDS:
        return []
    gains = pd.read_csv(folder / "gains.csv", keep_default_na=False)
    rows = []
    for _, gain in gains.iterrows():
        here = tidy[tidy["configuration"] == gain["configuration"]]
        of = ", ".join(filter(None, [about["data"], gain["configuration"]]))
        rows.append(_row(here, of, list(MODELS), _points(gain)))
    return rows


def _row(tidy: pd.DataFrame, of: str, models: list[str], points: str = "") -> str:
    """One row: accuracies of these models, and the gain; empty where there is none."""
    found = [_accuracy(tidy, m, MODELS[m]) if m in models else "" for m in MODELS]
    seeds = ", ".join(str(seed) for seed in sorted(tidy["seed"].unique()))
    return "| " + " | ".join([of, seeds, *found, points]) + " |"


def _points(gain: pd.Series) -> str:
    """A gain in points with its interval."""
    return f"{gain['points']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"


def _accuracy(tidy: pd.DataFrame, model: str, protocol: str) -> str:
    """Mean ± standard deviation over the seeds, in %; one value where all have the same."""
    values = _values(tidy, model, protocol)
    if values.nunique() == 1:
        return f"{values.iloc[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std():.1f}"


def _values(tidy: pd.DataFrame, model: str, protocol: str) -> pd.Series:
    """Accuracies of a model, in %, a value a run."""
    which = (tidy["metric"] == "accuracy") & (tidy["model"] == model)
    return 100 * tidy.loc[which & (tidy["protocol"] == protocol), "value"]


if __name__ == "__main__":
    main()

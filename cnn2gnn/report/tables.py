"""Tables of a run or of several: numbers in tidy frames, and text for people.

A tidy frame has one row a measurement and names, in columns `run` and `source`, where it is from.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from cnn2gnn.evaluation.protocols import true_batch_size
from cnn2gnn.report.results import Results

# how the stages of a run are called where people read
STAGES = {
    "teacher": "teacher",
    "twin": "twin",
    "undistilled": "undistilled student",
    "student": "student",
}
COLUMNS = {
    "no_graph": "no_graph",
    "batch": "batch (mean ± std)",
    "inductive": "inductive",
    "sorted": "sorted (audit)",
}
NONE = "–"
ONE_BATCH = "All test samples are one batch here: nothing is shuffled, and there is no audit."


def accuracy_table(metrics: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Test accuracies in % under every protocol, one row a model, as text.

    Args:
        metrics: content of one `metrics.json`, or of several that differ in their seed: then every
            accuracy is mean ± standard deviation over them. Of one, only `batch` has a deviation,
            over the reshuffles if there are several. Where all test images were one batch, nothing
            was shuffled or sorted: there is neither deviation nor audit.

    Returns:
        Rows teacher, twin, undistilled student, student, as far as they exist (where
        only some of the runs have one, its name says how many); columns parameters, bank MB,
        no_graph, batch (mean ± std), inductive, sorted (audit).

    Raises:
        ValueError: there are no metrics.
    """
    runs = [metrics] if isinstance(metrics, Mapping) else list(metrics)
    if not runs:
        raise ValueError("metrics=[] holds no run")
    rows = {}
    for stage, name in STAGES.items():
        models = [model for run in runs if (model := _model(run, stage)) is not None]
        if models:
            some = "" if len(models) == len(runs) else f" ({len(models)} of {len(runs)} runs)"
            rows[name + some] = _row(models)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns.name = "test accuracy in %"
    return table


def one_batch(metrics: Mapping[str, Any]) -> bool:
    """Whether protocol `batch` predicted all test images of a run together: no order tells then."""
    count, batch = metrics["images"]["test"], metrics["student"]["accuracy"]["batch"]
    return true_batch_size(count, batch["batch_size"]) == count


def _model(run: Mapping[str, Any], stage: str) -> dict[str, Any] | None:
    """One model of a run: parameters, bank and accuracies by protocol."""
    model = run.get(stage) or run["baselines"].get(stage)
    if model is None:
        return None
    accuracy = model["accuracy"]
    with_graph = isinstance(accuracy, Mapping)
    if with_graph and one_batch(run):
        accuracy = {name: accuracy[name] for name in accuracy if name != "sorted"}
        accuracy["batch"] = accuracy["batch"] | {"repeats": 1, "std": None}
    return {
        "parameters": model["parameters"],
        # the undistilled student has the same stem and images, hence a bank of the same size
        "bank_megabytes": run["student"]["bank_megabytes"] if with_graph else None,
        "accuracy": dict(accuracy) if with_graph else {"no_graph": accuracy},
    }


def _row(models: list[dict[str, Any]]) -> dict[str, str]:
    megabytes = models[0]["bank_megabytes"]
    row = {
        # answers that came with the data are no network: a teacher that is not here has none
        "parameters": f"{models[0]['parameters']:,}" if models[0]["parameters"] else NONE,
        "bank MB": NONE if megabytes is None else f"{megabytes:.1f}",
    }
    for protocol, column in COLUMNS.items():
        values = [m["accuracy"][protocol] for m in models if protocol in m["accuracy"]]
        if values and protocol == "batch":
            if len(values) == 1 and values[0]["repeats"] > 1:
                row[column] = plus_minus(100 * values[0]["mean"], 100 * values[0]["std"])
                continue
            values = [value["mean"] for value in values]
        row[column] = mean_std([100 * value for value in values])
    return row


def measured_accuracies(results: Sequence[Results]) -> pd.DataFrame:
    """The accuracies of `metrics.json`, tidy.

    Returns:
        Columns run, seed, model, protocol (the last one `sorted (audit)`), accuracy and, for
        `batch`, std over the reshuffles (both in [0, 1]), source.
    """
    rows = []
    for result in results:
        for stage in STAGES:
            model = _model(result.metrics, stage)
            for protocol, value in (model or {"accuracy": {}})["accuracy"].items():
                spread = value["std"] if protocol == "batch" else None
                rows.append(
                    {
                        "run": result.name,
                        "seed": result.seed,
                        "model": stage,
                        "protocol": "sorted (audit)" if protocol == "sorted" else protocol,
                        "accuracy": value["mean"] if protocol == "batch" else value,
                        "std": spread,
                        "source": result.source("metrics.json"),
                    }
                )
    return pd.DataFrame(rows).astype({"std": float})


def differences(measured: pd.DataFrame) -> pd.DataFrame:
    """The student under `inductive` minus each other model, in points, paired by run.

    Args:
        measured: as of `measured_accuracies`.

    Returns:
        Columns run, against, points, source. A loss is negative.
    """
    best = {
        "teacher": "no_graph",
        "twin": "no_graph",
        "undistilled": "inductive",
        "student": "no_graph",
    }
    by_run = measured.set_index(["model", "protocol", "run"])["accuracy"].sort_index()
    rows = []
    for model, protocol in best.items():
        if (model, protocol) in by_run.index and ("student", "inductive") in by_run.index:
            points = 100 * (by_run["student", "inductive"] - by_run[model, protocol])
            name = "student, no_graph" if model == "student" else STAGES[model]
            rows += [
                {"run": run, "against": name, "points": value}
                for run, value in points.dropna().items()  # a run may lack a baseline of the others
            ]
    sources = measured.groupby("run")["source"].first()
    table = pd.DataFrame(rows, columns=["run", "against", "points"])
    return table.assign(source=table["run"].map(sources))


def tidy(
    results: Sequence[Results], measure: Callable[[Results], pd.DataFrame], *files: str
) -> pd.DataFrame:
    """Apply a measure to every run, and note the run and the files of it that were read."""
    return pd.concat(
        [measure(r).assign(run=r.name, source=r.source(*files)) for r in results],
        ignore_index=True,
    )


def over_runs(table: pd.DataFrame, key: str, shares: Sequence[str] = ()) -> pd.DataFrame:
    """One row a value of `key`, as text: mean ± standard deviation over the runs of a tidy frame.

    Args:
        shares: columns in [0, 1] that are shown in %.
    """
    values = table.drop(columns=["run", "source"])
    units = {name: 100 if name in shares else 1 for name in values.columns if name != key}
    rows = {
        name: {
            heading(column, "%" if column in shares else None): mean_std(list(group[column] * unit))
            for column, unit in units.items()
        }
        for name, group in values.groupby(key, sort=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(key)


def heading(column: str, unit: str | None) -> str:
    """A column's name for readers, with its unit."""
    name = column.replace("_", " ")
    return f"{name} [{unit}]" if unit else name


def mean_std(values: Sequence[float]) -> str:
    """One value, or mean ± standard deviation of several, as text; – for none.

    A whole number that is the same in all runs, such as k, has no deviation. NaN is no value: a
    class may have no test image in one run.
    """
    values = [value for value in values if not pd.isna(value)]
    if not values:
        return NONE
    if len(values) == 1 or (isinstance(values[0], int) and len({*values}) == 1):
        return number(values[0])
    return plus_minus(statistics.fmean(values), statistics.stdev(values))


def plus_minus(mean: float, std: float) -> str:
    """Mean and deviation as text, both to two decimals."""
    return f"{mean:.2f} ± {std:.2f}"


def number(value: float) -> str:
    """A number as text: whole ones with thousands separated, others to two decimals or digits."""
    if pd.isna(value):
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"

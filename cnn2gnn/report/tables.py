"""Tables of a run or of several, as pandas frames."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

# how the stages of a run are called where people read
STAGES = {
    "teacher": "teacher",
    "stem_only": "stem-only + KD",
    "undistilled": "undistilled graph student",
    "student": "graph student",
}
NONE = "–"


def accuracy_table(metrics: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Test accuracies in % under every protocol, one row a model.

    Args:
        metrics: content of one `metrics.json`, or of several that differ in their seed: then every
            accuracy is mean ± standard deviation over them. Of one, only `batch` has a deviation,
            over the reshuffles.

    Returns:
        Rows teacher, stem-only + KD, undistilled graph student, graph student; columns parameters,
        bank MB, alone, batch (mean ± std), anchors and sorted (audit), as text.
    """
    runs = [metrics] if isinstance(metrics, Mapping) else list(metrics)
    if not runs:
        raise ValueError("metrics=[] holds no run")
    rows = {}
    for stage, name in STAGES.items():
        models = [model for run in runs if (model := _model(run, stage)) is not None]
        if models:
            rows[name] = _row(models)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns.name = "test accuracy in %"
    return table


def _model(run: Mapping[str, Any], stage: str) -> Mapping[str, Any] | None:
    """One model of a run: `parameters`, `bank_megabytes` and its accuracies by protocol."""
    model = run.get(stage) or run["baselines"].get(stage)
    if model is None:
        return None
    accuracy = model["accuracy"]
    with_graph = isinstance(accuracy, Mapping)
    return {
        "parameters": model["parameters"],
        # the undistilled student has the same stem and images, hence a bank of the same size
        "bank_megabytes": run["student"]["bank_megabytes"] if with_graph else None,
        **(accuracy if with_graph else {"alone": accuracy}),
    }


def _row(models: list[Mapping[str, Any]]) -> dict[str, str]:
    first = models[0]
    megabytes, batch = first["bank_megabytes"], first.get("batch")
    row = {
        "parameters": f"{first['parameters']:,}",
        "bank MB": NONE if megabytes is None else f"{megabytes:.1f}",
        "alone": _over_runs(models, "alone"),
        "batch (mean ± std)": NONE,
        "anchors": _over_runs(models, "anchors"),
        "sorted (audit)": _over_runs(models, "sorted"),
    }
    if batch is not None:
        means = [model["batch"]["mean"] for model in models]
        one = plus_minus(batch["mean"], batch["std"])
        row["batch (mean ± std)"] = one if len(models) == 1 else _mean_std(means)
    return row


def _over_runs(models: list[Mapping[str, Any]], protocol: str) -> str:
    values = [model[protocol] for model in models if protocol in model]
    return _mean_std(values) if values else NONE


def _mean_std(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{100 * values[0]:.2f}"
    return plus_minus(statistics.fmean(values), statistics.stdev(values))


def plus_minus(mean: float, std: float) -> str:
    """Fractions in [0, 1] as `mean ± std` in %."""
    return f"{100 * mean:.2f} ± {100 * std:.2f}"

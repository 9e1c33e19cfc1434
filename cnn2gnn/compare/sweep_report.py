"""What a sweep has found: the best trials, and Optuna's own figures of the study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as drawings

from cnn2gnn.base.files import replacing
from cnn2gnn.compare.sweep import Sweep
from cnn2gnn.drawing.style import PAGE, styled
from cnn2gnn.report.page import render_page, write_figures, write_tables
from cnn2gnn.report.section import Exhibit, Section

BEST = 10  # trials that are shown


def _importances(study: optuna.Study) -> Any:
    """By fANOVA, as the caption says: what Optuna takes by itself has changed between versions."""
    return drawings.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


_FIGURES: dict[str, tuple[Callable[..., Any], str]] = {
    "history": (drawings.plot_optimization_history, "Validation accuracy by trial."),
    "importance": (
        _importances,
        "How much of the accuracy's variance each parameter explains by itself, as a share of what "
        "all of them do so (fANOVA, Hutter et al. 2014). Of a few dozen trials it is mostly noise.",
    ),
    "slices": (drawings.plot_slice, "Validation accuracy along each parameter."),
}


def table(study: optuna.Study) -> pd.DataFrame:
    """Return the trials that ran to their end, the best first.

    Returns:
        Columns trial, run, validation accuracy (in [0, 1]) and each searched parameter.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = sorted(done, key=_value, reverse=True)
    return pd.DataFrame(
        {"trial": t.number, "run": t.user_attrs["run"], "validation accuracy": t.value} | t.params
        for t in best
    )


def write(sweep: Sweep) -> Path:
    """Write figures, tables and one page into the sweep's folder; return the page's path.

    Raises:
        ValueError: no trial has run to its end.
    """
    parts = [Section("Trials", _text(sweep), tuple(_exhibits(sweep)))]
    exhibits = [exhibit for section in parts for exhibit in section.exhibits]
    write_figures(exhibits, sweep.folder / "figures")
    write_tables(exhibits, sweep.folder / "tables")
    facts = {"searched": ", ".join(sweep.searched), "fixed": str(dict(sweep.fixed))}
    with replacing(sweep.folder / "report.html") as path:
        path.write_text(render_page(f"Sweep {sweep.name}", facts, parts), encoding="utf-8")
    return sweep.folder / "report.html"


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _text(sweep: Sweep) -> str:
    counts = {
        state.name.lower(): len(sweep.study.get_trials(deepcopy=False, states=(state,)))
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    }
    return (
        "Objective: accuracy on the validation samples after the last epoch; test samples were not "
        f"looked at. Trials: {', '.join(f'{n} {state}' for state, n in counts.items())}; a pruned "
        "one was below the median of the others at the same epoch, or a combination that is not "
        "allowed. The best of many trials is lucky as well as good: train it again, with several "
        "seeds, before you believe it."
    )


def _exhibits(sweep: Sweep) -> Sequence[Exhibit]:
    found = table(sweep.study)
    if found.empty:
        raise ValueError(f"sweep {sweep.name}: no trial has run to its end")
    shown = found.head(BEST).astype({"validation accuracy": float})
    shown["validation accuracy"] = (100 * shown["validation accuracy"]).map("{:.2f}".format)
    numbers = shown.select_dtypes("float").columns
    shown[numbers] = shown[numbers].map("{:.3g}".format)
    source = f"study {sweep.name}"
    exhibits = [
        Exhibit(
            "trials",
            f"The best {len(shown)} of {len(found)} trials; validation accuracy in %.",
            source,
            shown.set_index("trial"),
            found,
        )
    ]
    # importance needs trials that differ, in what was tried and in what came of it
    tried = found[[*sweep.bounds]].nunique().max()
    enough = min(tried, found["validation accuracy"].nunique()) > 1
    for name, (draw, caption) in _FIGURES.items():
        if name != "importance" or enough:
            exhibits.append(Exhibit(name, caption, source, _drawn(draw, sweep.study)))
    return exhibits


@styled
def _drawn(draw: Callable[..., Any], study: optuna.Study) -> Figure:
    """One of Optuna's figures, in our style and at the width of a page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of all its matplotlib figures
        warnings.filterwarnings("ignore", "Attempting to set identical")  # all tried one value
        axes = draw(study)
    figure = (axes[0] if hasattr(axes, "__len__") else axes).figure
    pyplot.close(figure)
    figure.set_size_inches(PAGE, 2.6)
    figure.set_layout_engine("tight")  # "constrained" divides by zero in a slice of one parameter
    return figure

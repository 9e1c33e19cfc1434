"""Figures of training and accuracy: functions of numbers, each returns a matplotlib figure.

A figure shows itself as the last expression of a notebook's cell, without a semicolon. Shares in
[0, 1] are drawn in %. Where several runs are given, what is drawn is their mean, with bars or bands
of one standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn2gnn.drawing.palette import AGAINST, INK, MODELS
from cnn2gnn.drawing.style import PAGE, new_figure, styled
from cnn2gnn.report.tables import STAGES
from cnn2gnn.runs.epochs import GRAPH

PROTOCOLS = {"no_graph": "s", "batch": "^", "inductive": "o"}


@styled
def training_curves(history: list[dict[str, Any]]) -> Figure:
    """Training loss and validation accuracy per epoch, one colour a model.

    Stage two, in which the graph is learned, follows stage one on the axis, right of a dotted line;
    accuracy without neighbours is dashed there.

    Args:
        history: rows as of `Run.history()`, of one run or of several in one list.

    Raises:
        ValueError: there are no rows.
    """
    if not history:
        raise ValueError("history=[] has no epochs to draw")
    rows = _one_after_the_other(pd.DataFrame(history))
    figure = new_figure(PAGE, 2.4)
    loss, validation = figure.subplots(1, 2)
    for model, both in rows.groupby("model", sort=False):
        colour, name = MODELS.get(model, INK), STAGES.get(model, model)
        for second, epochs in both.groupby("second"):
            label = name if second == both["second"].min() else None
            _line(loss, epochs, "loss", 1, color=colour, label=label)
            _line(validation, epochs, "accuracy", 100, color=colour, label=label)
            if second and (epochs["base_accuracy"] != epochs["accuracy"]).any():
                _line(validation, epochs, "base_accuracy", 100, color=colour, ls="--")
    starts = rows.loc[rows["second"], "before"].unique()
    if any(line.get_linestyle() == "--" for line in validation.lines):
        validation.plot([], [], color=INK, ls="--", label="without neighbours")
    loss.set_ylabel("training loss [nat]")
    validation.set_ylabel("validation accuracy [%]")
    for axes in (loss, validation):
        axes.set_xlabel(
            "epoch" + "; right of the dotted line, pass of stage two" * bool(len(starts))
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        for start in starts:
            axes.axvline(start + 0.5, color=INK, linewidth=0.8, ls=":")
    figure.legend(*validation.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def _one_after_the_other(rows: pd.DataFrame) -> pd.DataFrame:
    """Tell a model from its stage, and count the epochs of stage two on after stage one.

    Returns:
        The rows with columns model; second, whether they are of stage two; and before, epochs of
        stage one.
    """
    second = rows["stage"].str.endswith(GRAPH)
    model = rows["stage"].str.removesuffix(GRAPH)
    lengths = rows[~second].groupby(model[~second])["epoch"].max() + 1
    # a twin that shares the student's stage one has none of its own
    before = model.map(lengths).fillna(lengths.get("student", 0)).astype(int)
    epoch = rows["epoch"] + before.where(second, 0)
    return rows.assign(model=model, second=second, before=before, epoch=epoch)


def _line(axes: Axes, rows: pd.DataFrame, column: str, unit: float, **look: Any) -> None:
    """Draw a column over the epochs: its mean, and ± one standard deviation over several runs."""
    values = (rows.set_index("epoch")[column].astype(float) * unit).groupby("epoch")
    mean, std = values.mean(), values.std()
    epochs = mean.index + 1  # readers count from 1
    axes.plot(epochs, mean, marker="." if len(mean) < 40 else None, **look)
    if std.notna().any():
        band = (epochs, mean - std, mean + std)
        axes.fill_between(*band, color=look["color"], alpha=0.15, linewidth=0)


@styled
def accuracies(measured: pd.DataFrame) -> Figure:
    """Test accuracy of every model under every honest protocol, each run a faint mark.

    Args:
        measured: as of `tables.measured_accuracies`.
    """
    honest = measured[measured["protocol"].isin(PROTOCOLS)]
    present = [stage for stage in STAGES if stage in set(honest["model"])]
    figure = new_figure(height=0.8 + 0.4 * len(present))
    axes = figure.add_subplot()
    for row, stage in enumerate(present):
        for offset, (protocol, marker) in zip((-0.2, 0, 0.2), PROTOCOLS.items(), strict=True):
            shown = honest[(honest["model"] == stage) & (honest["protocol"] == protocol)]
            if shown.empty:
                continue
            values, place = 100 * shown["accuracy"], row + offset
            spread = values.std() if len(values) > 1 else 100 * shown["std"].iloc[0]
            axes.plot(values, [place] * len(values), marker, color=MODELS[stage], alpha=0.3)
            error = None if pd.isna(spread) else spread
            look: dict[str, Any] = {
                "fmt": marker,
                "color": MODELS[stage],
                "capsize": 2,
                "linewidth": 0.8,
            }
            axes.errorbar(values.mean(), place, xerr=error, **look)
    for protocol, marker in PROTOCOLS.items():
        axes.plot([], [], marker, color=INK, label=protocol)
    axes.set_yticks(range(len(present)), [STAGES[stage] for stage in present])
    axes.set_ylim(len(present) - 0.5, -0.5)
    axes.set_xlabel("test accuracy [%]")
    axes.grid(axis="x", alpha=0.3, linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


@styled
def accuracy_by_batch_size(sizes: pd.DataFrame, no_graph: float, inductive: float) -> Figure:
    """Accuracy in shuffled batches against their size, between the protocols without batches.

    Args:
        sizes: as of `measures.batch_sizes`; runs are told apart by a column `run`.
        no_graph, inductive: accuracies in [0, 1].
    """
    figure = new_figure()
    axes = figure.add_subplot()
    _over_sizes(axes, sizes, "shuffled", color=MODELS["student"], marker="o", label="batch")
    axes.axhline(100 * inductive, color=MODELS["student"], ls="--", label="inductive")
    axes.axhline(100 * no_graph, color=MODELS["no_graph"], ls=":", label="no_graph")
    _finish_sizes(figure, axes, sizes["batch_size"].unique())
    return figure


@styled
def audit(sizes: pd.DataFrame) -> Figure:
    """What sorting the test images by class would feign: an audit of the leak, never a result.

    Args:
        sizes: as of `measures.batch_sizes`; runs are told apart by a column `run`.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    _over_sizes(axes, sizes, "shuffled", color=MODELS["student"], marker="o", label="shuffled")
    _over_sizes(axes, sizes, "sorted", color=AGAINST, marker="x", ls="--", label="sorted (audit)")
    _finish_sizes(figure, axes, sizes["batch_size"].unique())
    axes.set_title("audit: sorted batches leak labels, no result", color=AGAINST)
    return figure


def _over_sizes(axes: Axes, sizes: pd.DataFrame, order: str, **look: Any) -> None:
    shown = sizes[sizes["order"] == order]
    runs = 100 * shown.groupby(["batch_size", "run"])["accuracy"].mean()
    spread = runs.groupby("batch_size").std()  # over runs; of one run, over its reshuffles
    if spread.isna().all():
        spread = 100 * shown.groupby("batch_size")["accuracy"].std()
    mean = runs.groupby("batch_size").mean()
    axes.errorbar(mean.index, mean, yerr=spread.fillna(0), capsize=2, **look)


def _finish_sizes(figure: Figure, axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("batch size [samples]")
    axes.set_ylabel("test accuracy [%]")
    low, high = axes.dataLim.intervaly
    if high - low < 1:  # a tenth of a point shall not look like a cliff
        axes.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
    figure.legend(loc="outside upper center", ncols=3)

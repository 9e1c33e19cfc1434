"""Smaller banks and the Pareto front: what is chosen, and by which images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import small_config
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation.bank_sizes import bank_sizes, chosen
from cnn2gnn.evaluation.pareto import pareto
from cnn2gnn.report import size_sections
from cnn2gnn.report.results import Results
from cnn2gnn.report.section import Exhibit, Section
from cnn2gnn.runs import Run


def beats(a: list[int], b: list[int]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


@given(
    st.integers(1, 4).flatmap(
        lambda m: st.lists(st.lists(st.integers(0, 4), min_size=m, max_size=m), min_size=1)
    )
)
def test_the_front_is_that_of_all_pairs(points: list[list[int]]) -> None:
    expected = [not any(beats(other, point) for other in points) for point in points]
    assert pareto(points).tolist() == expected


@pytest.mark.parametrize("points", [[1.0, 2.0], [[1.0, float("nan")]], [[float("inf")]]])
def test_costs_that_cannot_be_compared_are_refused(points: list[float]) -> None:
    with pytest.raises(ValueError, match="must be finite numbers"):
        pareto(points)


def sizes_of(small_run: Run) -> pd.DataFrame:
    return bank_sizes(small_run.load_student(), small_run.load_bank(), small_run.load_splits())


def test_the_first_row_is_what_the_run_reported_and_sizes_fall(small_run: Run) -> None:
    sizes = sizes_of(small_run)
    reported = small_run.metrics()["student"]
    assert sizes["test"][0] == pytest.approx(reported["accuracy"]["inductive"])
    assert sizes["megabytes"][0] == reported["bank_megabytes"]
    assert sizes["megabytes"].is_monotonic_decreasing and len(sizes) == 9
    assert sizes["nodes"][:4].nunique() == 1
    assert sizes["megabytes"][3] < 0.2 * sizes["megabytes"][0]
    assert sizes["test"][3] == pytest.approx(sizes["test"][0], abs=0.01)


@pytest.mark.parametrize(
    ("validation", "expected"),
    [([0.9, 0.9, 0.8], "b"), ([0.9, 0.8, 0.8], "a"), ([0.9, 0.5, 0.897], "c")],
)
def test_validation_images_choose(validation: list[float], expected: str) -> None:
    table = pd.DataFrame(
        {"bank": list("abc"), "megabytes": [3.0, 2, 1], "validation": validation}
    ).assign(test=np.array([0.1, 0.2, 0.3]))
    assert chosen(table) == chosen(table.assign(test=0.0)) == expected


@pytest.fixture(scope="module")
def pair(small_run: Run) -> list[Results]:
    """Two runs that differ in their seeds, the second with a twin."""
    config = small_config(small_run.folder.parent, run="sized", seed=1, baselines="twin")
    return [Results.read(small_run), Results.read(distil(config))]


def exhibits(section: Section) -> dict[str, Exhibit]:
    return {exhibit.name: exhibit for exhibit in section.exhibits}


def test_of_several_seeds_means_choose_and_the_table_marks_it(pair: list[Results]) -> None:
    shown = exhibits(size_sections.bank_sizes(pair))
    table, numbers = shown["bank_sizes"].table, shown["bank_sizes"].every_number
    assert set(numbers["run"]) == {"small", "sized"}
    assert list(table.loc[table["chosen"] == "yes", "bank"]) == [chosen(numbers)]
    assert "±" in table["test [%]"][0]
    figure = shown["accuracy_by_bank_size"].content
    assert isinstance(figure, Figure)
    line = next(x for x in figure.axes[0].lines if x.get_label() == "chosen")
    mean = numbers[numbers["bank"] == chosen(numbers)][["megabytes", "test"]].mean()
    np.testing.assert_allclose(line.get_xydata(), [[mean["megabytes"], 100 * mean["test"]]])


def test_the_front_counts_every_epoch_and_byte(pair: list[Results]) -> None:
    points = exhibits(size_sections.front({"": pair[1:]}))["pareto_points"].every_number
    run = pair[1].run
    seconds = pd.DataFrame(run.history()).groupby("stage")["seconds"].sum()
    first, metrics = seconds["student"], run.metrics()
    student, twin = metrics["student"], metrics["baselines"]["twin"]
    by_model = points.set_index("model")
    graph, without = by_model.loc["graph, bank as saved"], by_model.loc["twin"]
    assert graph["seconds"] == pytest.approx(first + seconds["student-graph"])
    assert without["seconds"] == pytest.approx(first + seconds["twin-graph"])
    own = 4e-6 * student["parameters"]
    assert graph["megabytes"] == pytest.approx(own + student["bank_megabytes"])
    assert without["megabytes"] == pytest.approx(4e-6 * twin["parameters"])
    assert graph["accuracy"] == pytest.approx(student["accuracy"]["inductive"])
    assert without["accuracy"] == pytest.approx(twin["accuracy"])
    costs = points[["milliseconds", "megabytes", "seconds"]].assign(error=-points["accuracy"])
    assert points["front"].tolist() == pareto(costs).tolist()


def test_a_run_without_twin_and_several_configurations_share_a_front(pair: list[Results]) -> None:
    shown = exhibits(size_sections.front({"a": pair[:1], "b": pair[1:]}))
    points = shown["pareto_points"].every_number
    assert (points["configuration"] == "a").sum() + 1 == (points["configuration"] == "b").sum()
    assert "configuration" in shown["pareto_points"].table
    figure = shown["pareto"].content
    assert isinstance(figure, Figure)
    for axes in figure.axes:
        drawn = sum(len(line.get_xdata()) for line in axes.lines)
        assert drawn == len(points)

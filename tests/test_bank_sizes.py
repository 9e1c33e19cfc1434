"""Smaller banks and the Pareto front: what is chosen, and by which images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.evaluation.bank_sizes import bank_sizes, chosen
from cnn2gnn.evaluation.pareto import pareto
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
    assert sizes["megabytes"].is_monotonic_decreasing and len(sizes) == 7
    assert sizes["nodes"][1] == sizes["nodes"][0]
    assert sizes["megabytes"][1] < 0.75 * sizes["megabytes"][0]
    assert sizes["test"][1] == pytest.approx(sizes["test"][0], abs=0.01)


@pytest.mark.parametrize(
    ("validation", "expected"),
    [([0.9, 0.9, 0.8], "b"), ([0.9, 0.8, 0.8], "a"), ([0.9, 0.5, 0.897], "c")],
)
def test_validation_images_choose(validation: list[float], expected: str) -> None:
    table = pd.DataFrame(
        {"bank": list("abc"), "megabytes": [3.0, 2, 1], "validation": validation}
    ).assign(test=np.array([0.1, 0.2, 0.3]))
    assert chosen(table) == chosen(table.assign(test=0.0)) == expected

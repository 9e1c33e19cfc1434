"""The test part of whole groups: of those that serve, the one nearest to a quarter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_texts import texts

from cnn2gnn import load_data
from cnn2gnn.data import DataError
from cnn2gnn.data.grouping import apart


def cut(spec: dict[str, tuple[int, ...]]) -> tuple[dict[str, Counter], set[str]]:
    """Rows of each class in both parts, and the groups of the test part.

    Args:
        spec: how many rows of each class every group has.
    """
    rows = [
        (n, c) for n, counts in spec.items() for c, count in enumerate(counts) for _ in [0] * count
    ]
    parts, _ = apart([name for name, _ in rows], [label for _, label in rows], "patient")
    found = {"train": Counter(), "test": Counter()}
    for (_, label), part in zip(rows, parts, strict=True):
        found[part][label] += 1
    return found, {name for (name, _), part in zip(rows, parts, strict=True) if part == "test"}


def test_a_group_of_most_rows_is_trained_on() -> None:
    found, tested = cut({"A": (170, 30), **{f"g{at}": (10, 2) for at in range(5)}})
    assert tested == {f"g{at}" for at in range(5)} and found["train"].total() == 200
    assert cut({"A": (90, 90), "B": (10, 10)})[1] == {"B"}


def test_what_training_needs_is_left_to_it() -> None:
    benign = {f"b{at}": (10, 0) for at in range(10)}
    found, tested = cut({"m": (0, 50), **benign})
    assert found["train"][1] == 50 and len(tested) == 3
    rare = {f"r{at}": tuple(4 * (label == at + 1) for label in range(6)) for at in range(5)}
    found, tested = cut({**{name: (10, 0, 0, 0, 0, 0) for name in benign}, **rare})
    assert len(found["train"]) == 6 and tested <= set(benign) and len(tested) >= 2


def test_a_class_is_tested_where_it_can_be() -> None:
    benign = {f"b{at}": (10, 0) for at in range(10)}
    found, tested = cut({"m1": (0, 50), "m2": (0, 4), **benign})
    assert "m2" in tested and found["train"][1] == 50 and 20 <= found["test"][0] <= 30


def test_equally_near_folds_stay_the_first() -> None:
    # of six speakers two or one: a third and a sixth. Spoken digits were measured on the first
    assert cut({name: (50,) * 10 for name in "gjlnty"})[1] == {"j", "y"}
    assert cut({f"g{at:02}": (10, 3) for at in range(13)})[0]["test"] == {0: 30, 1: 9}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abc", min_size=1), st.tuples(*[st.integers(0, 6)] * 3).filter(any), min_size=2
    )
)
def test_training_has_every_class_and_no_group_of_the_test(spec: dict) -> None:
    try:
        found, tested = cut(spec)
    except DataError as error:
        assert "patient' allows no test part" in str(error)
        holders = [{name for name in spec if spec[name][label]} for label in range(3)]
        assert {name for names in holders if len(names) == 1 for name in names} == set(spec)
        return
    everything = {label for counts in spec.values() for label in range(3) if counts[label]}
    assert set(found["train"]) == everything and tested and tested < set(spec)
    assert found["test"].total() == sum(sum(spec[name]) for name in tested)


def test_classes_of_fewer_rows_than_folds_are_no_traceback(tmp_path: Path) -> None:
    table = texts(18).assign(user=[f"u{at}" for at in range(18)], label=list("xyz") * 6)[:9]
    table.to_csv(tmp_path / "t.csv", index=False)
    splits = load_data(f"text:{tmp_path}/t.csv", group_column="user")
    assert splits.test.labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="group_column='label' allows no test part: without any of"):
        load_data(f"text:{tmp_path}/t.csv", group_column="label")

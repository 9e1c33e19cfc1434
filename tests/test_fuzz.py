"""Fuzzing in short: `benchmarks/unbreakable/fuzz.py` is the long form, with the same surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fuzz
import numpy
import pytest
from hypothesis import strategies as st
from surfaces.outcomes import Kind

from cnn2gnn.base.values import ConfigError

TRIES = 10  # of each kind; of the slow ones a share, but one at least


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNN2GNN_CACHE", str(folder / "cache"))
        yield folder


def test_whatever_is_given_is_refused_in_a_clear_line_or_taken_for_what_it_is(place: Path) -> None:
    outcomes = fuzz.measure([*fuzz.kinds(place)], TRIES, seed=1)
    table = fuzz.table(outcomes)
    assert (table["tried"] > 0).all()
    assert (table[[*fuzz.WORDS]].sum(axis=1) == table["tried"]).all()
    assert not table["lost"].any(), "\n".join(fuzz.lost(outcomes))
    taken = table[table["survived"] > 0].index.get_level_values("surface")
    assert {"learners", "losses", "arrays", "run folders", "predictor"} <= {*taken}, table


def refuse(value: int) -> None:
    raise ConfigError(f"value={value} must be another")


def crash(value: int) -> None:
    raise KeyError(value)


def crash_elsewhere(value: int) -> None:
    numpy.zeros(-1 - value)  # a ValueError, but not of the kit's


def compute_wrongly(value: int) -> None:
    assert value < 0, "wrong"


def warn(value: int) -> None:
    numpy.float32(1e38) * numpy.float32(1e38)


@pytest.mark.parametrize("fault", [crash, crash_elsewhere, compute_wrongly, warn, refuse])
def test_a_fault_is_counted_as_lost(fault) -> None:
    kind = Kind("planted", fault.__name__, st.integers(0, 9), fault, lambda value: ("value=",))
    outcomes = fuzz.measure([kind], 5, seed=0)
    assert fuzz.table(outcomes)["lost"].tolist() == [5]
    assert fuzz.lost(outcomes)[0].startswith(f"planted, {fault.__name__}: ")


def test_what_is_wrong_must_not_be_taken_and_a_refusal_must_name_something() -> None:
    taken = Kind("planted", "taken", st.just(1), lambda value: None, lambda value: (), refused=True)
    assert "taken, though it is wrong" in fuzz.lost(fuzz.measure([taken], 1, seed=0))[0]

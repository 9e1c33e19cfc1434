"""The grid of a comparison: its cells, their names, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare.grid import Grid


def varied(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell.varied for cell in Grid("c", values).cells()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [{"seed": 0}]),
        ({"epochs": 3}, [{"seed": 0}]),
        ({"k": [5, 10]}, [{"k": 5, "seed": 0}, {"k": 10, "seed": 0}]),
        # seeds vary fastest, wherever they stand
        (
            {"seed": [0, 1], "k": [5, 10]},
            [{"k": k, "seed": seed} for k in (5, 10) for seed in (0, 1)],
        ),
        # what goes together, each with all the others
        (
            {"variant": [{"graph": "none"}, {"graph": "adaptive", "k": [5, 9]}], "seed": [3]},
            [
                {"graph": "none", "seed": 3},
                {"graph": "adaptive", "k": 5, "seed": 3},
                {"graph": "adaptive", "k": 9, "seed": 3},
            ],
        ),
        # a variant stands above what is common
        (
            {"k": 3, "variant": [{"k": 5}, {"epochs": 2}]},
            [{"k": 5, "seed": 0}, {"k": 3, "epochs": 2, "seed": 0}],
        ),
    ],
)
def test_each_combination_is_a_cell(values: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert varied(values) == expected
    for cell in Grid("c", values).cells():
        assert {n: cell.config.parameters()[n] for n in cell.varied} == cell.varied


def test_a_cell_keeps_its_name_when_seeds_are_added() -> None:
    few, many = (Grid("c", {"k": [5, 9], "seed": seeds}).cells() for seeds in (0, [0, 1, 2]))
    assert {cell.name for cell in few} < {cell.name for cell in many}
    assert few[0].name == "c-k=5,seed=0"
    assert few[0].folder == Path("runs/c-k=5,seed=0")


def test_values_that_no_run_can_be_called_by_get_a_hash() -> None:
    cells = Grid("c", {"dataset": ["folder:a/b", "folder:a/c"]}).cells()
    assert len({cell.name for cell in cells}) == 2
    assert all(len(cell.name) == 10 and "/" not in cell.name for cell in cells)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("c", {"kk": [5]}, "kk"),
        ("c", {"k": [5, 0]}, "k=0 must be at least 1"),
        ("c", {"train_images": [None, 100]}, "train_images=None cannot be part of a grid"),
        ("c", {"k": []}, r"k=\[\] must hold at least one value"),
        ("c", {"k": [5, 5]}, "^k=5 occurs twice"),
        ("c", {"variant": [{"k": 5}, {"k": 5}]}, "seed=0 occurs twice"),
        ("c", {"dataset": ["digits", "digts"]}, "unknown data set 'digts': did you mean 'digits'"),
        ("c", {"run": "x"}, "run cannot be part of a grid"),
        ("c", {"variant": [{"runs_dir": "x"}]}, "runs_dir cannot be part of a grid"),
        ("c", {"variant": []}, r"variant=\[\] must hold at least one table"),
        ("c", {"variant": {"k": 5}}, r"\[\[variant\]\]"),
        ("c", {"variant": ["k"]}, r"\[\[variant\]\]"),
        ("a/b", {}, "name='a/b'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    name: str, values: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Grid(name, values).cells()


_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "k": st.lists(st.integers(1, 40), min_size=1, max_size=3, unique=True),
        "kd_weight": st.floats(0, 1),
        "dataset": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
        "download": st.booleans(),
        "variant": st.just([{"graph": "none"}, {"graph": "adaptive", "seed": [1, 2]}]),
    },
)


@given(_VALUES)
def test_a_grid_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "mine.toml"
    Grid("mine", values).save(path)
    assert Grid.read(path) == Grid("mine", values)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    grid = Grid("mine", {"k": [np.int64(5), 10], "variant": [{"kd_weight": np.float64(0.5)}]})
    grid.save(tmp_path / "mine.toml")
    assert Grid.read(tmp_path / "mine.toml").cells() == grid.cells()


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("k = [5, ")
    with pytest.raises(ConfigError, match="mine.toml is not TOML"):
        Grid.read(path)
    with pytest.raises(FileNotFoundError):
        Grid.read(tmp_path / "other.toml")


def test_a_grid_that_a_comparison_has_kept_is_called_as_that_comparison(tmp_path: Path) -> None:
    kept = tmp_path / "depths" / "comparison.toml"
    kept.parent.mkdir()
    Grid("depths", {"k": [5, 10]}).save(kept)
    assert Grid.read(kept).name == "depths"

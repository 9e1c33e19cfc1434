"""Accuracy by the size of bank or batch: what was measured before, and what of it still holds."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cnn2gnn.compare import sizes
from cnn2gnn.compare.grid import Cell
from cnn2gnn.compare.sections import sections
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.report.measures import batch_sizes
from cnn2gnn.report.results import Results
from cnn2gnn.runs import Run


@pytest.fixture(scope="module")
def cells(small_run: Run, batch_state: ExplorerState) -> list[Cell]:
    runs = {"bank": small_run, "batch": batch_state.nodes.run}
    return [Cell(run.config, {"scope": scope, "seed": 0}) for scope, run in runs.items()]


@pytest.fixture(scope="module")
def found(cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return sizes.by_size(cells, tmp_path_factory.mktemp("sizes") / "sizes.parquet")


def test_it_is_what_the_reports_of_the_runs_say(cells: list[Cell], found: pd.DataFrame) -> None:
    assert list(dict.fromkeys(found["configuration"])) == ["scope=bank", "scope=batch"]
    bank, batch = (found[found["protocol"] == name] for name in ("inductive", "batch"))
    results = [Results.read(cell.folder) for cell in cells]
    assert bank["accuracy"].tolist() == results[0].bank_sizes["test"][3:].tolist()
    assert bank["size"].tolist() == results[0].bank_sizes["nodes"][3:].tolist()
    assert bank["beside"].iloc[0] == "100%" and len(bank) == 6
    rows = batch_sizes(results[1].nodes)
    means = rows[rows["order"] == "shuffled"].groupby("batch_size")["accuracy"].mean()
    np.testing.assert_allclose(batch.set_index("size")["accuracy"], means)
    assert "112" in batch["beside"].tolist()  # of 449, in four batches of at least 100


def test_what_was_measured_before_it_was_stopped_is_kept(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, measure, asked = tmp_path / "sizes.parquet", sizes._measured, []

    def stopped(cell: Cell) -> pd.DataFrame:
        asked.append(cell.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return measure(cell)

    monkeypatch.setattr(sizes, "_measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        sizes.by_size(cells, kept)
    found = sizes.by_size(cells, kept)
    assert asked == [cells[0].name, cells[1].name, cells[1].name]
    assert set(found["cell"]) == {cell.name for cell in cells}


def test_a_cell_is_measured_once_as_long_as_it_is_the_same_run(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, runs_dir = tmp_path / "sizes.parquet", tmp_path / "runs"
    shutil.copytree(cells[0].folder, runs_dir / cells[0].name)
    config = cells[0].config
    cell = replace(
        cells[0],
        config=replace(config, runtime=replace(config.runtime, runs_dir=str(runs_dir))),
    )
    asked = []

    def measured(cell: Cell) -> pd.DataFrame:
        asked.append(cell.name)
        row = {"protocol": "batch", "beside": "9", "size": 9, "accuracy": 0.5}
        return pd.DataFrame([row])

    monkeypatch.setattr(sizes, "_measured", measured)
    first, again = sizes.by_size([cell], kept), sizes.by_size([cell], kept)
    assert asked == [cell.name]
    pd.testing.assert_frame_equal(first, again)
    both = sizes.by_size([cells[1], cell], kept)
    assert asked == [cell.name, cells[1].name]
    assert both["cell"].tolist() == [cells[1].name, cell.name]
    with (runs_dir / cell.name / "config.json").open("a") as file:
        file.write("\n")  # another run of the same name
    sizes.by_size([cell], kept)
    assert asked == [cell.name, cells[1].name, cell.name]


def test_the_page_shows_both(cells: list[Cell], found: pd.DataFrame) -> None:
    parts = {part.title: part for part in sections("c", cells, {}, found)}
    figure, table = parts["By the size of the bank"].exhibits
    assert isinstance(figure.content, Figure)
    (line,) = figure.content.axes[0].get_lines()[:1]
    bank = found[found["protocol"] == "inductive"].sort_values("size")
    assert list(line.get_ydata()) == pytest.approx(list(100 * bank["accuracy"]))
    assert list(table.content.columns)[-1] == "10%"
    assert table.content.loc["scope=bank", "100%"] == f"{100 * bank['accuracy'].iloc[-1]:.2f}"
    assert "112" in parts["By the size of the batch"].exhibits[1].content.columns


def test_nothing_is_written_where_nothing_has_finished(tmp_path: Path) -> None:
    assert sizes.by_size([], tmp_path / "sizes.parquet").empty
    assert [*tmp_path.iterdir()] == []

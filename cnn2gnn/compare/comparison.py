"""A comparison: a grid of runs, made as far as they are missing, and what they say together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cnn2gnn.base.files import BrokenFileError, replacing
from cnn2gnn.base.modules import import_modules, imported
from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare import results
from cnn2gnn.compare.cluster import Cluster
from cnn2gnn.compare.estimate import Seconds
from cnn2gnn.compare.execution import Workers
from cnn2gnn.compare.grid import GRID_FILE, Cell, Grid, binding
from cnn2gnn.compare.sections import accuracy_table, sections
from cnn2gnn.compare.sizes import by_size
from cnn2gnn.report.page import render_page, render_section, write_figures, write_tables
from cnn2gnn.report.section import Section
from cnn2gnn.runs.manifest import check_config

RESULTS_FILE, PAGE_FILE = "results.parquet", "report.html"
SIZES_FILE = "sizes.parquet"
SAID = 3  # cells that an error names


@dataclass(repr=False)
class Comparison:
    """The runs of a grid, and their report; shows itself in a notebook.

    Args:
        grid: which parameters are tried.
        folder: where grid, results, logs and report are kept.
        modules: imported first, here and in every process: they register things of your own.

    Raises:
        ConfigError: see `Grid.cells`; or the run of a cell exists with other parameters, or the
            comparison of this name has cells that are not in the grid.
    """

    grid: Grid
    folder: Path
    modules: Sequence[str] = ()
    cells: list[Cell] = field(init=False)
    failed: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        import_modules(self.modules)
        self.modules = imported()  # by whom ever: a notebook, say, that was run with --import
        self.cells = self.grid.cells()
        for cell in self.cells:  # a cell's name does not tell the parameters that all share
            with suppress(BrokenFileError, FileNotFoundError):  # it fails alone, and says so
                check_config(cell.config)
        self._check_kept()

    def _check_kept(self) -> None:
        """Refuse a grid by which those results would be lost that the folder already holds."""
        path = self.folder / GRID_FILE
        if not path.is_file():
            return
        here = [binding(cell.config.parameters()) for cell in self.cells]
        kept = Grid.read(path, self.grid.runs_dir).cells()
        if gone := [c.name for c in kept if binding(c.config.parameters()) not in here]:
            raise ConfigError(
                f"comparison {self.grid.name!r} exists with other parameters, of which this one "
                f"lacks {', '.join(gone[:SAID])}{' and more' if len(gone) > SAID else ''}; choose "
                f"another name, or remove {self.folder}"
            )

    @property
    def finished(self) -> list[Cell]:
        """The cells that have results."""
        return [cell for cell in self.cells if (cell.folder / "metrics.json").is_file()]

    @property
    def missing(self) -> list[Cell]:
        """The cells that have none yet."""
        finished = {cell.name for cell in self.finished}
        return [cell for cell in self.cells if cell.name not in finished]

    def plan(self) -> pd.DataFrame:
        """Return what would run, and how long by what runs like it took.

        Returns:
            One row a cell, columns cell, minutes (NaN: done, or no run tells) and done.
        """
        missing = self.missing
        seconds = pd.Series(Seconds(self.grid.runs_dir).of(missing), dtype=float)
        names = [cell.name for cell in self.cells]
        plan = pd.DataFrame({"minutes": (seconds / 60).set_axis([c.name for c in missing])}, names)
        done = ~plan.index.isin([cell.name for cell in missing])
        return plan.assign(done=done).rename_axis("cell").reset_index()

    def planned(self) -> str:
        """Return the plan as text: what would run, and how long it would take in all."""
        plan = self.plan()
        left, unknown = plan[~plan["done"]], plan.loc[~plan["done"], "minutes"].isna().sum()
        lines = [f"  {'done' if done else _minutes(minutes):>9}  {cell}" for cell, minutes, done in
                 plan[["cell", "minutes", "done"]].itertuples(index=False)]  # fmt: skip
        total = f"{len(plan)} cells, {len(plan) - len(left)} of them done"
        if len(left) > unknown:
            total += f"; about {_minutes(left['minutes'].sum())} of training, one after the other"
        if unknown:
            total += f"; for {unknown} no run tells how long they take"
        return "\n".join([*lines, total])

    def run(self, jobs: int = 1) -> None:
        """Run the cells that are missing, `jobs` at a time; one that fails fails alone.

        Raises:
            ConfigError: `jobs` is below 1.
        """
        if jobs < 1:
            raise ConfigError(f"jobs={jobs} must be at least 1")
        self._run(Workers(self._logs, jobs, self.modules))

    def run_on(self, cluster: str, **options: Any) -> None:
        """Run the cells that are missing as jobs of a cluster; see `cluster.Cluster`.

        Raises:
            ConfigError: as of `jobs_on`.
        """
        self._run(self.jobs_on(cluster, **options))

    def jobs_on(self, cluster: str, **options: Any) -> Cluster:
        """Return what would run the cells on a cluster; nothing is handed in yet.

        Raises:
            ConfigError: submitit is missing, there is no such cluster, or no such option.
        """
        return Cluster(self._logs, cluster, options, self.modules)

    def _run(self, workers: Workers | Cluster) -> None:
        self.grid.save(self.folder / GRID_FILE)
        self.failed = {}
        with tqdm(total=len(self.cells), unit="cell", disable=None, file=sys.stderr) as bar:
            bar.update(len(self.finished))

            def done(cell: Cell, error: str | None) -> None:
                if error is not None:
                    self.failed[cell.name] = error
                    bar.write(f"{cell.name} failed: {error}", file=sys.stderr)
                bar.update()

            workers.run(self.missing, done)

    @property
    def _logs(self) -> Path:
        return self.folder / "logs"

    def results(self) -> pd.DataFrame:
        """Return all results, tidy: see `results.tidy`.

        Raises:
            FileNotFoundError: no cell has finished yet.
        """
        if not self.finished:
            raise FileNotFoundError(f"no cell of {self.grid.name} has finished")
        return results.tidy(self.finished)

    def sizes(self) -> pd.DataFrame:
        """Return accuracies by the size of batch or bank, see `sizes.by_size`: seconds a cell."""
        return by_size(self.finished, self.folder / SIZES_FILE)

    def table(self) -> pd.DataFrame:
        """Return accuracies and gains of the finished cells by configuration, as text."""
        gains = results.gains(results.by_configuration(self.finished))
        return accuracy_table(self.results(), gains)

    def sections(self) -> list[Section]:
        """Return what the finished cells say."""
        unfinished = {cell.name: "has not run" for cell in self.missing}
        return sections(self.grid.name, self.finished, unfinished | self.failed, self.sizes())

    def write(self) -> Path:
        """Write results, figures, tables and one page; return the page's path.

        Raises:
            FileNotFoundError: no cell has finished yet.
        """
        with replacing(self.folder / RESULTS_FILE) as path:
            self.results().to_parquet(path, index=False)
        parts = self.sections()
        exhibits = [exhibit for section in parts for exhibit in section.exhibits]
        write_figures(exhibits, self.folder / "figures")
        write_tables(exhibits, self.folder / "tables")
        facts = {
            "cells": repr(self),
            "grid": GRID_FILE,
            "source": RESULTS_FILE,
        }
        with replacing(self.folder / PAGE_FILE) as path:
            page = render_page(f"Comparison {self.grid.name}", facts, parts)
            path.write_text(page, encoding="utf-8")
        return self.folder / PAGE_FILE

    def __repr__(self) -> str:
        return f"{self.grid.name}: {len(self.finished)} of {len(self.cells)} cells finished"

    def _repr_html_(self) -> str:
        return "".join(render_section(section) for section in self.sections())


def _minutes(minutes: float) -> str:
    if pd.isna(minutes):
        return "unknown"
    return f"{minutes:.0f} min" if minutes >= 1 else "< 1 min"

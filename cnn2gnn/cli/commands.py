"""The command line: `cnn2gnn run`, `data`, `report`, `compare`, `sweep` and the others.

Its options are in `options`; their values are checked in `config`.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cnn2gnn.base.modules import import_modules
from cnn2gnn.base.names import joined, run_names
from cnn2gnn.base.signs import visible
from cnn2gnn.base.values import InputError
from cnn2gnn.cli.options import build_parser, cluster_options
from cnn2gnn.cli.sharing import card, export
from cnn2gnn.config import Config, ConfigError, DataConfig, RuntimeConfig

REPORTS = Path("reports")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a notebook failed, or an export is not the student. 2: bad input, in one line on
    standard error. 130: interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # class names in letters the console lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    commands = {"run": run, "data": data, "report": report, "compare": compare, "sweep": sweep}
    commands |= {"export": export, "card": card, "notebooks": write_notebooks, "lab": lab}
    parser = build_parser(commands)
    options, unknown = parser.parse_known_args(arguments)
    try:
        if options.command is lab:
            options.more, unknown = unknown, []  # they are JupyterLab's
        if getattr(options, "modules", None):
            sys.path.insert(0, "")  # they may lie in the current folder, as for `python -m`
            import_modules(options.modules)
        if unknown and options.command is run:
            # Raises with the nearest parameter that exists.
            Config.from_parameters({unknown[0].lstrip("-").replace("-", "_"): ""})
        if unknown:
            parser.error(f"unknown argument {unknown[0]}")
        return options.command(options)
    except (InputError, OSError) as error:
        return _complain(str(error), 2)
    except ArithmeticError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain(
            "interrupted; started again, the run continues at its last checkpoint", 130
        )


def run(options: argparse.Namespace) -> int:
    """Execute notebooks one after the other and print the results of the run."""
    known = Config().parameters()
    given = {"run": RuntimeConfig().run}
    given.update({name: value for name, value in vars(options).items() if name in known})
    config = Config.from_parameters(given)
    given["run"] = config.runtime.run  # in composed letters
    reports = REPORTS / config.runtime.run
    # without a graph there is nothing to explore
    usual = "01,02,04" if config.student.graph == "none" else "01,02,03,04"
    names = (options.notebooks or usual).split(",")
    code = _execute(names, given, reports, options.modules)
    if code:
        return code
    folder = Path(config.runtime.runs_dir) / config.runtime.run
    metrics = folder / "metrics.json"
    if metrics.is_file():
        from cnn2gnn.base.files import read_json
        from cnn2gnn.report.tables import accuracy_table

        table = accuracy_table(read_json(metrics))
        print(
            f"\n{table.to_string()}\nsorted is an audit, not a result: its batches leak the class\n"
        )
    page = reports / "report.html"
    print(f"run:    {folder}\nreport: {page if page.is_file() else reports}")
    return 0


def data(options: argparse.Namespace) -> int:
    """Print what a data set holds and save a sheet of its images."""
    import pandas
    import torch

    from cnn2gnn.data import load
    from cnn2gnn.drawing.classnames import readable
    from cnn2gnn.report.sheet import check_out, sample_sheet

    known = {item.name for item in fields(DataConfig)}
    given = {name: value for name, value in vars(options).items() if name in known}
    Config.from_parameters(given)
    check_out(options.out)  # decoding may take minutes
    log = logging.getLogger(load.__module__)
    log.disabled = True  # its one line is printed below
    try:
        splits = load(given.pop("dataset"), **given)
    finally:
        log.disabled = False
    images = splits.train
    counts = {
        part: torch.bincount(rows.labels, minlength=len(images.classes)).tolist()
        for part, rows in splits._asdict().items()
    }
    table = pandas.DataFrame(counts, index=readable(images.classes))
    # a class may itself be called "all"
    table = pandas.concat([table, table.sum().to_frame("all").T])
    shape = "x".join(map(str, images.images.shape[1:]))
    print(f"{images.name}: {len(images.classes)} classes, {shape}\n{table.to_string()}")
    for note in images.notes:
        print(visible(note))
    sample_sheet(images).savefig(options.out, dpi=150, bbox_inches="tight")
    print(f"sheet:  {options.out}")
    return 0


def report(options: argparse.Namespace) -> int:
    """Write figures, tables and report.html of one run, or one comparison of several."""
    from cnn2gnn.runs import Run

    names = run_names(options.runs)
    for name in names:
        Run.open(Path(options.runs_dir) / name).metrics()  # raises where it is not finished
    given = {"runs": names, "runs_dir": options.runs_dir}
    return _execute(["04"], given, REPORTS / joined(names), options.modules)


def compare(options: argparse.Namespace) -> int:
    """Run a grid of parameters, each cell by itself, and report on all of them together."""
    from cnn2gnn.compare import Comparison, Grid

    known = Config().parameters()
    given = {name: value for name, value in vars(options).items() if name in known}
    folders = given.pop("runs_dir", [RuntimeConfig().runs_dir])
    if len(folders) > 1:
        raise ConfigError(f"runs_dir={' '.join(folders)} must be one folder, for all runs")
    runs_dir = folders[0]
    if options.grid.endswith(".toml"):
        if given:
            raise ConfigError(f"{options.grid} holds the grid: {', '.join(given)} cannot be added")
        grid = Grid.read(options.grid, runs_dir)
    else:
        grid = Grid(options.grid, {n: _alone(value) for n, value in given.items()}, runs_dir)
    on_cluster = cluster_options(options)
    comparison = Comparison(grid, REPORTS / grid.name, options.modules)
    if options.dry_run:
        if options.cluster:
            comparison.jobs_on(options.cluster, **on_cluster)  # refuses what the run would refuse
        print(comparison.planned())
        return 0
    if options.cluster:
        comparison.run_on(options.cluster, **on_cluster)
    else:
        comparison.run(options.jobs or 1)
    if comparison.finished:
        page = comparison.write()
        print(f"\n{comparison.table().to_string()}\n\nreport: {page}")
    return 1 if comparison.failed else 0


def sweep(options: argparse.Namespace) -> int:
    """Search for parameters that do well on the validation images, by Optuna."""
    try:
        from cnn2gnn.compare import sweep_report
        from cnn2gnn.compare.sweep import ERROR, Sweep, TrialError
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        return _complain("a sweep needs Optuna: pip install 'cnn2gnn[sweep]'", 2)
    known = Config().parameters()
    fixed = {name: value for name, value in vars(options).items() if name in known}
    runs_dir, folder = fixed.pop("runs_dir", RuntimeConfig().runs_dir), REPORTS / options.name
    found = Sweep(
        options.name, options.search, fixed, folder, runs_dir, options.storage, options.modules
    )
    try:
        found.run(options.trials, options.jobs or 1)
    except TrialError as error:
        return _complain(str(error), 1)
    trials = sweep_report.table(found.study)
    if trials.empty:
        reasons = [t.user_attrs.get(ERROR, "it was stopped") for t in found.study.trials]
        return _complain(f"no trial has run to its end; the last: {reasons[-1]}", 1)
    page = sweep_report.write(found)
    print(f"\n{trials.head(sweep_report.BEST).to_string(index=False)}\n\nreport: {page}")
    return 0


def _alone(values: Any) -> Any:
    """A list of one value is that value."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def write_notebooks(options: argparse.Namespace) -> int:
    """Write the notebooks into a folder; what lies there is never written over."""
    from cnn2gnn.notebooks.runner import copy

    for path, same in copy(Path(options.folder)).items():
        print(path if same else f"{path}: kept, it differs from this version's")
    return 0


def lab(options: argparse.Namespace) -> int:
    """Open the notebooks in JupyterLab, written into a folder where they are missing."""
    from cnn2gnn.notebooks.lab import open_lab

    write_notebooks(options)
    open_lab(Path(options.folder), options.more)
    return 0


def _execute(
    names: Sequence[str], given: Mapping[str, Any], reports: Path, modules: Sequence[str]
) -> int:
    """Execute the named notebooks, each with those of the parameters that it has."""
    from cnn2gnn import notebooks

    paths = [notebooks.find(name.strip()) for name in names]
    allowed = {path: notebooks.parameters_of(path) for path in paths}
    for name in given:
        if name != "run" and not any(name in accepted for accepted in allowed.values()):
            raise ConfigError(f"no notebook of {', '.join(p.stem for p in paths)} has {name!r}")
    if any("k" in accepted for accepted in allowed.values()):  # a student is trained
        _check_parts(Config.from_parameters(given))
    for path in paths:
        mine = {name: value for name, value in given.items() if name in allowed[path]}
        start, output = time.perf_counter(), reports / path.name
        try:
            executed = notebooks.execute(
                path, mine, output, modules=modules, progress=sys.stderr.isatty()
            )
        except notebooks.NotebookError as error:
            return _complain(f"{error} (all of it: {output})", 2 if error.bad_input else 1)
        print(f"{output}: {time.perf_counter() - start:.0f} s", flush=True)
        for text in notebooks.results(executed):
            print(f"\n{text}\n", flush=True)
    return 0


def _check_parts(config: Config) -> None:
    """Refuse what does not fit the data, or each other, before a notebook trains for it."""
    from cnn2gnn.distillation.fitting import fitting
    from cnn2gnn.runs import load_splits
    from cnn2gnn.runs.own import Own

    fitting(config, Own(), load_splits(config.data))


def _complain(message: str, code: int) -> int:
    print(f"cnn2gnn: {visible(message)}", file=sys.stderr)
    return code

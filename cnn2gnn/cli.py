"""The command line: `cnn2gnn run`, `cnn2gnn data`, `cnn2gnn report`.

Its options are the fields of the dataclasses in `config`; their values are checked there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from cnn2gnn.config import Config, ConfigError, DataConfig, RuntimeConfig

REPORTS = Path("reports")

RUN_EXAMPLES = """\
examples:
  cnn2gnn run
      the embedded digits, two minutes on two CPU cores
  cnn2gnn run --dataset fashion-mnist --download --run fashion --teacher resnet56
      what is not there is downloaded only when you say so
  cnn2gnn run --dataset folder:photos --image-size 64 --run photos --k 10 --seed 1
      your own images, one subfolder a class
  cnn2gnn run --dataset cifar100 --run paper --scope batch --notebooks 01,02
      the paper's reading of the graph, without explorer and report

The same parameters in a notebook: change its cell `parameters`, or
  papermill notebooks/02_distill.ipynb -p dataset cifar100 -p k 10
A run that was stopped continues when it is started again with the same parameters.
"""
DATA_EXAMPLES = """\
examples:
  cnn2gnn data digits
  cnn2gnn data folder:photos --image-size 64 --out photos.png
  cnn2gnn data 'parquet:photos/*.parquet' --label-column species
"""
REPORT_EXAMPLES = """\
examples:
  cnn2gnn report demo
  cnn2gnn report seed-0 seed-1 seed-2
      one comparison, mean and standard deviation over the seeds
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a notebook failed. 2: bad input, in one line on standard error. 130: interrupted.
    """
    parser = _parser()
    options, unknown = parser.parse_known_args(arguments)
    try:
        if unknown and options.command is run:
            # Raises with the nearest parameter that exists.
            Config.from_parameters({unknown[0].lstrip("-").replace("-", "_"): ""})
        if unknown:
            parser.error(f"unknown argument {unknown[0]}")
        return options.command(options)
    except (ConfigError, OSError) as error:
        return _complain(str(error), 2)
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
    reports = REPORTS / config.runtime.run
    # without a graph there is nothing to explore
    usual = "01,02,04" if config.student.graph == "none" else "01,02,03,04"
    code = _execute((options.notebooks or usual).split(","), given, reports)
    if code:
        return code
    folder = Path(config.runtime.runs_dir) / config.runtime.run
    metrics = folder / "metrics.json"
    if metrics.is_file():
        from cnn2gnn.report.tables import accuracy_table

        table = accuracy_table(json.loads(metrics.read_text()))
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

    from cnn2gnn.data import DataError, load
    from cnn2gnn.report.sheet import sample_sheet

    known = {item.name for item in fields(DataConfig)}
    given = {name: value for name, value in vars(options).items() if name in known}
    Config.from_parameters(given)
    try:
        splits = load(given.pop("dataset"), **given)
    except DataError as error:
        return _complain(str(error), 2)
    images = splits.train
    counts = {
        part: torch.bincount(rows.labels, minlength=len(images.classes)).tolist()
        for part, rows in splits._asdict().items()
    }
    table = pandas.DataFrame(counts, index=images.classes)
    table.loc["all"] = table.sum()
    shape = f"{images.channels}x{images.size}x{images.size}"
    print(f"{images.name}: {len(images.classes)} classes, {shape}\n{table.to_string()}")
    sample_sheet(images).savefig(options.out, dpi=150, bbox_inches="tight")
    print(f"sheet:  {options.out}")
    return 0


def report(options: argparse.Namespace) -> int:
    """Write figures, tables and report.html of one run, or one comparison of several."""
    from cnn2gnn.runs import Run

    for name in options.runs:
        Run.open(Path(options.runs_dir) / name).metrics()  # raises where a run is not finished
    given = {"runs": ",".join(options.runs), "runs_dir": options.runs_dir}
    return _execute(["04"], given, REPORTS / "-".join(options.runs))


def _execute(names: Sequence[str], given: Mapping[str, Any], reports: Path) -> int:
    """Execute the named notebooks, each with those of the parameters that it has."""
    from cnn2gnn import notebooks

    paths = [notebooks.find(name.strip()) for name in names]
    allowed = {path: notebooks.parameters(path) for path in paths}
    for name in given:
        if not any(name in accepted for accepted in allowed.values()):
            raise ConfigError(f"no notebook of {', '.join(p.stem for p in paths)} has {name!r}")
    for path in paths:
        mine = {name: value for name, value in given.items() if name in allowed[path]}
        start, output = time.perf_counter(), reports / path.name
        try:
            notebooks.execute(path, mine, output, progress=sys.stderr.isatty())
        except notebooks.NotebookError as error:
            return _complain(f"{error} (all of it: {output})", 2 if error.bad_input else 1)
        print(f"{output}: {time.perf_counter() - start:.0f} s", flush=True)
    return 0


def _complain(message: str, code: int) -> int:
    print(f"cnn2gnn: {message}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"cnn2gnn: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cnn2gnn",
        allow_abbrev=False,
        description="Distil a large CNN into a small graph neural network that shows its graph.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, usage: str, examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            usage=f"cnn2gnn {name} {usage}",
            help=function.__doc__,
            description=function.__doc__,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=function)
        return added

    running = command(
        "run", run, "[--dataset NAME] [--run NAME] [--PARAMETER VALUE ...]", RUN_EXAMPLES
    )
    running.add_argument(
        "--notebooks",
        help="numbers or names, in order (default: 01,02,03,04; without 03 for --graph none)",
    )
    for group in get_type_hints(Config).values():
        _add_options(running, group)

    showing = command("data", data, "NAME [--out FILE] [--PARAMETER VALUE ...]", DATA_EXAMPLES)
    showing.add_argument("dataset", metavar="NAME", help=_field_help(fields(DataConfig)[0]))
    showing.add_argument(
        "--out", default="sheet.png", help="sheet of samples (default: %(default)s)"
    )
    _add_options(showing, DataConfig, without=("dataset", "augmentation"))

    reporting = command("report", report, "RUN [RUN ...] [--runs-dir FOLDER]", REPORT_EXAMPLES)
    reporting.add_argument("runs", metavar="RUN", nargs="+", help="name of a run")
    reporting.add_argument(
        "--runs-dir", default=RuntimeConfig().runs_dir, help="folder of all runs"
    )
    return parser


def _add_options(parser: argparse.ArgumentParser, group: type, without: Sequence[str] = ()) -> None:
    """Add an option for each field; what is not given is left to the notebook's own value."""
    section = parser.add_argument_group((group.__doc__ or "").rstrip("."))
    types = get_type_hints(group)
    for item in fields(group):
        if item.name in without:
            continue
        kind = (*get_args(types[item.name]), types[item.name])[0]
        how: dict[str, Any] = {"type": kind, "metavar": kind.__name__.upper()}
        if kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        flag = "--" + item.name.replace("_", "-")
        section.add_argument(
            flag, dest=item.name, default=argparse.SUPPRESS, help=_field_help(item), **how
        )


def _field_help(item: Any) -> str:
    """Return help, allowed values and default of a configuration field."""
    choices = item.metadata["choices"]
    notes = [f"one of {', '.join(filter(None, choices))}"] if choices else []
    if item.default is not MISSING and item.default is not None:
        notes.append(f"default: {item.default}")
    text = item.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")
    return text.replace("%", "%%")

"""The options of the command line: the fields of the dataclasses in `config`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn, get_type_hints

from cnn2gnn.base.modules import add_import_option
from cnn2gnn.base.signs import visible
from cnn2gnn.base.values import base_type, described
from cnn2gnn.cli.sharing import CARD_EXAMPLES, EXPORT_EXAMPLES
from cnn2gnn.cli.sharing import add_options as add_sharing_options
from cnn2gnn.config import Config, DataConfig, RuntimeConfig

RUN_EXAMPLES = """\
examples:
  cnn2gnn run
      the embedded digits, two minutes on two CPU cores
  cnn2gnn run --dataset fashion-mnist --download --run fashion --teacher resnet56
      what is not there is downloaded only when you say so
  cnn2gnn run --dataset folder:photos --image-size 64 --run photos --k 10 --seed 1
      your own images, one subfolder a class
  cnn2gnn run --dataset cifar100 --run paper --scope batch --notebooks 01,02
      neighbours from the batch, nearest to the paper, without explorer and report

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
COMPARE_EXAMPLES = """\
Each combination of the values is a run of its own, in a process of its own. Started again, it goes
on where it was stopped, and runs what failed or is new.

examples:
  cnn2gnn compare losses --loss kd dkd dist --seed 0 1 2
  cnn2gnn compare neighbours --k 5 10 20 40 --epochs 5 --jobs 2 --dry-run
  cnn2gnn compare losses --loss kd dkd --cluster slurm --cluster-option slurm_partition=gpu
  cnn2gnn compare grid.toml
      GRID.toml: name = value, or name = [value, value]; [[variant]] tables hold what goes together
"""
SWEEP_EXAMPLES = """\
Optuna looks for values that do well on the validation images. Processes and machines that are given
the same name and storage work on one study; `optuna-dashboard STORAGE` opens it.

examples:
  cnn2gnn sweep sparsity --search k --trials 12
  cnn2gnn sweep recipe --search learning_rate kd_weight=0.3:0.9 loss=kd,dist --epochs 5 --jobs 2
  cnn2gnn sweep big --search k graph --storage postgresql://host/studies --trials 100
"""
NOTEBOOKS_EXAMPLES = """\
What lies in the folder already is kept, and said so where it differs.
"""
LAB_EXAMPLES = """\
Runs and reports lie below the folder in which you start it, as those of `cnn2gnn run`.

examples:
  cnn2gnn lab
  cnn2gnn lab mine --no-browser --port=8889
      other options are JupyterLab's
"""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"cnn2gnn: {visible(message)} (see {self.prog} --help)\n")


def build_parser(commands: Mapping[str, Callable[[argparse.Namespace], int]]) -> Parser:
    """Return the parser of the command line.

    Args:
        commands: the functions `run`, `data`, `report`, `compare`, `sweep` … by their names;
            their docstrings are the help, and the chosen one is `options.command`.
    """
    parser = Parser(
        prog="cnn2gnn",
        allow_abbrev=False,
        description="Distil a large CNN into a small graph neural network that shows its graph.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, usage: str, examples: str) -> argparse.ArgumentParser:
        """Add a command, whose help is the docstring of its function, with examples below."""
        added = subparsers.add_parser(
            name,
            usage=f"cnn2gnn {name} {usage}",
            help=commands[name].__doc__,
            description=commands[name].__doc__,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=commands[name])
        return added

    running = command("run", "[--dataset NAME] [--run NAME] [--PARAMETER VALUE ...]", RUN_EXAMPLES)
    running.add_argument(
        "--notebooks",
        help="numbers or names, in order (default: 01,02,03,04; without 03 for --graph none)",
    )
    for group in get_type_hints(Config).values():
        _add_options(running, group)

    showing = command("data", "NAME [--out FILE] [--PARAMETER VALUE ...]", DATA_EXAMPLES)
    showing.add_argument("dataset", metavar="NAME", help=_help(fields(DataConfig)[0]))
    showing.add_argument(
        "--out", default="sheet.png", help="sheet of samples (default: %(default)s)"
    )
    _add_options(showing, DataConfig, without=("dataset", "augmentation"))

    reporting = command("report", "RUN [RUN ...] [--runs-dir FOLDER]", REPORT_EXAMPLES)
    reporting.add_argument("runs", metavar="RUN", nargs="+", help="name of a run")
    reporting.add_argument(
        "--runs-dir", default=RuntimeConfig().runs_dir, help="folder of all runs"
    )

    comparing = command(
        "compare", "NAME|GRID.toml [--PARAMETER VALUE VALUE ...] [--jobs N] [--dry-run]",
        COMPARE_EXAMPLES,
    )  # fmt: skip
    _add_comparing(comparing)

    sweeping = command(
        "sweep", "NAME --search PARAMETER[=VALUES] ... [--trials N] [--PARAMETER VALUE ...]",
        SWEEP_EXAMPLES,
    )  # fmt: skip
    _add_sweeping(sweeping)

    exporting = command("export", "RUN [--out FOLDER] [--runs-dir FOLDER]", EXPORT_EXAMPLES)
    add_sharing_options(exporting, "exports/RUN")

    describing = command("card", "RUN [--out FOLDER] [--runs-dir FOLDER]", CARD_EXAMPLES)
    add_sharing_options(describing, "reports/RUN")

    writing = command("notebooks", "FOLDER", NOTEBOOKS_EXAMPLES)
    writing.add_argument("folder", metavar="FOLDER", help="where they are written")

    opening = command("lab", "[FOLDER] [--OPTION=VALUE ...]", LAB_EXAMPLES)
    opening.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="notebooks",
        help="where they lie, or are written (default: %(default)s)",
    )
    return parser


def _add_comparing(parser: argparse.ArgumentParser) -> None:
    """Add what `compare` takes: a grid, and how it is run."""
    parser.add_argument("grid", metavar="NAME", help="what it is called, or a file of its grid")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, and how long; run nothing"
    )
    parser.add_argument(
        "--cluster", choices=("slurm", "local"), help="run as jobs of a cluster, by submitit"
    )
    parser.add_argument(
        "--cluster-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="of submitit, such as timeout_min=600, gpus_per_node=1 or slurm_partition=gpu",
    )
    _add_processes(parser)
    for group in get_type_hints(Config).values():
        _add_options(parser, group, without=("run",), several=True)


def _add_sweeping(parser: argparse.ArgumentParser) -> None:
    """Add what `sweep` takes: what is searched, how often, and where the study is kept."""
    parser.add_argument("name", metavar="NAME", help="of the study")
    parser.add_argument(
        "--search",
        nargs="+",
        required=True,
        metavar="PARAMETER[=VALUES]",
        help="what is searched: k, or k=5:40 between two numbers, or loss=kd,dist",
    )
    parser.add_argument("--trials", type=_count, default=20, help="in all (default: 20)")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="of a database, or journal:PATH where a file system has no locks (default: SQLite)",
    )
    _add_processes(parser)
    for group in get_type_hints(Config).values():
        _add_options(parser, group, without=("run",))


def _add_processes(parser: argparse.ArgumentParser) -> None:
    """Add how many processes work, and what they import first."""
    parser.add_argument(
        "--jobs", type=_count, default=1, help="runs at a time; they share the threads (default: 1)"
    )
    add_import_option(parser)


def _add_options(
    parser: argparse.ArgumentParser,
    group: type,
    without: Sequence[str] = (),
    *,
    several: bool = False,
) -> None:
    """Add an option for each field; what is not given is left to the notebook's own value.

    Args:
        several: each takes one value or more.
    """
    section = parser.add_argument_group((group.__doc__ or "").rstrip("."))
    types = get_type_hints(group)
    for item in fields(group):
        if item.name in without:
            continue
        kind = base_type(types[item.name])
        how: dict[str, Any] = {"type": kind, "metavar": kind.__name__.upper()}
        if several:
            how["nargs"] = "+"
        if kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        flag = "--" + item.name.replace("_", "-")
        section.add_argument(
            flag, dest=item.name, default=argparse.SUPPRESS, help=_help(item), **how
        )


def _help(item: Any) -> str:
    return described(item, default=True).replace("%", "%%")


def _count(text: str) -> int:
    """A number of things, told before a study or a comparison leaves its first file."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 1")
    return int(text)

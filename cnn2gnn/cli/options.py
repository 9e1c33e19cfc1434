"""The options of the command line: the fields of the dataclasses in `config`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, NoReturn, get_type_hints

import cnn2gnn
from cnn2gnn.base.modules import add_import_option
from cnn2gnn.base.signs import visible
from cnn2gnn.base.values import ConfigError, base_type, described
from cnn2gnn.cli import examples
from cnn2gnn.config import Config, DataConfig, RuntimeConfig


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
    parser.add_argument("--version", action="version", version=f"cnn2gnn {cnn2gnn.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (usage, below, add_options) in COMMANDS.items():
        added = subparsers.add_parser(
            name,
            usage=f"cnn2gnn {name} {usage}",
            help=commands[name].__doc__,
            description=commands[name].__doc__,
            epilog=below,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(command=commands[name])
        add_options(added)
    return parser


def cluster_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of a cluster, `timeout_min=600`, by names; numbers are numbers.

    Raises:
        ConfigError: an entry is no NAME=VALUE, or an option is given that has no effect.
    """
    if options.cluster_option and not options.cluster:
        raise ConfigError(f"cluster-option={options.cluster_option[0]!r} needs --cluster")
    if options.cluster and options.jobs:
        raise ConfigError(f"jobs={options.jobs} cannot go with --cluster, which runs all at a time")
    found: dict[str, Any] = {}
    for entry in options.cluster_option:
        name, sign, value = entry.partition("=")
        if not sign:
            raise ConfigError(f"cluster-option={entry!r} must be NAME=VALUE")
        found[name] = _read(value)
    return found


def _read(value: str) -> int | float | bool | str:
    """A value as TOML would read it, and otherwise the text."""
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notebooks",
        help="numbers or names, in order (default: 01,02,03,04; without 03 for --graph none)",
    )
    add_import_option(parser)
    _add_config(parser)


def _showing(parser: argparse.ArgumentParser) -> None:
    names = fields(DataConfig)[0].metadata["help"]
    parser.add_argument("dataset", metavar="NAME", help=names)
    parser.add_argument(
        "--out", default="sheet.png", help="sheet of samples (default: %(default)s)"
    )
    add_import_option(parser)
    _add_group(parser, DataConfig, without=("dataset", "augmentation"))


def _reporting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="name of a run")
    _add_runs_dir(parser)


def _comparing(parser: argparse.ArgumentParser) -> None:
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
    _add_config(parser, without=("run",), several=True)


def _sweeping(parser: argparse.ArgumentParser) -> None:
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
        help="of a database, or journal:PATH where a file system has no locks "
        "(default: sqlite:///reports/NAME/study.db)",
    )
    _add_processes(parser)
    _add_config(parser, without=("run",))


def _exporting(parser: argparse.ArgumentParser) -> None:
    _add_run(parser, "exports/RUN")


def _describing(parser: argparse.ArgumentParser) -> None:
    _add_run(parser, "reports/RUN")


def _writing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="where they are written")


def _opening(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="notebooks",
        help="where they lie, or are written (default: %(default)s)",
    )


# name → how it is called, what its help ends with, what adds its options
COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "run": ("[--dataset NAME] [--run NAME] [--PARAMETER VALUE ...]", examples.RUN, _running),
    "data": ("NAME [--out FILE] [--PARAMETER VALUE ...]", examples.DATA, _showing),
    "report": ("RUN [RUN ...] [--runs-dir FOLDER]", examples.REPORT, _reporting),
    "compare": (
        "NAME|GRID.toml [--PARAMETER VALUE VALUE ...] [--jobs N] [--dry-run]",
        examples.COMPARE,
        _comparing,
    ),
    "sweep": (
        "NAME --search PARAMETER[=VALUES] ... [--trials N] [--PARAMETER VALUE ...]",
        examples.SWEEP,
        _sweeping,
    ),
    "export": ("RUN [--out FOLDER] [--runs-dir FOLDER]", examples.EXPORT, _exporting),
    "card": ("RUN [--out FOLDER] [--runs-dir FOLDER]", examples.CARD, _describing),
    "notebooks": ("FOLDER", examples.NOTEBOOKS, _writing),
    "lab": ("[FOLDER] [--OPTION=VALUE ...]", examples.LAB, _opening),
}


def _add_run(parser: argparse.ArgumentParser, default: str) -> None:
    """Add a run, and where to (in words, `default`)."""
    parser.add_argument("run", metavar="RUN", help="name of a run")
    parser.add_argument("--out", metavar="FOLDER", help=f"where to (default: {default})")
    _add_runs_dir(parser)


def _add_runs_dir(parser: argparse.ArgumentParser) -> None:
    """Add where runs lie, and what is imported before one of them is opened."""
    parser.add_argument("--runs-dir", default=RuntimeConfig().runs_dir, help="folder of all runs")
    add_import_option(parser)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    """Add how many processes work, and what they import first."""
    parser.add_argument(
        "--jobs", type=_count, help="runs at a time; they share the threads (default: 1)"
    )
    add_import_option(parser)


def _add_config(
    parser: argparse.ArgumentParser, without: Sequence[str] = (), *, several: bool = False
) -> None:
    """Add all parameters of a run."""
    for group in get_type_hints(Config).values():
        _add_group(parser, group, without, several=several)


def _add_group(
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

"""Modules of the user's own that register losses, learners and the like: `--import MODULE`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from cnn2gnn.base.values import ConfigError

_IMPORTED: dict[str, None] = {}  # in this process, in order


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import MODULE`, which may be given several times; they are `options.modules`."""
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="import this first: it registers losses, learners … of your own",
    )


def import_modules(modules: Sequence[str]) -> None:
    """Import what registers things of the user's own, here as in every process.

    Raises:
        ConfigError: one is no name of a module, or cannot be imported.
    """
    for module in modules:
        if not all(module.split(".")):  # importlib's own words for these name no option
            raise ConfigError(f"import={module!r} must name a module, as my_losses or mine.losses")
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"import={module!r}: {error}") from error
        _IMPORTED[module] = None


def imported() -> list[str]:
    """Return the names of the modules that have been imported so in this process."""
    return [*_IMPORTED]


def import_options() -> list[str]:
    """Return the options by which another process imports what this one has imported."""
    return [f"--import={module}" for module in imported()]

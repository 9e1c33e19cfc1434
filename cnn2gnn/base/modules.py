"""Modules of the user's own that register losses, learners and the like: `--import MODULE`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from cnn2gnn.base.values import ConfigError


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
        ConfigError: one cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"import={module!r}: {error}") from error

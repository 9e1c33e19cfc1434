"""What a run may be called: its name becomes a folder, a title and an entry of lists.

Allowed is what every file system, shell history, table and template takes as it is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from cnn2gnn.base.values import ConfigError, brief

SIGNS = " ._-=,#+@()"
MAX_BYTES = 100  # of UTF-8: a folder's name may have 255, and reports join several names
# runs/teachers/, runs/distilled/ and runs/mlflow.db hold what runs share; the others are devices on
# Windows, also with a suffix
_TAKEN = re.compile(
    r"teachers|distilled|mlflow\.db|(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE
)
_RULE = (
    f"letters, digits, spaces and {' '.join(SIGNS.strip())} only, at most {MAX_BYTES} bytes, "
    "a letter, a digit or _ first, neither space nor dot last"
)


def run_name(name: str, parameter: str = "run") -> str:
    """Return the name of a run in composed letters (NFC).

    Args:
        parameter: what holds the name, for the error.

    Raises:
        ConfigError: it holds other signs, is too long, or means something else already.
    """
    if not isinstance(name, str):
        raise ConfigError(f"{parameter}={brief(name)} must be of type str")
    name = unicodedata.normalize("NFC", name)
    plain = (
        all(sign in SIGNS or unicodedata.category(sign)[0] in "LMN" for sign in name)
        and 0 < len(name.encode()) <= MAX_BYTES
        and (name[0] == "_" or unicodedata.category(name[0])[0] in "LN")
        and name[-1] not in " ."
    )
    if not plain:
        raise ConfigError(f"{parameter}={brief(name)} must be a plain folder name: {_RULE}")
    if _TAKEN.fullmatch(name):
        raise ConfigError(f"{parameter}={name!r} must be a plain folder name, and not {name!r}")
    return name


def run_names(names: Any) -> list[str]:
    """Return several names, checked.

    Raises:
        ConfigError: it is no list, or a name is not allowed or occurs twice.
    """
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"runs={brief(names)} must be a list of names, like ['seed-0', 'seed-1']")
    checked = [run_name(name, "runs") for name in names]
    if len({*checked}) < len(checked):
        raise ConfigError(f"runs={brief(checked)} must name each run only once")
    return checked


def joined(names: Sequence[str]) -> str:
    """Return the name of the folder for a report on runs: their names, as far as they fit."""
    whole = "-".join(names)
    if len(whole.encode()) <= 2 * MAX_BYTES:
        return whole
    return f"{names[0]}-and-{len(names) - 1}-more-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"

"""From the configuration to a notebook's parameters cell, and from there to a checked one."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Collection
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from cnn2gnn.base.values import base_type, described, unknown
from cnn2gnn.config import Config

_WIDTH = 100  # letters of a line


def parameters_cell(names: Collection[str]) -> str:
    """Return the source of a notebook's parameters cell, as papermill reads it.

    Defaults and choices are those of the configuration and of the registries: a cell written by
    hand would soon tell of others.

    Args:
        names: the parameters that the notebook uses; they come in the configuration's order.
    """
    blocks = []
    for group in get_type_hints(Config).values():
        used = [item for item in fields(group) if item.name in names]
        if used:
            title = (group.__doc__ or "").rstrip(".")
            lines = [_assignment(item, get_type_hints(group)[item.name]) for item in used]
            blocks.append("\n".join([f"# --- {title}", *lines]))
    return "\n\n".join(blocks)


def _assignment(item: Field[Any], type_: Any) -> str:
    """One parameter with what it means beside it, or above it where the line has no room."""
    value = json.dumps(item.default) if isinstance(item.default, str) else repr(item.default)
    line, means = f"{item.name}: {base_type(type_).__name__} = {value}", described(item)
    if len(line) + len(means) + 4 <= _WIDTH:
        return f"{line}  # {means}"
    above = textwrap.wrap(means, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*above, line])


class Parameters:
    """Collects what a notebook's parameters cell, and papermill after it, define.

    papermill only warns about a misspelt parameter and goes on with the default. Here every
    global that appears between `Parameters(globals())` and `.config()` is a parameter, so a
    misspelt one is an error that names the allowed ones.

    Args:
        namespace: the notebook's `globals()`.
        also: the dataclass of the parameters that are the notebook's own, not a run's: see `own`.
    """

    def __init__(self, namespace: dict[str, Any], also: type | None = None) -> None:
        if Path("02_distill.ipynb").exists() and Path("../pyproject.toml").exists():
            os.chdir("..")  # JupyterLab starts in notebooks/; paths are meant from the root
        self._namespace = namespace
        self._also = also
        self._own = {item.name for item in fields(also)} if also is not None else set()
        self._known = {*Config().parameters()} - self._own
        self._before = {*namespace, *self._own}
        self._checked = False

    def config(self) -> Config:
        """Return the configuration. Cells may be run again: later globals are no parameters.

        Raises:
            ConfigError: an unknown parameter or a wrong value.
        """
        new = {
            name: value
            for name, value in self._namespace.items()
            if name in self._known
            or not (self._checked or name in self._before or name[0] == "_" or value is self)
        }
        for name in new:
            if name not in self._known:
                raise unknown(name, self._known | self._own)
        config = Config.from_parameters(new)
        if self._also is not None:
            self._also(**{n: value for n, value in self._namespace.items() if n in self._own})
        self._checked = True
        return config

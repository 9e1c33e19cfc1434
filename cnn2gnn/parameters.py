"""From a notebook's parameters cell to a checked configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn2gnn.config import Config


class Parameters:
    """Collects what a notebook's parameters cell, and papermill after it, define.

    papermill only warns about a misspelt parameter and goes on with the default. Here every
    global that appears between `Parameters(globals())` and `.config()` is a parameter, so a
    misspelt one is an error that names the allowed ones.

    Args:
        namespace: the notebook's `globals()`.
        also: names of parameters that are the notebook's own, not a run's.
    """

    def __init__(self, namespace: dict[str, Any], also: Sequence[str] = ()) -> None:
        if Path("02_distill.ipynb").exists() and Path("../pyproject.toml").exists():
            os.chdir("..")  # JupyterLab starts in notebooks/; paths are meant from the root
        self._namespace = namespace
        self._known = {*Config().parameters()} - {*also}
        self._before = {*namespace, *also}
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
        config = Config.from_parameters(new)
        self._checked = True
        return config

"""A finished run, made first where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cnn2gnn.base.names import run_name
from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
from cnn2gnn.runs import Run


def obtain_run(name: str, runs_dir: str | Path = "runs") -> Run:
    """Return the run `runs_dir/name`.

    One that does not exist is made with the default parameters; one that was stopped is finished
    with its own.

    Raises:
        ConfigError: no run may be called so.
    """
    name = run_name(name)
    folder = Path(runs_dir) / name
    if (folder / "metrics.json").exists():
        return Run.open(folder)
    config = Run.open(folder).config if (folder / "config.json").exists() else Config()
    here = replace(config.runtime, run=name, runs_dir=str(runs_dir))
    return distil(replace(config, runtime=here))

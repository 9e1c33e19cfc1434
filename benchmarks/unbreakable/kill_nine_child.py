"""What `kill_nine` kills: a small run on class folders, or its report."""

from __future__ import annotations

import os
import signal
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What takes seconds to import is imported before a child begins, not in each of them.
import lightning_fabric  # noqa: F401
import torch._dynamo  # noqa: F401
import torchvision.models  # noqa: F401
import umap  # noqa: F401
from small_run import config

from cnn2gnn.distillation.distil import distil
from cnn2gnn.report import Report

writes = 0


def count_writes(fatal: int | None, phase: str) -> None:
    """Count the files that get their names, and kill this process in the `fatal`-th."""
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        global writes
        mine, writes = writes == fatal, writes + 1
        if mine and phase == "half written":
            os.truncate(source, os.stat(source).st_size // 2)
        if mine and phase != "just named":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace


def work(
    folder: Path, photos: Path, step: str, fatal: int | None, phase: str, told: Connection
) -> None:
    """Do a step in `folder`: `run` or `report`; tell how many files were written, or the error.

    With a write's number and a phase it kills itself in that write, by the signal that nothing can
    catch.
    """
    os.environ["CNN2GNN_CACHE"], tempfile.tempdir = str(folder / "cache"), str(folder / "tmp")
    count_writes(fatal, phase)
    try:
        if step == "run":
            distil(config(folder, photos))
        else:
            Report.build([folder / "runs" / "r"]).write(folder / "report")
        told.send(writes)
    except Exception as error:
        told.send(f"{type(error).__name__}: {error}")

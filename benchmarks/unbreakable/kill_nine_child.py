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
import numpy as np
import torch._dynamo  # noqa: F401
import torchvision.models  # noqa: F401
import umap  # noqa: F401

from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
from cnn2gnn.report import Report

writes = 0


def write_photos(folder: Path, count: int) -> None:
    """Write so many of scikit-learn's digits as class folders of PNG files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images[:count] * (255 / 16)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, digits.target[:count], strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def config(folder: Path, photos: Path) -> Config:
    """A run that goes through every stage in seconds."""
    return Config.from_parameters(
        dataset=f"folder:{photos}",
        runs_dir=str(folder / "runs"),
        run="r",
        device="cpu",
        precision="32-true",
        stem="conv-tiny",
        hidden=32,
        k=5,
        teacher_epochs=2,
        epochs=3,
        graph_epochs=2,
        views=2,
        graph_views=2,
        graph_batch_size=64,
        eval_batch_size=50,
        eval_repeats=2,
    )


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

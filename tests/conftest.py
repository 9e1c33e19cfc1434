"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from cnn2gnn.config import Config
from cnn2gnn.distil import distil
from cnn2gnn.runs import Run

settings.register_profile("project", deadline=None)  # a busy machine is not a failure
settings.load_profile("project")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets for development; tests that need it skip without it."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("CNN2GNN_SHARED", root.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder}; CNN2GNN_SHARED names another place")
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A real run on the digits, small and quick: in scope bank, without baselines."""
    return distil(small_config(tmp_path_factory.getbasetemp() / "runs", run="small"))


def small_config(runs_dir: Path, **more: object) -> Config:
    """The parameters of `small_run`; runs in one folder share the teacher."""
    parameters = {
        "runs_dir": str(runs_dir),
        "device": "cpu",
        "teacher_epochs": 4,
        "epochs": 8,
        "stem": "conv-tiny",
        "k": 10,
        "views": 1,
        "baselines": "",
        "eval_batch_size": 100,
        "eval_repeats": 2,
    }
    return Config.from_parameters(parameters | more)

"""Fixtures that several test files share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings

from cnn2gnn import registry
from cnn2gnn.base import modules
from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.runs import Run

if TYPE_CHECKING:
    from cnn2gnn.explore.state import ExplorerState

settings.register_profile("project", deadline=None)  # a busy machine is not a failure
settings.load_profile("project")

# Of several workers each takes a file at a time: one that takes minutes must not come last.
LONG = {
    f"test_{name}.py"
    for name in (
        "report", "processes", "distil", "explore_browser", "compare", "explore_figures",
        "odd_names", "kill_nine", "joint_task", "export", "large_data", "packaging", "readme",
        "gpu_plan", "runs", "same_bits",
    )
}  # fmt: skip

# Of the environment what the kit reads; libraries set others for good where they are imported.
WATCHED = ("CNN2GNN_", "PYTHONPATH", "PATH", "HOME", "XDG_", "TMPDIR")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long."""
    items.sort(key=lambda item: item.path.name not in LONG)


@contextmanager
def registered_for_now() -> Iterator[None]:
    """Takes out again what is registered meanwhile."""
    kinds = [kind for kind in vars(registry).values() if isinstance(kind, registry.Registry)]
    before = [dict(kind._entries) for kind in kinds]
    yield
    for kind, entries in zip(kinds, before, strict=True):
        kind._entries = entries


@pytest.fixture
def registries() -> Iterator[None]:
    """A test's own registrations end with it."""
    with registered_for_now():
        yield


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Files run in any order, several in a process: none may change what the next one meets."""
    before = process_state()
    known = dict(modules._IMPORTED)
    modules._IMPORTED.clear()  # processes of one file do not import what another file's did
    with registered_for_now():
        yield
    modules._IMPORTED.clear()
    modules._IMPORTED.update(known)
    after = process_state()
    names = [name for name in before | after if before.get(name) != after.get(name)]
    assert [(name, before.get(name), after.get(name)) for name in names] == []


def process_state() -> dict[str, object]:
    """What tests could leave changed in their process."""
    return {
        **{f"${n}": value for n, value in os.environ.items() if n.startswith(WATCHED)},
        "working directory": Path.cwd(),
        "module search path": list(sys.path),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
    }


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
    """A real run on the digits, small and quick: in scope bank, without baselines.

    Its map is already there, and is a PCA: UMAP compiles for seconds.
    """
    run = distil(small_config(tmp_path_factory.getbasetemp() / "runs", run="small"))
    save_quick_map(run)
    return run


@pytest.fixture(scope="session")
def shared_state(small_run: Run) -> ExplorerState:
    """The explorer's state of `small_run`; tests take `state`, which starts afresh."""
    from cnn2gnn.explore.state import ExplorerState

    return ExplorerState(small_run)


@pytest.fixture
def state(shared_state: ExplorerState) -> ExplorerState:
    """The shared state, looking at test node 0 as if nothing had happened."""
    shared_state.select(0)
    shared_state.reset()
    shared_state._past.clear()
    shared_state.lasso([])
    shared_state.with_filters(
        classes=(), verdicts=(), disagree=False, confidence=(0, 1), min_weight=0, sort="index"
    )
    return shared_state


@pytest.fixture(scope="session")
def batch_state(small_run: Run) -> ExplorerState:
    """The explorer's state of a small run in scope batch."""
    from cnn2gnn.explore.state import ExplorerState

    config = small_config(small_run.folder.parent, run="batch", scope="batch", epochs=2)
    return ExplorerState(distil(config))


def save_quick_map(run: Run) -> None:
    """Save a PCA where explorer and report look for the UMAP of a run, its axes exchanged.

    So the two maps of the run differ.
    """
    nodes = RunNodes.load(run)
    coordinates.save_umap(nodes, coordinates.pca(nodes.together(nodes.keys)).flip(1))


def small_config(runs_dir: Path, **more: object) -> Config:
    """The parameters of `small_run`; runs in one folder share the teacher."""
    parameters = {
        "runs_dir": str(runs_dir),
        "device": "cpu",
        "teacher_epochs": 2,
        "epochs": 4,
        "graph_epochs": 4,
        "graph_batch_size": 100,
        "stem": "conv-tiny",
        "k": 10,
        "views": 1,
        "baselines": "",
        "eval_batch_size": 100,
        "eval_repeats": 2,
    }
    return Config.from_parameters(parameters | more)

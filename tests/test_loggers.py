"""TensorBoard and MLflow are told of each epoch once, whatever is killed in between."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import small_config
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cnn2gnn.base import extras
from cnn2gnn.config import ConfigError
from cnn2gnn.distillation.distil import distil
from cnn2gnn.registry import LOGGERS
from cnn2gnn.runs import Run
from cnn2gnn.runs.epochs import EpochLog
from cnn2gnn.runs.loggers import check_loggers, epoch_log, run_ended

# SQLAlchemy has deprecated what MLflow's tables are declared with
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def rows(*epochs: int) -> list[dict[str, Any]]:
    return [{"epoch": e, "loss": 1 / (1 + e), "accuracy": e / 10, "seconds": 2.0} for e in epochs]


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is named: MLflow's file lies beside the runs."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_repeated_epoch_stands_once_in_both(tmp_path: Path, beside: None) -> None:
    run = tmp_path / "runs" / "mine"
    for epochs in ((0, 1, 2), (2, 3)):  # killed after epoch 2 was logged, before its checkpoint
        log = epoch_log(run, "student-graph", run, "tensorboard,mlflow")
        for row in rows(*epochs):
            log(row)
    run_ended(run, "tensorboard,mlflow")
    assert [row["epoch"] for row in EpochLog.read(run)] == [0, 1, 2, 3]
    expected = [(row["epoch"], row["loss"]) for row in rows(0, 1, 2, 3)]
    assert scalars(run / "tensorboard" / "student-graph", "loss") == expected
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("cnn2gnn").experiment_id])
    assert found.info.run_id == json.loads((run / "mlflow.json").read_text())["run_id"]
    assert (found.info.run_name, found.info.status) == ("mine", "FINISHED")
    history = client.get_metric_history(found.info.run_id, "student-graph/loss")
    assert sorted((metric.step, metric.value) for metric in history) == expected
    assert {*found.data.metrics} == {f"student-graph/{n}" for n in ("loss", "accuracy", "seconds")}


def test_a_run_tells_of_all_its_stages_and_learns_the_same(tmp_path: Path) -> None:
    few = {"train_images": 300, "epochs": 2, "graph_epochs": 1}
    config = small_config(tmp_path, run="told", logger="tensorboard", **few)
    quiet = small_config(tmp_path, run="quiet", **few)
    told, silent = distil(config), distil(quiet)
    # the teacher is the same one, trained by the first; stage one is taken over by the second
    assert told.manifest["teacher"] == silent.manifest["teacher"]
    stages = {path.name: path for path in (told.folder / "tensorboard").iterdir()}
    assert {*stages} == {"teacher", "student", "student-graph"}
    for stage in ("student", "student-graph"):
        history = [(r["epoch"], r["accuracy"]) for r in told.history() if r["stage"] == stage]
        assert scalars(stages[stage], "accuracy") == history
    assert len([*(tmp_path / "distilled").iterdir()]) == 1
    assert not (silent.folder / "tensorboard").exists()
    weights = [(run.folder / "student.safetensors").read_bytes() for run in (told, silent)]
    assert weights[0] == weights[1]


def test_a_run_that_began_without_goes_on_with_one(small_run: Run, tmp_path: Path) -> None:
    shutil.copytree(small_run.folder, tmp_path / "small")
    config = small_config(tmp_path, run="small", logger="tensorboard")
    again = Run.create(config, small_run.load_splits())
    assert again.manifest["stages"] == small_run.manifest["stages"]


def test_a_missing_library_and_an_unknown_logger_are_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="logger='wandb' must be one of .*tensorboard, mlflow"):
        small_config(tmp_path, logger="wandb")
    config, real = small_config(tmp_path, logger="mlflow"), extras.importlib.import_module

    def missing(name: str) -> Any:
        if name == "mlflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"mlflow is not installed: .*'cnn2gnn\[logging\]'"):
        distil(config)
    assert [*tmp_path.iterdir()] == []


def test_a_logger_of_ones_own_hears_of_each_epoch(tmp_path: Path, registries: None) -> None:
    made, heard = [], []

    def mine(run: Path, stage: str) -> Callable[[dict[str, Any]], None]:
        made.append((run.name, stage))
        return lambda row: heard.append((stage, row["epoch"], row["loss"]))

    LOGGERS.register("mine", mine)
    few = {"train_images": 300, "epochs": 2, "graph_epochs": 1, "baselines": ""}
    run = distil(small_config(tmp_path, run="heard", logger="mine,tensorboard", **few))
    assert made == [("heard", stage) for stage in ("teacher", "student", "student-graph")]
    kept = [(row["stage"], row["epoch"], row["loss"]) for row in run.history()]
    assert [row for row in heard if row[0] != "teacher"] == kept
    assert (run.folder / "tensorboard").is_dir()


@pytest.mark.parametrize(
    ("logger", "error"),
    [
        ("mine,mine", "logger='mine,mine' must be one of tensorboard, mlflow, mine or several"),
        ("mine,", "logger='mine,' must be one of"),
        ("mine,tensorbord", "logger='mine,tensorbord' must be one of"),
        ("mine", "logger='mine' must be callable, not 3"),
    ],
)
def test_loggers_that_cannot_be_are_told_before_training(
    tmp_path: Path, registries: None, logger: str, error: str
) -> None:
    LOGGERS.register("mine", 3)
    with pytest.raises(ConfigError, match=error):
        distil(small_config(tmp_path, logger=logger))
    assert [*tmp_path.iterdir()] == []


def told(folder: Path) -> list[tuple[str, str, list[int]]]:
    """Name, status and epochs of the MLflow runs of a folder."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("cnn2gnn").experiment_id])
    return [
        (
            run.info.run_name,
            run.info.status,
            [m.step for m in client.get_metric_history(run.info.run_id, "student/loss")],
        )
        for run in runs
    ]


BEGINNER = """
import sys
from pathlib import Path
from cnn2gnn.runs.loggers import check_loggers, epoch_log
run = Path(sys.argv[1])
check_loggers("mlflow", run.parent)
epoch_log(run, "student", run, "mlflow")({"epoch": 0, "loss": 1.0})
"""


def test_several_runs_that_begin_at_once_share_a_new_database(tmp_path: Path, beside: None) -> None:
    names = ["a", "b", "c"]
    started = [
        subprocess.Popen([sys.executable, "-c", BEGINNER, str(tmp_path / name)]) for name in names
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert sorted(told(tmp_path)) == [(name, "RUNNING", [0]) for name in names]


@pytest.mark.parametrize("gone", ["another store", "the run", "the experiment"])
def test_an_mlflow_run_that_has_gone_is_told_anew(
    tmp_path: Path, beside: None, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    run = tmp_path / "first" / "mine"
    log = epoch_log(run, "student", run, "mlflow")
    for row in rows(0, 1):
        log(row)
    store = tmp_path / "first"
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    if gone == "another store":
        store = tmp_path / "other"
        store.mkdir()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    elif gone == "the run":
        client.delete_run(json.loads((run / "mlflow.json").read_text())["run_id"])
    else:
        client.delete_experiment(client.get_experiment_by_name("cnn2gnn").experiment_id)
    check_loggers("mlflow", run.parent)
    log(rows(2)[0])
    run_ended(run, "mlflow")
    assert told(store) == [("mine", "FINISHED", [0, 1, 2])]


def test_a_store_that_cannot_be_opened_is_told_before_training(
    tmp_path: Path, beside: None
) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(ConfigError, match="logger='mlflow' cannot open its store: .*not a databa"):
        check_loggers("mlflow", tmp_path)

"""Where else an epoch's row goes: TensorBoard and MLflow, as the parameter `logger` asks.

`metrics.jsonl` stays what the kit itself reads. The row of an epoch that a killed process had
logged already comes once more: neither library is left with two of them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnn2gnn.base.extras import needed
from cnn2gnn.base.files import write_json
from cnn2gnn.runs.epochs import EpochLog

EXPERIMENT = "cnn2gnn"  # of MLflow
Row = dict[str, Any]


class TensorBoardLog:
    """Writes scalars of a stage below `runs/<run>/tensorboard/`; a repeated epoch replaces its row.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path, stage: str) -> None:
        self.run, self.stage = run, stage
        self._logger: Any = None

    def __call__(self, row: Row) -> None:
        """Write one epoch's row."""
        if self._logger is None:
            from lightning_fabric.loggers import TensorBoardLogger

            # what a killed process wrote of this epoch, or of later ones, no longer counts
            self._logger = TensorBoardLogger(
                self.run, "tensorboard", self.stage, purge_step=row["epoch"]
            )
        self._logger.log_metrics(_numbers(row), row["epoch"])
        self._logger.save()


class MLflowLog:
    """Logs a stage's metrics as `<stage>/<metric>` of the one MLflow run of a run.

    The server or database is what MLFLOW_TRACKING_URI names, else `mlflow.db` beside all runs.

    Args:
        run: the run's folder; it keeps the id of its MLflow run in `mlflow.json`.
    """

    def __init__(self, run: Path, stage: str) -> None:
        self.run, self.stage = run, stage

    def __call__(self, row: Row) -> None:
        """Log one epoch's row; what is there of this epoch stays as it is."""
        from mlflow.entities import Metric

        client, step, now = _client(self.run), row["epoch"], round(1000 * time.time())
        run_id, metrics = _run_id(client, self.run), []
        for name, value in _numbers(row).items():
            key = f"{self.stage}/{name}"
            there = {metric.step for metric in client.get_metric_history(run_id, key)}
            if step not in there:
                metrics.append(Metric(key, value, now, step))
        client.log_batch(run_id, metrics=metrics)


LOGS: dict[str, Callable[[Path, str], Callable[[Row], None]]] = {
    "tensorboard": TensorBoardLog,
    "mlflow": MLflowLog,
}


def epoch_log(folder: Path, stage: str, run: Path, logger: str) -> Callable[[Row], None]:
    """Return what takes the row of an epoch.

    Args:
        folder: of `metrics.jsonl`: the run's, or the teacher's that it shares with others.
        run: the run's own folder. logger: which others take it too, comma-separated.
    """
    logs: list[Callable[[Row], None]] = [EpochLog(folder, stage)]
    logs += [LOGS[name](run, stage) for name in _names(logger)]

    def log(row: Row) -> None:
        for each in logs:
            each(row)

    return log


def check_loggers(logger: str) -> None:
    """Check, before anything is trained, that the libraries are there.

    Raises:
        ConfigError: one is not; the extra that brings it is named.
    """
    for name in _names(logger):
        needed(name, "logging")


def run_finished(run: Path, logger: str) -> None:
    """Tell MLflow that nothing more comes."""
    if "mlflow" in _names(logger):
        client = _client(run)
        client.set_terminated(_run_id(client, run))


def _client(run: Path) -> Any:
    from mlflow.tracking import MlflowClient

    beside = f"sqlite:///{(run.parent / 'mlflow.db').absolute()}"
    return MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or beside)


def _run_id(client: Any, run: Path) -> str:
    """The MLflow run of this run: a new one only where the folder is new too."""
    path = run / "mlflow.json"
    if not path.is_file():
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
        created = client.create_run(experiment, run_name=run.name)
        write_json(path, {"run_id": created.info.run_id})
    return json.loads(path.read_text())["run_id"]


def _names(logger: str) -> list[str]:
    return [name for name in logger.split(",") if name]


def _numbers(row: Row) -> dict[str, float]:
    """The metrics of a row: all but what says where they belong."""
    return {name: value for name, value in row.items() if name not in ("stage", "epoch")}

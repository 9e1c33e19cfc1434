"""Where else an epoch's row goes: TensorBoard, MLflow, your own, as the parameter `logger` asks.

`metrics.jsonl` stays what the kit itself reads. The row of an epoch that a killed process had
logged already comes once more: neither library is left with two of them.
A logger of your own stands in `registry.LOGGERS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnn2gnn.base.extras import needed
from cnn2gnn.base.values import ConfigError, brief
from cnn2gnn.registry import LOGGERS
from cnn2gnn.runs import mlflow_run
from cnn2gnn.runs.epochs import EpochLog

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

    An MLflow run that begins in the middle of a run is told of all earlier epochs as well.

    Args:
        run: the run's folder.
    """

    def __init__(self, run: Path, stage: str) -> None:
        self.run, self.stage = run, stage

    def __call__(self, row: Row) -> None:
        """Log one epoch's row."""
        client, run_id = _told(self.run)
        _tell(client, run_id, self.stage, row)


def epoch_log(folder: Path, stage: str, run: Path, logger: str) -> Callable[[Row], None]:
    """Return what takes the row of an epoch.

    Args:
        folder: of `metrics.jsonl`: the run's, or the teacher's that it shares with others.
        run: the run's own folder. logger: which others take it too, comma-separated.
    """
    logs: list[Callable[[Row], None]] = []

    def log(row: Row) -> None:
        if not logs:  # not before, for only one of several processes logs
            logs.append(EpochLog(folder, stage))
            logs.extend(LOGGERS[name](run, stage) for name in _names(logger))
        for each in logs:
            each(row)

    return log


def check_loggers(logger: str, runs_dir: Path) -> None:
    """Check, before anything is trained, that the libraries are there, and what they write to.

    Raises:
        ConfigError: one is not; the extra that brings it is named. Or MLflow's store cannot be
            opened, or a logger of your own cannot be called.
    """
    names = _names(logger)
    for name in names:
        if not LOGGERS.from_outside(name):
            needed(name, "logging")
        elif not callable(LOGGERS[name]):
            raise ConfigError(f"logger={name!r} must be callable, not {brief(LOGGERS[name])}")
    if "mlflow" in names:
        mlflow_run.store(runs_dir)


def run_ended(run: Path, logger: str, status: str = "FINISHED") -> None:
    """Tell MLflow that nothing more comes, if it knows of the run.

    Args:
        status: how it ended; MLflow's word, `FINISHED`, `FAILED` or `KILLED`.
    """
    if "mlflow" in _names(logger) and (run / mlflow_run.FILE).is_file():
        client, run_id = _told(run)
        client.set_terminated(run_id, status)


def _told(run: Path) -> tuple[Any, str]:
    """MLflow's client, and the id of the MLflow run; a new one has been told of earlier epochs."""
    client, run_id, new = mlflow_run.of(run)
    for earlier in EpochLog.read(run) if new else ():
        _tell(client, run_id, earlier["stage"], earlier)
    return client, run_id


def _tell(client: Any, run_id: str, stage: str, row: Row) -> None:
    """Log one epoch's row; what is there of this epoch stays as it is."""
    from mlflow.entities import Metric

    step, now, metrics = row["epoch"], round(1000 * time.time()), []
    for name, value in _numbers(row).items():
        key = f"{stage}/{name}"
        if step not in {metric.step for metric in client.get_metric_history(run_id, key)}:
            metrics.append(Metric(key, value, now, step))
    client.log_batch(run_id, metrics=metrics)


def _names(logger: str) -> list[str]:
    return [name for name in logger.split(",") if name]


def _numbers(row: Row) -> dict[str, float]:
    """The metrics of a row: all but what says where they belong."""
    return {name: value for name, value in row.items() if name not in ("stage", "epoch")}

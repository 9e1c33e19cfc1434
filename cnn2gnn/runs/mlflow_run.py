"""The MLflow run of a run: where it is told, begun once, and begun anew where it has gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from filelock import FileLock

from cnn2gnn.base.files import write_json
from cnn2gnn.config import ConfigError

EXPERIMENT = "cnn2gnn"
FILE = "mlflow.json"  # in the run's folder: the id of its MLflow run


def store(runs_dir: Path) -> tuple[Any, str]:
    """Return MLflow's client, and the id of our experiment.

    The server or database is what MLFLOW_TRACKING_URI names, else `mlflow.db` beside all runs.

    Raises:
        ConfigError: it cannot be reached, or is damaged.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    beside = f"sqlite:///{(runs_dir / 'mlflow.db').absolute()}"
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        # one process at a time: the first makes the tables of a new database, and the experiment
        with FileLock(runs_dir / ".mlflow.lock"):
            client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or beside)
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                return client, client.create_experiment(EXPERIMENT)
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return client, found.experiment_id
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"logger='mlflow' cannot open its store: {reason}") from error


def of(run: Path) -> tuple[Any, str, bool]:
    """Return MLflow's client, the id of the MLflow run of this run, and whether it is new.

    Args:
        run: the run's folder, which keeps the id.

    Raises:
        ConfigError: see `store`.
    """
    client, experiment = store(run.parent)
    path = run / FILE
    known = json.loads(path.read_text())["run_id"] if path.is_file() else None
    if known is not None and _is_there(client, known):
        return client, known, False
    created = client.create_run(experiment, run_name=run.name).info.run_id
    write_json(path, {"run_id": created})
    return client, created, True


def _is_there(client: Any, run_id: str) -> bool:
    """Whether this store has the MLflow run; another server has not, nor one that deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        active: bool = client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return active

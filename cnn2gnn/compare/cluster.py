"""The cells of a comparison as jobs of a cluster, by submitit: there is no scheduler of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import cuda

from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare.execution import ERROR_PREFIX, command
from cnn2gnn.compare.grid import Cell

POLL_SECONDS = 2.0
LONG = 7 * 24 * 60  # minutes that a job of this machine may take; submitit would end it after two


class Cluster:
    """Runs cells as jobs, and waits for them; what waits here may be stopped, the jobs go on.

    Args:
        logs: folder that this machine and the jobs share.
        kind: `slurm`, or `local` for processes of this machine.
        options: of submitit's `AutoExecutor`, such as `timeout_min`, `gpus_per_node`,
            `slurm_partition`.
        modules: what each process imports first.

    Raises:
        ConfigError: submitit is missing, there is no such cluster here, or no such option, or a
            scheduler is not told how long a job may take.
    """

    def __init__(
        self, logs: Path, kind: str, options: Mapping[str, Any], modules: Sequence[str] = ()
    ) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise ConfigError("a cluster needs submitit: pip install 'cnn2gnn[cluster]'") from error
        self.modules, self._submitit = modules, submitit
        try:
            self._executor = submitit.AutoExecutor(logs, cluster=kind)
            usual = {"timeout_min": LONG, "gpus_per_node": cuda.device_count()}
            options = {"name": "cnn2gnn", **(usual if kind == "local" else {}), **options}
            self._executor.update_parameters(**options)
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise ConfigError(f"cluster={kind!r}: {' '.join(str(error).split())}") from error
        if not {"timeout_min", "slurm_time"} & {*options}:
            raise ConfigError(
                f"cluster={kind!r} needs the minutes that a job may take, as in "
                "--cluster-option timeout_min=600: else submitit ends it after five"
            )

    def run(self, cells: Sequence[Cell], done: Callable[[Cell, str | None], None]) -> None:
        """Hand in all cells, and call `done(cell, error)` after each; as `Workers.run`."""
        run = self._submitit.helpers.CommandFunction
        with self._executor.batch():
            jobs = {
                self._executor.submit(run(command(cell, self.modules), verbose=False)): cell
                for cell in cells
            }
        while jobs:
            for job in [job for job in jobs if job.done()]:
                done(jobs.pop(job), _error(job))
            time.sleep(POLL_SECONDS)


def _error(job: Any) -> str | None:
    """Why a job failed, in one line, and where all of it is; None if it is well."""
    error = job.exception()
    if error is None:
        return None
    lines = str(error).splitlines()
    told = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
    if "timed out" in f"{error}{job.stdout() or ''}":
        told.append("timed out: --cluster-option timeout_min=… gives it more minutes")
    reason = (told or [line for line in lines if line.strip()] or [type(error).__name__])[-1]
    return f"{reason} (all of it: {job.paths.stderr})"

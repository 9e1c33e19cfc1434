"""The cells of a comparison as jobs of a cluster, by submitit: there is no scheduler of ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare.execution import ERROR_PREFIX, command
from cnn2gnn.compare.grid import Cell

POLL_SECONDS = 2.0


class Cluster:
    """Runs cells as jobs, and waits for them; what waits here may be stopped, the jobs go on.

    Args:
        logs: folder that this machine and the jobs share.
        kind: `slurm`, or `local` for processes of this machine.
        options: of submitit's `AutoExecutor`, such as `timeout_min`, `gpus_per_node`,
            `slurm_partition`.
        modules: what each process imports first.

    Raises:
        ConfigError: submitit is missing, there is no such cluster here, or no such option.
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
            self._executor.update_parameters(name="cnn2gnn", **options)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise ConfigError(f"cluster={kind!r}: {' '.join(str(error).split())}") from error

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
    told = [line for line in str(error).splitlines() if line.startswith(ERROR_PREFIX)]
    reason = told[-1].removeprefix(ERROR_PREFIX) if told else str(error).strip().splitlines()[-1]
    return f"{reason} (all of it: {job.paths.stderr})"

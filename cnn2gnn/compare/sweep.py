"""A sweep: the search for parameters that do well on the validation images, by Optuna."""

from __future__ import annotations

import hashlib
import subprocess
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna import storages
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from cnn2gnn.base.modules import import_modules, imported
from cnn2gnn.base.names import run_name
from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare.execution import command, failure, surroundings
from cnn2gnn.compare.grid import Cell, binding, check_dataset
from cnn2gnn.compare.space import space, suggest
from cnn2gnn.config import Config
from cnn2gnn.runs.epochs import EpochLog
from cnn2gnn.runs.loggers import run_ended
from cnn2gnn.runs.manifest import changes

POLL_SECONDS = 0.5
STUDENT = ("student", "student-graph")  # its stages, in the order of their epochs
FAILURES = 3  # trials that fail one after the other end a sweep
FIXED, SEARCHED, ERROR = "fixed", "searched", "error"  # what study and trials keep beside values
_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


class TrialError(RuntimeError):
    """The process of a trial failed."""


@dataclass
class Sweep:
    """A study of Optuna whose trials are runs without evaluation: test images are not looked at.

    The objective is the student's validation accuracy, in [0, 1], after its last epoch. A trial
    that is below the median of the others at the same epoch is stopped; one whose combination the
    configuration refuses never begins. Several processes, and several machines, work on one study
    if they are given the same name and storage.

    Args:
        name: of the study; runs are called `name-<hash>` by their values.
        searched: as of `space.space`.
        fixed: the other parameters that differ from their defaults.
        folder: for storage, logs and report.
        runs_dir: folder of all runs: trials share its teachers.
        storage: a database's URL, or `journal:PATH` where a file system has no locks; None: SQLite
            in `folder`.
        modules: what each process imports first.

    Raises:
        ConfigError: a parameter is wrong, or both searched and fixed; or the storage is none; or
            the study has trials with other parameters.
    """

    name: str
    searched: Sequence[str]
    fixed: Mapping[str, Any]
    folder: Path
    runs_dir: str = "runs"
    storage: str | None = None
    modules: Sequence[str] = ()
    bounds: dict[str, BaseDistribution] = field(init=False)
    study: optuna.Study = field(init=False)

    def __post_init__(self) -> None:
        run_name(self.name, "name")
        import_modules(self.modules)
        self.modules = imported()  # by whom ever: a notebook, say, that was run with --import
        self.bounds = space(self.searched)
        if both := [name for name in self.bounds if name in self.fixed]:
            raise ConfigError(f"{both[0]} cannot be both searched and fixed")
        check_dataset(Config.from_parameters(self.fixed).data.dataset)
        self.folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of heartbeats, since 2021
            storage = _storage(self.storage or f"sqlite:///{self.folder / 'study.db'}")
        self.study = optuna.create_study(
            storage=storage,
            study_name=self.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(),
            sampler=optuna.samplers.TPESampler(),  # unseeded: processes that join try other values
        )
        self._keep_parameters()

    def run(self, trials: int, jobs: int = 1) -> None:
        """Try until the study has `trials` that are over, `jobs` at a time.

        Raises:
            ConfigError: `trials` or `jobs` is below 1.
            TrialError: the first trial failed, or `FAILURES` one after the other.
        """
        for name, value in {"trials": trials, "jobs": jobs}.items():
            if value < 1:
                raise ConfigError(f"{name}={value} must be at least 1")
        if len(self.study.get_trials(deepcopy=False, states=_OVER)) >= trials:
            return

        def objective(trial: Trial) -> float:
            return self._try(trial, surroundings(jobs))

        enough, failures = MaxTrialsCallback(trials, states=_OVER), _Failures()
        self.study.optimize(
            objective, n_jobs=jobs, callbacks=[enough, failures], catch=(TrialError,)
        )
        if failures.fatal is not None:
            raise TrialError(f"sweep {self.name} has stopped, its trials fail: {failures.fatal}")

    def _keep_parameters(self) -> None:
        """Keep with the study what is fixed and searched, and go on with nothing else."""
        fixed = Config.from_parameters({"baselines": "", **self.fixed}).parameters()
        if not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(FIXED, fixed)
            bounds = {name: distribution_to_json(within) for name, within in self.bounds.items()}
            self.study.set_user_attr(SEARCHED, bounds)
        kept = self.study.user_attrs
        searched = {name: json_to_distribution(b) for name, b in kept.get(SEARCHED, {}).items()}
        changed = changes(searched, self.bounds)
        if changed := changed + changes(binding(kept.get(FIXED, {})), binding(fixed)):
            raise ConfigError(
                f"sweep {self.name!r} exists with other parameters ({'; '.join(changed)}); "
                "choose another name"
            )

    def _try(self, trial: Trial, environment: Mapping[str, str]) -> float:
        """Run one trial in a process of its own, and stop it early if it is not promising."""
        values = suggest(trial, self.bounds)
        try:
            cell = self._cell(values)
        except ConfigError as error:  # each value is allowed, but not beside the others
            trial.set_user_attr(ERROR, str(error))
            raise optuna.TrialPruned(str(error)) from error
        trial.set_user_attr("run", cell.name)
        log = self.folder / "logs" / f"{cell.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(log.with_suffix(".lock")):  # the same values may be tried at the same time
            reason = self._train(trial, cell, log, environment)
        if reason:
            trial.set_user_attr(ERROR, reason)
            if any(reason.startswith(f"{ConfigError.__name__}: {name}=") for name in self.bounds):
                raise optuna.TrialPruned(reason)  # a value that these data do not allow
            raise TrialError(reason)
        return accuracies(cell)[-1]

    def _train(
        self, trial: Trial, cell: Cell, log: Path, environment: Mapping[str, str]
    ) -> str | None:
        """Run the process of a trial; return its error in one line, None if it is well."""
        line, status = command(cell, self.modules, "students"), "KILLED"
        with log.open("wb") as output:
            process = subprocess.Popen(
                line, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            try:
                while process.poll() is None:
                    time.sleep(POLL_SECONDS)
                    self._watch(trial, cell)
                status = "FAILED" if process.returncode else "FINISHED"
            finally:
                process.terminate()
                process.wait()
                run_ended(cell.folder, cell.config.runtime.logger, status)
        return failure(log, process.returncode) if process.returncode else None

    def _watch(self, trial: Trial, cell: Cell) -> None:
        told = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
        for step, value in enumerate(accuracies(cell)[told:], told):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned(f"at epoch {step + 1}, accuracy {value:.3f}")

    def _cell(self, values: Mapping[str, Any]) -> Cell:
        everything = {"baselines": "", **self.fixed, **values}
        mark = hashlib.sha256(repr(sorted(everything.items())).encode()).hexdigest()[:8]
        place = {"run": f"{self.name}-{mark}", "runs_dir": self.runs_dir}
        return Cell(Config.from_parameters({**everything, **place}), dict(values))


class _Failures:
    """Ends a study in which nothing works, as a callback of Optuna's.

    Attributes:
        fatal: the error of the trial that has ended it.
    """

    def __init__(self) -> None:
        self.fatal: str | None = None
        self._in_a_row = 0

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._in_a_row = self._in_a_row + 1 if trial.state == TrialState.FAIL else 0
        first = not study.get_trials(deepcopy=False, states=_OVER)
        if self._in_a_row and (first or self._in_a_row >= FAILURES):
            self.fatal = trial.user_attrs[ERROR]
            study.stop()


def accuracies(cell: Cell) -> list[float]:
    """Return the student's validation accuracies so far, in [0, 1]: stage one, then stage two."""
    rows = EpochLog.read(cell.folder)
    return [row["accuracy"] for stage in STUDENT for row in rows if row["stage"] == stage]


def _storage(url: str) -> storages.BaseStorage:
    """Open a storage; in a database, trials of a process that was killed are tried again.

    Raises:
        ConfigError: it is no URL of a database, or cannot be opened.
    """
    if url.startswith("journal:"):
        return storages.JournalStorage(JournalFileBackend(url.removeprefix("journal:")))
    again = storages.RetryHeartbeatStaleTrialCallback(max_retry=3)
    try:
        return storages.RDBStorage(url, heartbeat_interval=60, heartbeat_stale_trial_callback=again)
    except (SQLAlchemyError, ImportError) as error:  # no URL, no such database, or no driver
        reason = " ".join(str(error).split())
        raise ConfigError(f"storage={url!r} cannot be opened: {reason}") from error

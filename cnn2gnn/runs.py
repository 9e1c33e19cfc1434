"""The run folder: what a run was asked, what it measured, what it learned."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

import cnn2gnn
from cnn2gnn.config import Config, ConfigError, DataConfig
from cnn2gnn.data import Splits, load
from cnn2gnn.files import load_tensors, replacing, write_json
from cnn2gnn.own import Own

if TYPE_CHECKING:
    from cnn2gnn.models.bank import Bank
    from cnn2gnn.models.student import Student

# Parameters that may change between two starts of the same run: they do not change its results.
_FREE = ("runs_dir", "device", "devices", "num_nodes", "data_dir", "download")


class RunLockedError(RuntimeError):
    """Another process is working on this run."""


def load_run(run: str | Path, runs_dir: str | Path = "runs", **own: Any) -> Run:
    """Return a run by its name in `runs_dir`, or by its folder.

    Args:
        own: the objects of your own that it was made with: data, teacher, stem, graph, loss.

    Raises:
        FileNotFoundError: there is no run of this name and none in this folder.
        ValueError: an object is another one than the run was made with.
    """
    named = Path(runs_dir) / run
    return Run.open(named if (named / "config.json").is_file() else run, Own(**own))


def load_splits(config: DataConfig) -> Splits:
    """Load the configured data set."""
    return load(
        config.dataset,
        data_dir=config.data_dir,
        download=config.download,
        image_size=config.image_size,
        label_column=config.label_column,
        train_images=config.train_images,
        validation=config.validation,
        split_seed=config.split_seed,
    )


class Run:
    """One run's folder, `runs/<run>/`. Create it with `Run.create`, read it with `Run.open`.

    Args:
        own: objects of the user's own that are at hand.
        made_with: fingerprints of those that the run was made with, by name.
    """

    def __init__(
        self, folder: Path, config: Config, own: Own | None = None, made_with: Any = None
    ) -> None:
        self.folder, self.config, self.own = folder, config, own or Own()
        self.made_with: dict[str, str] = made_with or {}

    @classmethod
    def create(cls, config: Config, own: Own | None = None) -> Run:
        """Return the run of this configuration, new or begun earlier with the same parameters.

        Raises:
            ConfigError: a run of this name exists with other parameters or objects; nothing is
                touched.
        """
        own = own or Own()
        folder, made_with = Path(config.runtime.runs_dir) / config.runtime.run, own.fingerprints()
        run = cls(folder, config, own, made_with)
        path = run.folder / "config.json"
        if path.exists():
            before = json.loads(path.read_text())
            run._refuse_other(
                {**before["parameters"], **_named("own", before["own"])},
                {**config.parameters(), **_named("own", made_with)},
            )
        else:
            asked = {"parameters": config.parameters(), "own": made_with}
            write_json(path, {**asked, **environment()})
        return run

    @classmethod
    def open(cls, folder: str | Path, own: Own | None = None) -> Run:
        """Return the run that lies in `folder`.

        Args:
            own: the objects it was made with, as far as they are needed.

        Raises:
            FileNotFoundError: there is no run in this folder.
            ValueError: an object is another one than the run was made with.
        """
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(f"no run in {folder}: {path} is missing")
        content = json.loads(path.read_text())
        config = Config.from_parameters(content["parameters"])
        own = own or Own()
        own.check(content["own"], Path(folder).name)
        return cls(Path(folder), config, own, content["own"])

    def lock(self) -> None:
        """Hold the run for this process, until it ends.

        Raises:
            RunLockedError: another process holds it.
        """
        # one lock a process: a notebook's cell that starts the run may be run again
        self._lock = FileLock(self.folder / ".lock", is_singleton=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunLockedError(
                f"another process is working on {self.folder}; wait for it or choose another run"
            ) from None

    def load_splits(self) -> Splits:
        """Return the data of the run: your own, or the configured data set."""
        return self._own("data") or load_splits(self.config.data)

    def load_student(self) -> Student:
        """Return the trained student in evaluation mode."""
        from cnn2gnn.models.student import Student

        path = self.folder / "student.safetensors"
        return Student.load(path, self._own("stem"), self._own("graph"))

    def load_bank(self) -> Bank:
        """Return the bank saved with the student."""
        from cnn2gnn.models.bank import Bank

        return Bank.load(self.folder / "bank.safetensors")

    def load_nodes(self) -> dict[str, Tensor]:
        """Return the test images as nodes (protocol inductive): see `evaluation.nodes`."""
        return load_tensors(self.folder / "nodes.safetensors")[0]

    def metrics(self) -> dict[str, Any]:
        """Return the final figures, `metrics.json`."""
        path = self.folder / "metrics.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the run has not finished; start it again")
        return json.loads(path.read_text())

    def history(self) -> list[dict[str, Any]]:
        """Return one row per stage and epoch, from `metrics.jsonl`."""
        return EpochLog.read(self.folder)

    def stage_folder(self, stage: str) -> Path:
        """Where `student`, or a baseline of this name, keeps weights, checkpoint and snapshots."""
        return self.folder if stage == "student" else self.folder / "baselines" / stage

    def snapshots(self, baseline: str | None = None) -> list[tuple[int, dict[str, Tensor]]]:
        """Return the graph over fixed validation images after each epoch."""
        folder = self.stage_folder(baseline or "student") / "snapshots"
        paths = sorted(folder.glob("epoch-*.safetensors"))
        return [(int(path.stem.split("-")[1]), load_tensors(path)[0]) for path in paths]

    def _own(self, name: str) -> Any:
        return self.own.needed(name, self.made_with, self.folder.name)

    def _refuse_other(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changed = [
            f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
            for name in sorted({*before, *now} - {*_FREE})
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise ConfigError(
                f"run {self.config.runtime.run!r} exists with other parameters "
                f"({'; '.join(changed)}); choose another run name or delete {self.folder}"
            )


class EpochLog:
    """Rows of `metrics.jsonl`, one per stage and epoch; a repeated epoch replaces its row."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    def __call__(self, row: dict[str, Any]) -> None:
        """Append one epoch's row, atomically."""
        kept = [
            old
            for old in self.read(self.folder)
            if old["stage"] != self.stage or old["epoch"] < row["epoch"]
        ]
        with replacing(self.folder / "metrics.jsonl") as path:
            rows = [*kept, {"stage": self.stage, **row}]
            path.write_text("".join(json.dumps(r) + "\n" for r in rows))

    @staticmethod
    def read(folder: Path) -> list[dict[str, Any]]:
        """Return all rows of a folder, none if it has no log."""
        path = folder / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]


def teacher_folder(config: Config, splits: Splits) -> Path:
    """Where this teacher lies: named by the hash of its data and configuration."""
    return Path(config.runtime.runs_dir) / "teachers" / _key(config, splits)


def _key(config: Config, splits: Splits) -> str:
    content = [
        asdict(config.teacher),
        config.data.augmentation_name,
        splits.train.fingerprint,
        splits.validation.fingerprint,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _named(prefix: str, content: dict[str, str]) -> dict[str, str]:
    return {f"{prefix} {name}": value for name, value in content.items()}


def environment() -> dict[str, Any]:
    """Return what a result depends on besides the parameters: versions, commit, machine."""
    packages = ("torch", "torchvision", "numpy", "lightning-fabric")
    return {
        "versions": {
            "cnn2gnn": cnn2gnn.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "git_commit": _git_commit(),
        "machine": {
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        where = Path(__file__).parent
        found = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()

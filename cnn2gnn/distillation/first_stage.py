"""What stage one made lies beside the teachers: runs that differ in the graph alone share it.

Only what the kit itself names is shared, and only between runs of the same code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

from filelock import FileLock

from cnn2gnn.base.files import BrokenFileError, module_hash, read_json, replacing, write_json
from cnn2gnn.config import Config, DataConfig, TeacherConfig
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run
from cnn2gnn.runs.environment import code_hash
from cnn2gnn.runs.loggers import epoch_log
from cnn2gnn.runs.manifest import FREE

DISTILLED, FACTS = "distilled.safetensors", "distilled.json"
BEGUN = "begun.json"  # beside a run's checkpoint: which stage one it began to train
# What stage one does not know: the graph, stage two, the baselines, the evaluation.
LATER = (
    *("graph", "layer", "k", "heads", "key_width", "local_scaling", "scope"),
    *("baselines", "twin_kd_weight"),
    *("eval_batch_size", "eval_repeats"),
    *("stage_two", "graph_epochs", "graph_batch_size", "graph_learning_rate", "graph_views"),
)
# What a student that learns from labels alone does not know.
TAUGHT = ("loss", "kd_weight", "temperature")


class FirstStage:
    """The weights of one stage one, `runs/distilled/<key>/`, for every run that begins with it.

    Args:
        run: the run that needs it; config: its parameters, or those of its baseline.
        start: the student without a graph as training begins.
        teacher: the teacher's fingerprint; None: it learns from labels alone.
    """

    def __init__(self, run: Run, config: Config, start: Student, teacher: str | None) -> None:
        self.run = run
        key = json.dumps(_decisive(run, config, start, teacher), sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder = run.folder.parent / "distilled" / name

    def lock(self) -> FileLock:
        """Return what holds the folder: of two runs that begin alike, the second waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")

    @property
    def exists(self) -> bool:
        """Whether some run has made it."""
        return all((self.folder / name).exists() for name in (FACTS, DISTILLED))

    def begin(self, checkpoint: Path) -> None:
        """Remember that a run trains it now; one that goes on from `checkpoint` has begun before.

        Between two starts of a run, code and machine may have become others.
        """
        if not checkpoint.exists():
            write_json(checkpoint.with_name(BEGUN), {"key": self.folder.name})

    def began(self, checkpoint: Path) -> bool:
        """Whether a run that had this checkpoint has trained it from the first step on."""
        path = checkpoint.with_name(BEGUN)
        return path.exists() and read_json(path).get("key") == self.folder.name

    def publish(self, weights: Path, stage: str) -> None:
        """Hand a run's weights to the others, with its epochs and what made them."""
        rows = [row for row in self.run.history() if row["stage"] == stage]
        made_by = self.run.manifest["stages"][stage]
        with replacing(self.folder / DISTILLED) as path:
            shutil.copyfile(weights, path)
        facts = {"sha256": _sha256(weights), "epochs": rows, "made_by": made_by}
        write_json(self.folder / FACTS, facts)

    def take(self, weights: Path, stage: str) -> None:
        """Copy what another run has made into this one, its epochs and its origin too.

        Raises:
            BrokenFileError: the weights are not those that were published.
        """
        facts = read_json(self.folder / FACTS)
        if _sha256(self.folder / DISTILLED) != facts["sha256"]:
            raise BrokenFileError(
                f"{self.folder / DISTILLED} is damaged; delete {self.folder} to train it again"
            )
        folder = self.run.folder
        log = epoch_log(folder, stage, folder, self.run.config.runtime.logger)
        for row in facts["epochs"]:
            log({name: value for name, value in row.items() if name != "stage"})
        with replacing(weights) as path:
            shutil.copyfile(self.folder / DISTILLED, path)
        self.run.stage_done(stage, facts["made_by"])


def _decisive(run: Run, config: Config, start: Student, teacher: str | None) -> dict[str, Any]:
    """All that stage one's weights depend on."""
    elsewhere = {item.name for group in (DataConfig, TeacherConfig) for item in fields(group)}
    without = {*FREE, *LATER, *elsewhere, *(TAUGHT if teacher is None else ())}
    manifest = run.manifest
    images = {name: manifest["data"][f"{name} images"] for name in ("train", "validation")}
    return {
        "parameters": {n: v for n, v in config.parameters().items() if n not in without},
        "start": module_hash(start),
        "teacher": teacher,
        "augmentation": [manifest["augmentation"], manifest["augmentation_version"]],
        "hardware": manifest["hardware"],
        "made by": [manifest["versions"], code_hash()],
        **images,
    }


def is_shared(run: Run) -> bool:
    """Whether others may take over what a run's stage one makes.

    Not if teacher, stem or loss is the user's own, handed over or registered: no hash tells all
    that such code computes.
    """
    own, registered = (run.manifest.get(name, {}) for name in ("own", "registered"))
    return not {"teacher", "stem", "loss"} & {*own, *registered}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

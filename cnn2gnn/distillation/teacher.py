"""The teacher: a CNN that is trained once per (data, configuration) and shared between runs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.base.files import BrokenFileError, read_json, sweep, write_json
from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits, channel_statistics
from cnn2gnn.distillation.loop import CHECKPOINT, Recipe, fit, place
from cnn2gnn.distillation.sizes import check_teacher
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.models.teacher import Teacher, in_chunks
from cnn2gnn.runs.environment import environment
from cnn2gnn.runs.hardware import resolved_hardware
from cnn2gnn.runs.loggers import epoch_log
from cnn2gnn.runs.teachers import teacher_folder

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class TeacherTask:
    """Cross-entropy on augmented images; each epoch is a view of its own."""

    def __init__(
        self, teacher: Teacher, splits: Splits, augmentation: str, smoothing: float, device: Any
    ) -> None:
        self.module = teacher
        self.size = len(splits.train)
        self.train = splits.train.to(device)
        self.validation = splits.validation
        self.augmentation, self.smoothing = augmentation, smoothing

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Label-smoothed cross-entropy of the images `indices` `(B,)`."""
        logits = model(self.train.view(indices, epoch + 1, self.augmentation))  # (B, classes)
        labels = self.train.labels[indices]
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracy in [0, 1]."""
        logits = in_chunks(module, self.validation.images)
        return {"accuracy": accuracy(logits, self.validation.labels)}


def new_teacher(config: Config, train: ImageSet) -> Teacher:
    """Return the configured teacher with fresh (seeded) or ImageNet weights."""
    torch.manual_seed(config.teacher.teacher_seed)
    mean, std = channel_statistics(train.images)
    return Teacher.build(
        config.teacher.teacher,
        channels=train.channels,
        size=train.size,
        classes=len(train.classes),
        mean=mean.tolist(),
        std=std.tolist(),
        weights=config.teacher.teacher_weights,
    )


def obtain_teacher(config: Config, splits: Splits, fabric: Fabric) -> Teacher:
    """Return the trained teacher in evaluation mode: loaded if it exists, trained if not.

    Two processes that need the same teacher train it once: the second waits.

    Raises:
        BrokenFileError: the stored weights are damaged, or those of another teacher.
        ConfigError: it is not for such samples.
        NotFiniteError: training diverged.
    """
    check_teacher(config.teacher.teacher, splits.train.modality)
    folder = teacher_folder(config, splits)
    folder.mkdir(parents=True, exist_ok=True)
    path, facts = folder / "teacher.safetensors", folder / "teacher.json"
    with FileLock(folder / ".lock") if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            sweep(folder)
        fabric.barrier()  # rank 0 holds the lock
        if not fabric.broadcast(path.exists() and facts.exists()):
            teacher = new_teacher(config, splits.train)
            _train(teacher, config, splits, fabric, folder)
            if fabric.is_global_zero:
                teacher.save(path)
                write_json(facts, _facts(config, splits, Teacher.load(path)))
        if fabric.is_global_zero:  # also where it was killed before it could do so
            (folder / CHECKPOINT).unlink(missing_ok=True)
        fabric.barrier()
    return place(_load(path, facts), fabric.device)  # one teacher for all ranks


def _facts(config: Config, splits: Splits, teacher: Teacher) -> dict[str, Any]:
    """What a stored teacher is, and what made it."""
    return {
        "fingerprint": teacher.fingerprint(),
        "dataset": splits.train.name,
        "parameters": asdict(config.teacher),
        "hardware": resolved_hardware(config.runtime),
        **environment(),
    }


def _load(path: Path, facts: Path) -> Teacher:
    teacher = Teacher.load(path)
    trained = read_json(facts).get("fingerprint")  # older versions wrote none
    if teacher.fingerprint() != trained:
        raise BrokenFileError(
            f"{path} is not the teacher that was trained there: its fingerprint is "
            f"{teacher.fingerprint()} instead of {trained}; delete {path.parent} to train it again"
        )
    return teacher


def _train(teacher: Teacher, config: Config, splits: Splits, fabric: Fabric, folder: Path) -> None:
    settings = config.teacher
    recipe = Recipe(
        epochs=settings.teacher_epochs,
        batch_size=settings.teacher_batch_size,
        optimizer="sgd",
        learning_rate=settings.teacher_learning_rate,
        weight_decay=settings.teacher_weight_decay,
        gradient_clip=5.0,
        seed=settings.teacher_seed,
    )
    smoothing = settings.teacher_label_smoothing
    augmentation = splits.train.augmentation_for(config.data.augmentation)
    task = TeacherTask(teacher, splits, augmentation, smoothing, fabric.device)
    runtime = config.runtime
    log = epoch_log(folder, "teacher", Path(runtime.runs_dir, runtime.run), runtime.logger)
    fit(task, recipe, fabric, folder, log, title=f"teacher {teacher.name}")

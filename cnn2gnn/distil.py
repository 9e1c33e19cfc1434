"""Distillation: the student's task for the training loop, its baselines and its evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cnn2gnn.bank import Bank
from cnn2gnn.cache import TeacherCache
from cnn2gnn.config import Config
from cnn2gnn.data import Splits, augment, channel_statistics
from cnn2gnn.evaluation import (
    alone,
    anchors,
    evaluate,
    expected_calibration_error,
    in_batches,
    node_tensors,
    throughput,
)
from cnn2gnn.files import save_tensors, write_json
from cnn2gnn.losses import response_kd
from cnn2gnn.runs import EpochLog, Run
from cnn2gnn.student import Student, StudentOutput
from cnn2gnn.teacher import Teacher, accuracy, in_chunks, obtain_teacher, teacher_folder
from cnn2gnn.training import CHECKPOINT, Recipe, fit, make_fabric

SNAPSHOT_NODES = 1000  # validation images whose graph is kept after each epoch


class StudentTask:
    """Distillation of one student: KD on the own branch, cross-entropy on the corrected logits.

    Args:
        student: to be trained.
        splits: its data; only train and validation are used.
        cache: the teacher's logits; None trains on labels alone.
        config: all parameters.
        snapshots: folder for the graph after each epoch; None keeps none.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        cache: TeacherCache | None,
        config: Config,
        device: torch.device,
        snapshots: Path | None = None,
    ) -> None:
        self.module = student
        self.size = len(splits.train)
        self.images = splits.train.images.to(device)
        self.labels = splits.train.labels.to(device)
        self.validation = splits.validation
        self.cache, self.config, self.snapshots = cache, config, snapshots
        self.bank: Bank | None = None
        self._bank_epoch = -1  # the epoch whose start the bank belongs to

    def begin_epoch(self, epoch: int) -> None:
        """Rebuild the bank from the present weights, once evidence has joined."""
        share = epoch / self.config.training.epochs
        if self.module.scope != "bank" or share < self.config.training.evidence_start:
            return
        if self._bank_epoch != epoch:
            self._rebuild(epoch)

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """KD(own) + CE(corrected); in scope `batch`, KD on both branches."""
        training = self.config.training
        view = epoch + 1 if self.cache is None else self.cache.view_of(epoch)
        images = augment(self.images[indices], indices, view, self.config.data.recipe)
        labels = self.labels[indices]
        out = model(images, self.bank, None if self.bank is None else indices)
        if self.cache is None:
            own, weight, teacher_logits = out.own_logits, 0.0, out.own_logits
        else:
            own, weight = out.own_logits, training.kd_weight
            teacher_logits = self.cache.logits(indices, view, images)

        def distillation(logits: Tensor, weight: float) -> Tensor:
            return response_kd(
                logits.float(),
                teacher_logits,
                labels,
                temperature=training.temperature,
                weight=weight,
            )

        loss = distillation(own, weight)
        if out.graph is None:
            return loss
        # the own branch learns from the teacher; what the bank adds are labels
        return loss + distillation(out.logits, weight if self.module.scope == "batch" else 0.0)

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracies in [0, 1]: `accuracy` with neighbours, `own_accuracy` alone.

        Neighbours come from the bank (protocol anchors), in scope `batch` from the batch.
        """
        assert isinstance(module, Student)
        own = alone(module, self.validation.images)
        labels = self.validation.labels.to(own.logits.device)
        logits = own.logits
        if module.scope == "batch":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            size = min(self.config.run.eval_batch_size, len(labels))
            logits = in_batches(module, own, None, order.to(labels.device), size)
        elif self.bank is not None:
            self._rebuild(epoch + 1)
            bank = self.bank
            if module is not self.module:  # averaged weights have a bank of their own
                bank = module.build_bank(self.images, self.labels)
            logits = anchors(module, own, bank).logits
        if module.scope == "batch" or self.bank is not None:
            self._save_snapshot(module, own, labels, epoch)
        return {
            "accuracy": accuracy(logits, labels),
            "own_accuracy": accuracy(own.logits, labels),
        }

    def _rebuild(self, epoch: int) -> None:
        self.bank = self.module.build_bank(self.images, self.labels)
        self._bank_epoch = epoch

    @torch.no_grad()
    def _save_snapshot(
        self, module: Student, own: StudentOutput, labels: Tensor, epoch: int
    ) -> None:
        """Keep the graph of some validation nodes, in scope `batch` among themselves."""
        if self.snapshots is None:
            return
        some = slice(0, SNAPSHOT_NODES)
        bank = self.bank if module is self.module else None
        if module.scope == "bank" and bank is None:
            bank = module.build_bank(self.images, self.labels)
        nodes = module.correct(own.own_logits[some], own.features[some], bank)
        assert nodes.graph is not None
        tensors = node_tensors(nodes, labels[some])
        among = labels[some] if bank is None else bank.labels
        tensors["neighbour_labels"] = among[nodes.graph.neighbours].cpu()
        save_tensors(self.snapshots / f"epoch-{epoch:03d}.safetensors", tensors)


@dataclass
class Session:
    """One run in progress: its data, its teacher and the teacher's cached logits."""

    run: Run
    fabric: Fabric
    splits: Splits
    teacher: Teacher
    cache: TeacherCache

    @classmethod
    def start(cls, config: Config) -> Session:
        """Load the data, obtain the teacher and fill its cache; the run is locked.

        Raises:
            ConfigError, RunLockedError, DataError: see `Run.create`, `Run.lock`, `data.load`.
        """
        run = Run.create(config)
        run.lock()
        settings = config.run
        fabric = make_fabric(
            settings.device, settings.devices, settings.num_nodes, settings.precision
        )
        splits = run.load_splits()
        teacher = obtain_teacher(config, splits, fabric)
        folder = teacher_folder(config, splits) / "cache"
        views = config.training.views
        cache = TeacherCache(teacher, splits.train, config.data.recipe, views, folder)
        return cls(run, fabric, splits, teacher, cache.build())

    def student(self) -> Student:
        """Return the distilled student, trained or loaded."""
        return self._obtain("student", self.run.config, self.cache)

    def baseline(self, name: str) -> Student:
        """Return a baseline, trained or loaded.

        Args:
            name: `stem_only` is the same stem and head with KD and without a graph, `undistilled`
                the graph student without a teacher.
        """
        config = self.run.config
        if name == "undistilled":
            return self._obtain(name, config, None)
        if name != "stem_only":
            raise ValueError(f"no baseline {name!r}; there are stem_only and undistilled")
        weight = config.training.stem_only_kd_weight
        if weight is not None:
            config = replace(config, training=replace(config.training, kd_weight=weight))
        config = replace(config, student=replace(config.student, graph="none"))
        return self._obtain(name, config, self.cache)

    def baselines(self) -> dict[str, Student]:
        """Return the baselines that the run asks for, by name."""
        names = [name for name in self.run.config.training.baselines.split(",") if name]
        return {name: self.baseline(name) for name in names}

    def finish(self, student: Student, baselines: dict[str, Student]) -> dict[str, Any]:
        """Evaluate on the test split, write `metrics.json`, the bank and the learned graph."""
        run, test = self.run, self.splits.test
        teacher_logits = in_chunks(self.teacher, test.images)
        bank = self._bank(student)
        figures, nodes = self._evaluated(student, bank)
        labels = test.labels.to(nodes.logits.device)
        batch_size = figures["batch"]["batch_size"]
        metrics = {
            "dataset": test.name,
            "seed": run.config.run.seed,
            "protocol": "test split, last epoch, nothing chosen on test",
            "images": {name: len(part) for name, part in vars(self.splits).items()},
            "teacher": {
                "name": self.teacher.name,
                "parameters": self.teacher.parameter_count,
                "accuracy": accuracy(teacher_logits, test.labels),
            },
            "student": {
                "name": run.config.student.stem,
                "parameters": student.parameter_count,
                "bank_megabytes": 0.0 if bank is None else bank.megabytes,
                "scope": student.scope,
                "accuracy": figures,
                "expected_calibration_error": expected_calibration_error(nodes.logits, labels),
                "images_per_second": throughput(student, test, bank, batch_size),
            },
            "baselines": {name: self._baseline_figures(b) for name, b in baselines.items()},
        }
        if bank is not None:
            bank.save(run.folder / "bank.safetensors")
        tensors = node_tensors(nodes, test.labels, teacher_logits)
        save_tensors(run.folder / "nodes.safetensors", tensors)
        write_json(run.folder / "metrics.json", metrics)
        return metrics

    def _baseline_figures(self, student: Student) -> dict[str, Any]:
        figures, _ = self._evaluated(student, self._bank(student))
        without_graph = student.scope == "none"
        return {
            "parameters": student.parameter_count,
            "accuracy": figures["alone"] if without_graph else figures,
        }

    def _evaluated(
        self, student: Student, bank: Bank | None
    ) -> tuple[dict[str, Any], StudentOutput]:
        run = self.run.config.run
        return evaluate(
            student,
            self.splits.test,
            bank,
            batch_size=run.eval_batch_size,
            repeats=run.eval_repeats,
            seed=run.seed,
        )

    def _bank(self, student: Student) -> Bank | None:
        if student.scope == "none":
            return None
        return student.build_bank(self.splits.train.images, self.splits.train.labels)

    def _obtain(self, stage: str, config: Config, cache: TeacherCache | None) -> Student:
        folder = self.run.folder if stage == "student" else self.run.folder / "baselines" / stage
        path = folder / "student.safetensors"
        if path.exists():
            return Student.load(path).to(self.fabric.device)
        student = self._new_student(config)
        snapshots = folder / "snapshots" if stage == "student" else None
        task = StudentTask(student, self.splits, cache, config, self.fabric.device, snapshots)
        checkpoints = folder / "checkpoint"
        log = EpochLog(self.run.folder, stage)
        trained = fit(task, recipe(config), self.fabric, checkpoints, log, title=stage)
        assert isinstance(trained, Student)
        if self.fabric.is_global_zero:
            trained.save(path)
            (checkpoints / CHECKPOINT).unlink(missing_ok=True)
        return trained

    def _new_student(self, config: Config) -> Student:
        train = self.splits.train
        mean, std = channel_statistics(train.images)
        torch.manual_seed(config.run.seed)
        return Student(
            config.student,
            channels=train.channels,
            size=train.size,
            classes=len(train.classes),
            mean=mean.tolist(),
            std=std.tolist(),
        )


def recipe(config: Config) -> Recipe:
    """Return the student's training recipe."""
    training = config.training
    names = ("epochs", "batch_size", "optimizer", "learning_rate", "weight_decay")
    names += ("gradient_clip", "ema")
    return Recipe(**{name: getattr(training, name) for name in names}, seed=config.run.seed)


def distil(config: Config) -> Run:
    """Run everything: teacher, student, baselines, evaluation. Returns the finished run."""
    session = Session.start(config)
    session.finish(session.student(), session.baselines())
    return session.run

"""Distillation: the student's task for the training loop, its baselines and its evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.bank import Bank
from cnn2gnn.cache import TeacherCache
from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits, augment, channel_statistics
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
from cnn2gnn.layers import gate_numbers
from cnn2gnn.losses import response_kd
from cnn2gnn.runs import EpochLog, Run
from cnn2gnn.student import Student, StudentOutput
from cnn2gnn.teacher import Teacher, accuracy, in_chunks, obtain_teacher, teacher_folder
from cnn2gnn.training import CHECKPOINT, Recipe, fit, make_fabric

SNAPSHOT_NODES = 1000  # validation images whose graph is kept after each epoch
SNAPSHOT_BANK = 5000  # training images among which they find neighbours


class StudentTask:
    """Distillation of one student: KD on the own branch, in scope `batch` on both branches.

    A bank student's neighbours are added afterwards, by `fit_gate`: trained through the corrected
    logits, its own branch was no better, and every epoch would pay for the search.

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

    def begin_epoch(self, epoch: int) -> None:
        """Nothing to prepare."""

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """KD on the images `indices` `(B,)`, in this epoch's view."""
        training = self.config.training
        view = epoch + 1 if self.cache is None else self.cache.view_of(epoch)
        images = augment(self.images[indices], indices, view, self.config.data.recipe)
        out = model(images)
        branches = [out.own_logits] if out.graph is None else [out.own_logits, out.logits]
        labels = self.labels[indices]
        if self.cache is None:
            losses = [F.cross_entropy(branch, labels) for branch in branches]
        else:
            losses = [
                response_kd(
                    branch.float(),
                    self.cache.logits(indices, view, images),
                    labels,
                    temperature=training.temperature,
                    weight=training.kd_weight,
                )
                for branch in branches
            ]
        return torch.stack(losses).sum()

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracies in [0, 1]: `own_accuracy` alone, `accuracy` as trained.

        The two differ in scope `batch`, where neighbours come from shuffled validation batches.
        """
        assert isinstance(module, Student)
        nodes = alone(module, self.validation.images)
        labels = self.validation.labels.to(nodes.logits.device)
        logits = nodes.logits
        if module.scope == "batch":
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            size = min(self.config.run.eval_batch_size, len(labels))
            logits = in_batches(module, nodes, None, order.to(labels.device), size)
        if self.snapshots is not None and module.scope != "none":
            self._save_snapshot(module, nodes, labels, self.snapshots, epoch)
        return {
            "accuracy": accuracy(logits, labels),
            "own_accuracy": accuracy(nodes.logits, labels),
        }

    @torch.no_grad()
    def _save_snapshot(
        self, module: Student, nodes: StudentOutput, labels: Tensor, folder: Path, epoch: int
    ) -> None:
        """Keep the graph of some validation nodes: against a small bank, or among themselves."""
        some = slice(0, SNAPSHOT_NODES)
        pixels = None if nodes.pixels is None else nodes.pixels[some]
        bank = None
        if module.scope == "bank":
            part = slice(0, SNAPSHOT_BANK)
            bank = module.build_bank(self.images[part], self.labels[part])
        seen = module.correct(nodes.own_logits[some], nodes.features[some], bank, pixels=pixels)
        assert seen.graph is not None
        among = labels[some] if bank is None else bank.labels
        tensors = node_tensors(seen, labels[some])
        tensors["neighbour_labels"] = among[seen.graph.neighbours].cpu()
        save_tensors(folder / f"epoch-{epoch:03d}.safetensors", tensors)


def fit_gate(student: Student, validation: ImageSet, bank: Bank, *, steps: int = 300) -> float:
    """Fit gate and scale c of a bank student to held-out images, all else fixed.

    Training images would teach the gate the wrong lesson: the own branch has seen them.

    Args:
        validation: images the student was not trained on.
        bank: of the training images.
        steps: full-batch steps of AdamW.

    Returns:
        The final cross-entropy.
    """
    with torch.no_grad():
        nodes = anchors(student, alone(student, validation.images), bank)
        assert nodes.graph is not None
        votes = bank.label_votes(nodes.graph.neighbours, nodes.graph.weights)  # (N, C)
        numbers = gate_numbers(nodes.own_logits, votes, nodes.graph)  # (N, 6)
        evidence = nodes.graph.aggregate(bank.residuals)  # (N, C)
    assert student.gate is not None and student.log_scale is not None
    labels = validation.labels.to(evidence.device)
    fitted = [*student.gate.parameters(), student.log_scale]
    optimizer = torch.optim.AdamW(fitted, lr=0.02, weight_decay=0.01)
    for _ in range(steps):
        loss = F.cross_entropy(
            student.combine(nodes.own_logits, student.gate(numbers), evidence), labels
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


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
        fabric = make_fabric(**config.run.hardware)
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
        without_graph = replace(config, student=replace(config.student, graph="none"))
        if weight is not None and weight != config.training.kd_weight:
            training = replace(config.training, kd_weight=weight)
            return self._obtain(name, replace(without_graph, training=training), self.cache)
        if config.student.scope == "bank":
            return self._own_branch(without_graph)
        return self._obtain(name, without_graph, self.cache)

    def _own_branch(self, config: Config) -> Student:
        """The bank student's own branch: bit for bit what training it without a graph gives."""
        shared = self._new_student(config)
        trained = self.student().state_dict()
        shared.load_state_dict({name: trained[name] for name in shared.state_dict()})
        return shared.to(self.fabric.device).eval()

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
            "images": {name: len(part) for name, part in self.splits._asdict().items()},
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
        bank = self._bank(trained)
        if bank is not None and trained.scope == "bank":
            fit_gate(trained, self.splits.validation, bank)
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
    return Recipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        gradient_clip=training.gradient_clip,
        ema=training.ema,
        seed=config.run.seed,
    )


def distil(config: Config) -> Run:
    """Run everything: teacher, student, baselines, evaluation. Returns the finished run."""
    session = Session.start(config)
    session.finish(session.student(), session.baselines())
    return session.run

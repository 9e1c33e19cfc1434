"""Students of a run: trained in two stages, or loaded where they have been."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cnn2gnn.base.files import load_state, load_tensors, sweep
from cnn2gnn.config import Config
from cnn2gnn.data import Splits, channel_statistics
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.features import StemFeatures
from cnn2gnn.distillation.first_stage import DISTILLED, FirstStage, is_shared
from cnn2gnn.distillation.graph_task import GraphTask
from cnn2gnn.distillation.joint_task import JointTask
from cnn2gnn.distillation.loop import CHECKPOINT, Recipe, Task, fit, place
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.graph import GraphLearner
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs import Run
from cnn2gnn.runs.epochs import GRAPH
from cnn2gnn.runs.loggers import epoch_log
from cnn2gnn.runs.trials import Loss

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FINISHED = "student.safetensors"
# Of the learning rate, for P: faster, keys fit the training images, and find worse neighbours.
KEYS_SHARE = 0.1


@dataclass
class Students:
    """Trains the students of one run."""

    run: Run
    fabric: Fabric
    splits: Splits
    _seen: StemFeatures | None = None  # what the last student's stem made of the images

    def obtain(
        self,
        stage: str,
        config: Config,
        cache: TeacherCache | None,
        distilled_as: str | None = None,
    ) -> Student:
        """Return a student that went through both stages.

        Args:
            stage: its name within the run.
            cache: the teacher's logits; None trains on labels alone.
            distilled_as: the student whose first stage it shares; None: it has its own.
        """
        path = self.run.stage_folder(stage) / FINISHED
        if not self._is_done(stage + GRAPH, path):
            first = self.run.stage_folder(distilled_as or stage) / DISTILLED
            self._distil(distilled_as or stage, config, cache, first)
            self._learn_graph(stage, config, cache, first, path)
        return self._load(path, config)

    def _distil(self, stage: str, config: Config, cache: TeacherCache | None, path: Path) -> None:
        """Train the first stage, or take it from a run that differs in the graph alone.

        What this run has made itself is handed to the others also when it was killed before it
        could do so, but not what other code or another machine has begun.
        """
        student = self._new(without_graph(config))
        if not is_shared(self.run):
            if not self._is_done(stage, path):
                self._train_first(stage, student, config, cache, path)
            self.fabric.barrier()
            return
        taught_by = None if cache is None else self.run.manifest["teacher"]
        shared = FirstStage(self.run, config, student, taught_by)
        rank_zero, checkpoint = self.fabric.is_global_zero, self._checkpoints(stage) / CHECKPOINT
        with shared.lock() if rank_zero else nullcontext():
            if rank_zero:
                sweep(shared.folder)
            self.fabric.barrier()  # rank 0 holds the lock
            done = self._is_done(stage, path)
            if not done and self.fabric.broadcast(shared.exists):
                if rank_zero:
                    shared.take(path, stage)
            elif not done:
                if rank_zero:
                    shared.begin(checkpoint)
                self._train_first(stage, student, config, cache, path)
            if rank_zero and not shared.exists and shared.began(checkpoint):
                shared.publish(path, stage)
        self.fabric.barrier()

    def _train_first(
        self, stage: str, student: Student, config: Config, cache: TeacherCache | None, path: Path
    ) -> None:
        device, loss = self.fabric.device, self._loss(config)
        task = StudentTask(student, self.splits, cache, config, loss, device)
        trained = self._fit(task, distillation_recipe(config), stage)
        assert isinstance(trained, Student)
        if self.fabric.is_global_zero:
            trained.save(path)
        self._done(stage)

    def _learn_graph(
        self, stage: str, config: Config, cache: TeacherCache | None, distilled: Path, path: Path
    ) -> None:
        student = place(self._new(config), self.fabric.device)
        # stem and base branch; what belongs to the graph begins as it was made
        weights, _ = load_tensors(distilled)
        load_state(student, student.state_dict() | weights, distilled)
        given = (student, self.splits, config, self.fabric.device, path.parent / "snapshots")
        task: GraphTask
        if config.training.stage_two == "joint":
            task = JointTask(*given, cache=cache, loss=self._loss(config))
        else:
            task = GraphTask(*given, self._seen_by(student))
            # the twin, which comes next, has the same stem
            again = stage == "student" and "twin" in self.run.config.training.baselines
            self._seen = task.features if again else None
        self._fit(task, graph_recipe(config), stage + GRAPH)
        if self.fabric.is_global_zero:
            task.learn_label_scale()
            student.save(path)
        self._done(stage + GRAPH)

    def _seen_by(self, student: Student) -> StemFeatures | None:
        """What the last student saw, if this one sees the same."""
        seen, self._seen = self._seen, None
        return seen if seen is not None and seen.are_of(student) else None

    def _fit(self, task: Task, recipe: Recipe, stage: str) -> nn.Module:
        log = epoch_log(self.run.folder, stage, self.run.folder, self.run.config.runtime.logger)
        return fit(task, recipe, self.fabric, self._checkpoints(stage), log, title=stage)

    def _done(self, stage: str) -> None:
        """Remember that a stage is done; its weights have been saved."""
        if self.fabric.is_global_zero:
            self.run.stage_done(stage)
            (self._checkpoints(stage) / CHECKPOINT).unlink(missing_ok=True)
        self.fabric.barrier()

    def _checkpoints(self, stage: str) -> Path:
        folder = self.run.stage_folder(stage.removesuffix(GRAPH))
        return folder / ("graph-checkpoint" if stage.endswith(GRAPH) else "checkpoint")

    def _is_done(self, stage: str, path: Path) -> bool:
        """Whether a stage's weights lie at `path` and the manifest says what made them.

        One that was killed between the two is finished again from its last checkpoint; one killed
        right after them has left that checkpoint.
        """
        done = path.exists() and stage in self.run.manifest["stages"]
        if done and self.fabric.is_global_zero:
            (self._checkpoints(stage) / CHECKPOINT).unlink(missing_ok=True)
        return bool(self.fabric.broadcast(done))  # all ranks do what rank 0 sees

    def _load(self, path: Path, config: Config) -> Student:
        return place(Student.load(path, *self._parts(config)), self.fabric.device)

    def _new(self, config: Config) -> Student:
        train = self.splits.train
        mean, std = channel_statistics(train.images)
        torch.manual_seed(config.runtime.seed)
        stem, learner = self._parts(config)
        return Student(
            config.student,
            channels=train.channels,
            size=train.size,
            classes=len(train.classes),
            mean=mean.tolist(),
            std=std.tolist(),
            stem=stem,
            learner=learner,
            modality=train.modality,
            codec=train.codec,
        )

    def _loss(self, config: Config) -> Loss:
        return self.run.own.loss or LOSSES[config.training.loss]

    def _parts(self, config: Config) -> tuple[nn.Module | None, GraphLearner | None]:
        """Stem and graph learner of the user's own, for a student of this configuration."""
        own = self.run.own
        return own.stem, None if config.student.graph == "none" else own.graph


def without_graph(config: Config) -> Config:
    """Return the configuration of the student that has no graph."""
    return replace(config, student=replace(config.student, graph="none"))


def distillation_recipe(config: Config) -> Recipe:
    """Return how stem and base branch are trained."""
    training = config.training
    return Recipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        gradient_clip=training.gradient_clip,
        ema=training.ema,
        seed=config.runtime.seed,
    )


def graph_recipe(config: Config) -> Recipe:
    """Return how the graph network is trained."""
    training = config.training
    # of the network alone, or of the student around it, whose stem may have a `project` as well
    keys = "network.project.weight" if training.stage_two == "joint" else "project.weight"
    return Recipe(
        epochs=training.graph_epochs,
        batch_size=training.graph_batch_size,
        optimizer="adamw",
        learning_rate=training.graph_learning_rate,
        weight_decay=training.weight_decay,
        gradient_clip=training.gradient_clip,
        seed=config.runtime.seed,
        shares={keys: KEYS_SHARE},
    )

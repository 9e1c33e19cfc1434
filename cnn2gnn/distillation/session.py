"""Distillation from data to results: teacher, student, baselines, evaluation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnn2gnn.base.files import save_tensors, write_json
from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.fitting import fitting
from cnn2gnn.distillation.loop import place
from cnn2gnn.distillation.processes import start
from cnn2gnn.distillation.students import Students, without_graph
from cnn2gnn.distillation.teacher import obtain_teacher
from cnn2gnn.evaluation.cost import throughput
from cnn2gnn.evaluation.metrics import accuracy, expected_calibration_error
from cnn2gnn.evaluation.protocols import evaluate, node_tensors
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput
from cnn2gnn.models.teacher import Teacher, in_chunks
from cnn2gnn.registry import DATASETS
from cnn2gnn.runs import Run, load_splits
from cnn2gnn.runs.environment import measured
from cnn2gnn.runs.loggers import run_ended
from cnn2gnn.runs.manifest import measured_with
from cnn2gnn.runs.own import Own
from cnn2gnn.runs.results import belonging
from cnn2gnn.runs.teachers import teacher_folder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

log = logging.getLogger(__name__)


@dataclass
class Session:
    """One run in progress: its data, its teacher and the teacher's cached logits."""

    run: Run
    fabric: Fabric
    splits: Splits
    teacher: Teacher
    cache: TeacherCache

    @classmethod
    def start(cls, config: Config, own: Own | None = None) -> Session:
        """Load the data, obtain the teacher and fill its cache; the run is locked.

        Args:
            own: objects in place of what the configuration names.

        Raises:
            ConfigError, RunLockedError, DataError: see `Run.create`, `Run.lock`, `data.load`.
            ValueError: your teacher, stem or loss does not fit the data.
        """
        own = own or Own()
        handed_over = bool(own)  # not a teacher that comes with the data: others find it there
        splits = own.data or load_splits(config.data)  # first: what is refused leaves no run behind
        own = fitting(config, own, splits)
        run = Run.create(config, splits, own)
        run.unlock()  # held since a cell was run before; processes that a notebook starts need it
        fabric = start(config, None if handed_over else "students")
        if fabric.is_global_zero:
            run.lock()
            _tell_augmentation(config.data.augmentation, splits.train)
        precision = run.manifest["hardware"]["precision"]
        if own.teacher is None:
            teacher = obtain_teacher(config, splits, fabric)
            folder = teacher_folder(config, splits)
        else:
            teacher = place(own.teacher, fabric.device).eval()
            kind = f"own-{teacher.fingerprint()}-{precision}"
            folder = Path(config.runtime.runs_dir, "teachers", kind)
        if fabric.is_global_zero:
            run.bind_teacher(teacher.fingerprint())
        views = config.training.views
        augmentation = splits.train.augmentation_for(config.data.augmentation)
        cache = TeacherCache(
            teacher, splits.train, augmentation, views, folder / "cache", precision
        )
        with fabric.rank_zero_first():
            cache.build()
        return cls(run, fabric, splits, teacher, cache)

    @cached_property
    def _students(self) -> Students:
        return Students(self.run, self.fabric, self.splits)

    def student(self) -> Student:
        """Return the student, trained or loaded."""
        return self._students.obtain("student", self.run.config, self.cache)

    def baseline(self, name: str) -> Student:
        """Return a baseline, trained or loaded.

        Args:
            name: `twin` is the same stem and base branch, trained as long from the same stage
                one, without a graph; `undistilled` the graph student without a teacher.
        """
        config = self.run.config
        if name == "undistilled":
            return self._students.obtain(name, config, None)
        if name != "twin":
            raise ValueError(f"no baseline {name!r}; there are twin and undistilled")
        weight = config.training.twin_kd_weight
        twin = without_graph(config)
        if weight is not None and weight != config.training.kd_weight:
            twin = replace(twin, training=replace(twin.training, kd_weight=weight))
            return self._students.obtain(name, twin, self.cache)
        # the first stage knows no graph: the twin's is the student's
        self.student()
        return self._students.obtain(name, twin, self.cache, distilled_as="student")

    def baselines(self) -> dict[str, Student]:
        """Return the baselines that the run asks for, by name."""
        names = [name for name in self.run.config.training.baselines.split(",") if name]
        return {name: self.baseline(name) for name in names}

    def finish(self, student: Student, baselines: dict[str, Student]) -> dict[str, Any]:
        """Evaluate on the test split, write `metrics.json`, the bank and the learned graph.

        Rank 0 does, alone: others beside it would be in the way of its timing.
        """
        metrics = self._finish(student, baselines) if self.fabric.is_global_zero else {}
        return self.fabric.broadcast(metrics)

    def _finish(self, student: Student, baselines: dict[str, Student]) -> dict[str, Any]:
        run, test = self.run, self.splits.test
        teacher_logits = in_chunks(self.teacher, test.images)
        bank = self._bank(student)
        accuracies, nodes = self._evaluated(student, bank)
        compared = {
            name: self._evaluated(model, self._bank(model)) for name, model in baselines.items()
        }
        labels = test.labels.to(nodes.logits.device)
        batch_size = accuracies["batch"]["batch_size"]
        metrics = {
            "dataset": test.name,
            "measured": measured(self.fabric.device.type),
            "seed": run.config.runtime.seed,
            "protocol": "test split, last epoch, nothing chosen on test",
            "images": {name: len(part) for name, part in self.splits._asdict().items()},
            "teacher": {
                "name": self.teacher.name,
                "parameters": self.teacher.parameter_count,
                "accuracy": accuracy(teacher_logits, test.labels),
            },
            "student": {
                "name": student.stem_name,
                "parameters": student.parameter_count,
                "bank_megabytes": 0.0 if bank is None else bank.megabytes,
                "scope": student.scope,
                "accuracy": accuracies,
                "expected_calibration_error": expected_calibration_error(nodes.logits, labels),
                "images_per_second": throughput(student, test, bank, batch_size),
            },
            "baselines": {
                name: _baseline_metrics(baselines[name], found)
                for name, (found, _) in compared.items()
            },
        }
        if bank is not None:
            bank.save(run.folder / "bank.safetensors")
        tensors = node_tensors(nodes, test.labels, teacher_logits)
        tensors |= {f"{name}_logits": said.logits.cpu() for name, (_, said) in compared.items()}
        save_tensors(run.folder / "nodes.safetensors", tensors)
        metrics |= {"files": belonging(run.folder), "made_from": measured_with(run.manifest)}
        write_json(run.folder / "metrics.json", metrics)
        run.stage_done("evaluation")
        run_ended(run.folder, run.config.runtime.logger)
        return metrics

    def _evaluated(
        self, student: Student, bank: Bank | None
    ) -> tuple[dict[str, Any], StudentOutput]:
        run = self.run.config.runtime
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
        return student.bank(self.splits.train.images, self.splits.train.labels)


def _tell_augmentation(augmentation: str, images: ImageSet) -> None:
    """Tell what auto has become, where the images are the user's own: nobody has tried it there."""
    if augmentation == "auto" and images.name not in DATASETS:
        log.warning(
            "%s: augmentation=auto is %s", images.name, images.augmentation_for(augmentation)
        )


def _baseline_metrics(student: Student, accuracies: dict[str, Any]) -> dict[str, Any]:
    has_graph = student.scope != "none"
    return {
        "parameters": student.parameter_count,
        "accuracy": accuracies if has_graph else accuracies["no_graph"],
    }

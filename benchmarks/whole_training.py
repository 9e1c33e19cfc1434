"""Whole trainings beside torchdistill's: are the accuracies the same, and how many views do it?

On real images: the student of `distillation.py` learns from one teacher, by torchdistill (the
teacher answers in every step, each epoch sees new crops) and by ours with V views, whose answers
are cached; with labels alone, too. Same images, epochs, batches, optimiser, one-cycle and
initial weights, for several seeds. Accuracy is that of the test images after the last epoch;
seconds are whole: ours fill the cache anew for each training.

    python benchmarks/whole_training.py --dataset cifar10 --train-images 5000
                                                                  (pip install '.[bench]')
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev

import torch
from distillation import configuration, new_student
from peers import TorchDistill
from side_by_side import Times, keep, ratios, spread

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.loop import fit
from cnn2gnn.distillation.losses import response_kd
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.distillation.students import distillation_recipe
from cnn2gnn.distillation.teacher import obtain_teacher
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher, in_chunks
from cnn2gnn.runs import load_splits
from cnn2gnn.runs.hardware import resolve_precision

THEIRS, LABELS = "torchdistill", "ours on labels alone"


def by_torchdistill(config: Config, splits: Splits, teacher: Teacher) -> Student:
    """Train a student by torchdistill, on the schedule of our loop."""
    student = new_student(config, splits.train)
    epochs = config.training.epochs
    torch.manual_seed(config.runtime.seed)
    box = TorchDistill(student, teacher, splits.train, epochs)
    for epoch in range(epochs):
        box.epoch(epoch)
    return student


def by_us(config: Config, splits: Splits, teacher: Teacher | None, views: int = 1) -> Student:
    """Train a student as a run's first stage is; a teacher's answers to views are cached anew."""
    fabric = make_fabric("cpu", 1, 1, "auto")
    config = replace(config, training=replace(config.training, views=views))
    student = new_student(config, splits.train)
    with tempfile.TemporaryDirectory() as folder:
        cache = None
        if teacher is not None:
            precision = resolve_precision("cpu")
            cache = TeacherCache(
                teacher, splits.train, "crop-flip", views, Path(folder, "cache"), precision
            ).build()
        task = StudentTask(student, splits, cache, config, response_kd, fabric.device)
        fit(task, distillation_recipe(config), fabric, Path(folder), lambda row: None)
    return student


def measure(base: Config, views: list[int], seeds: int) -> tuple[dict[str, list[float]], Times]:
    """Test accuracies in percent, and seconds, by way; a value a seed."""
    splits = load_splits(base.data)
    fabric = make_fabric("cpu", 1, 1, "auto")
    teacher = obtain_teacher(base, splits, fabric)
    theirs = copy.deepcopy(teacher).to(memory_format=torch.contiguous_format)
    accuracies: dict[str, list[float]] = {}
    times: Times = {}
    told = accuracy(in_chunks(teacher, splits.test.images), splits.test.labels)
    accuracies["the teacher"], times["the teacher"] = [100 * told], []
    for seed in range(seeds):
        ways: dict[str, Callable[[Config], Student]] = {
            THEIRS: lambda c: by_torchdistill(c, splits, theirs),
            LABELS: partial(by_us, splits=splits, teacher=None),
        }
        ways |= {
            f"ours, {view} views": partial(by_us, splits=splits, teacher=teacher, views=view)
            for view in views
        }
        config = replace(base, runtime=replace(base.runtime, seed=seed))
        for way, train in ways.items():
            began = time.perf_counter()
            student = train(config)
            taken = time.perf_counter() - began
            accuracies.setdefault(way, []).append(on_test(student, splits))
            times.setdefault(way, []).append(taken)
            print(f"{seed} {way}: {accuracies[way][-1]:.2f} %, {taken:.0f} s", flush=True)
    return accuracies, times


@torch.no_grad()
def on_test(student: Student, splits: Splits) -> float:
    """Accuracy on the test images in percent, without a graph."""
    logits = student.eval().network.base(student.features(splits.test.images))
    return 100 * accuracy(logits, splits.test.labels)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--image-size", type=int, default=32, help="side in pixels")
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--epochs", type=int, default=10, help="of teacher and students")
    parser.add_argument("--views", type=int, nargs="+", default=[1, 2, 6, 10])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        base = configuration(
            options.teacher,
            dataset=options.dataset,
            image_size=options.image_size,
            train_images=options.train_images,
            teacher_epochs=options.epochs,
            epochs=options.epochs,
            runs_dir=folder,
        )
        accuracies, times = measure(base, options.views, options.seeds)
    ours = f"ours, {options.views[-1]} views"
    rows = []
    for way, found in accuracies.items():
        taken = times[way]
        told = f"{mean(found):.2f}" + (f" ± {stdev(found):.2f}" if len(found) > 1 else "")
        beside = ratios(times, way, ours) if taken else []
        rows.append([way, told, *(spread(each) if each else "" for each in (taken, beside))])
    keep(
        "whole_training",
        f"Whole trainings: {options.train_images:,} images of {options.dataset} at "
        f"{options.image_size} px, {options.epochs} epochs, teacher {options.teacher}, "
        f"{options.seeds} seeds",
        ["way", "test accuracy, %", "seconds", f"times those of {options.views[-1]} views"],
        rows,
        "Mean ± standard deviation over the seeds; seconds with the filling of the cache. As many "
        "views as epochs: each epoch sees new crops, as torchdistill's does. The small teacher "
        "costs little here; an epoch beside larger ones is measured above.",
    )


if __name__ == "__main__":
    main()

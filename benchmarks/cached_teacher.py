"""One distillation epoch with cached teacher logits beside one with the teacher in every step.

Student conv-small, teacher ResNet-18 (small-image stem), 32 x 32 RGB noise in 100 classes: the
time depends neither on what the images show nor on what the teacher has learned, so its weights
are untrained. The epochs alternate, so that other load meets both alike; CPU seconds are shown
beside the wall clock's, for they hardly feel it. Building the cache is timed by itself: it costs
one pass of the teacher per view, whatever the number of epochs.

    python benchmarks/cached_teacher.py [--images 1024] [--repeats 3]     (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.loop import fit
from cnn2gnn.distillation.losses import response_kd
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.distillation.students import distillation_recipe
from cnn2gnn.distillation.teacher import new_teacher
from cnn2gnn.models.student import Student

CLASSES = 100
TARGET = 5.0  # times faster with the cache
CONFIG = Config.from_parameters(
    teacher="resnet18", stem="conv-small", epochs=1, augmentation="crop-flip", device="cpu"
)


def noise(count: int, seed: int) -> ImageSet:
    """`count` random images, 32 x 32 RGB."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return ImageSet(pixels, labels, tuple(map(str, range(CLASSES))), "noise")


class Seconds(NamedTuple):
    """How long something took."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Seconds:
    """Do `work` once."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def train_epoch(cache: TeacherCache, splits: Splits, fabric: Fabric) -> None:
    """Train a fresh student for one epoch, with validation and checkpoint as in a run."""
    torch.manual_seed(0)
    student = Student(
        CONFIG.student, channels=3, size=32, classes=CLASSES, mean=[0.5] * 3, std=[0.3] * 3
    )
    task = StudentTask(student, splits, cache, CONFIG, response_kd, fabric.device)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, distillation_recipe(CONFIG), fabric, Path(folder), lambda row: None)


def report(cached: list[Seconds], online: list[Seconds], building: Seconds, clock: str) -> float:
    """Print the figures of one clock, "wall" or "cpu"; returns the median ratio."""
    building_s: float = getattr(building, clock)
    cached_s, online_s = ([getattr(s, clock) for s in column] for column in (cached, online))
    ratios = [slow / fast for fast, slow in zip(cached_s, online_s, strict=True)]
    print(f"{clock} seconds")
    print(f"  building the cache  {building_s:6.2f} a view, once per teacher and data set")
    for name, column in (("epoch, cached", cached_s), ("epoch, online", online_s)):
        print(f"  {name}       {median(column):6.2f} ({min(column):.2f} to {max(column):.2f})")
    print(f"  online / cached     {median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    views, epochs = Config().training.views, Config().training.epochs  # the defaults
    gain = epochs * median(online_s) / (views * building_s + epochs * median(cached_s))
    print(f"  {epochs} epochs, building {views} views included: {gain:.1f} times faster")
    return median(ratios)


def main() -> int:
    """Measure and print; 0 if the target is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024, help="training images")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each kind")
    arguments = parser.parse_args()

    fabric = make_fabric("cpu", 1, 1, "auto")
    splits = Splits(noise(arguments.images, 0), noise(100, 1), noise(1, 2))
    teacher = new_teacher(CONFIG, splits.train).eval()
    teacher.to(memory_format=torch.channels_last)
    print(
        f"{arguments.images:,} images, {torch.get_num_threads()} threads, "
        f"precision {fabric._precision.precision}, teacher {teacher.name} (untrained), "
        f"student {CONFIG.student.stem}"
    )
    with tempfile.TemporaryDirectory() as folder:

        def cache_of(views: int) -> TeacherCache:
            return TeacherCache(
                teacher, splits.train, CONFIG.data.augmentation, views, Path(folder)
            )

        cached, online = cache_of(1), cache_of(0)  # 0: the teacher is asked in every step
        train_epoch(online, splits, fabric)  # warm-up: first calls allocate and compile
        building = timed(cached.build)
        pairs = [
            (
                timed(lambda: train_epoch(cached, splits, fabric)),
                timed(lambda: train_epoch(online, splits, fabric)),
            )
            for _ in range(arguments.repeats)
        ]
    with_cache, without = [fast for fast, _ in pairs], [slow for _, slow in pairs]
    ratio = report(with_cache, without, building, "wall")
    report(with_cache, without, building, "cpu")
    verdict = "met" if ratio >= TARGET else "MISSED"
    print(f"target {verdict}: an epoch at least {TARGET:.0f} times faster by the wall clock")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())

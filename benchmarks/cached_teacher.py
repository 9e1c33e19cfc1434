"""One distillation epoch with cached teacher logits beside one with the teacher in every step.

Student conv-small, teacher ResNet-18 (small-image stem), 32 x 32 RGB noise in 100 classes: the
time depends neither on what the images show nor on what the teacher has learned, so its weights
are untrained. The epochs alternate, so that other load meets both alike. Building the cache is
timed by itself: it costs one pass of the teacher per view, whatever the number of epochs.

    python benchmarks/cached_teacher.py [--images 1024] [--repeats 3]     (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning_fabric import Fabric

from cnn2gnn.cache import TeacherCache
from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distil import StudentTask, recipe
from cnn2gnn.student import Student
from cnn2gnn.teacher import Teacher, new_teacher
from cnn2gnn.training import fit, make_fabric

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


def epoch_seconds(cache: TeacherCache, splits: Splits, fabric: Fabric) -> float:
    """Train a fresh student for one epoch, with validation and checkpoint as in a run."""
    torch.manual_seed(0)
    student = Student(
        CONFIG.student, channels=3, size=32, classes=CLASSES, mean=[0.5] * 3, std=[0.3] * 3
    )
    task = StudentTask(student, splits, cache, CONFIG, fabric.device)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(task, recipe(CONFIG), fabric, Path(folder), rows.append)
    return rows[0]["seconds"]


def built(teacher: Teacher, splits: Splits, views: int, folder: str) -> TeacherCache:
    """The cache of `views` views; 0 asks the teacher in every step."""
    return TeacherCache(teacher, splits.train, CONFIG.data.recipe, views, Path(folder)).build()


def main() -> int:
    """Print epochs, their ratio and its spread; 0 if the target is met."""
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
        began = time.perf_counter()
        cached = built(teacher, splits, 1, folder)
        building_s = time.perf_counter() - began
        online = built(teacher, splits, 0, folder)
        epoch_seconds(cached, splits, fabric)  # warm-up: the first step allocates
        pairs = [
            (epoch_seconds(cached, splits, fabric), epoch_seconds(online, splits, fabric))
            for _ in range(arguments.repeats)
        ]
    ratios = [online_s / cached_s for cached_s, online_s in pairs]
    print(f"building the cache  {building_s:7.2f} s a view, once per teacher and data set")
    for name, seconds in zip(("cached", "online"), zip(*pairs, strict=True), strict=True):
        low, high = min(seconds), max(seconds)
        print(f"epoch, {name}       {median(seconds):7.2f} s  ({low:.2f} to {high:.2f})")
    ratio, low, high = median(ratios), min(ratios), max(ratios)
    print(f"online / cached     {ratio:7.1f}    ({low:.1f} to {high:.1f})  target >= {TARGET:.0f}")
    views, epochs = Config().training.views, Config().training.epochs  # the defaults
    cached_s, online_s = (median(column) for column in zip(*pairs, strict=True))
    whole_s = views * building_s + epochs * cached_s
    print(
        f"whole training, {epochs} epochs on {views} views, building included: "
        f"{epochs * online_s / whole_s:.1f} times faster"
    )
    print("target met" if ratio >= TARGET else "target MISSED")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())

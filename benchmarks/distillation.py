"""An epoch of distillation: torchdistill, a plain loop with the teacher in it, and ours.

Same teacher and student (conv-small), same images, batches of 128, crop and flip, SGD, loss
`0.5·CE + 0.5·T²·KL`, T = 4. Peers get the images as their CIFAR examples do: PIL images through
torchvision's transforms in a `DataLoader`. Between the plain loop and ours, one factor is changed
after the other. Images are noise and the teacher is untrained: times depend on neither.

    python benchmarks/distillation.py [--images 1024] [--rounds 3]   (pip install '.[bench]')
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from peers import TorchDistill, loader, plain_epoch
from side_by_side import in_turns, keep, ratios, seconds, spread

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits, channel_statistics
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.loop import fit, place
from cnn2gnn.distillation.losses import response_kd
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.distillation.students import distillation_recipe
from cnn2gnn.distillation.teacher import new_teacher
from cnn2gnn.evaluation.cost import multiply_adds
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs.hardware import resolve_precision

CLASSES, EPOCHS = 100, 30
OURS = "ours: and the teacher's answers cached"
WHOLE = "a whole training of 30 epochs"


def configuration(teacher: str, **more: object) -> Config:
    """With torchdistill's optimiser, on the CPU; one epoch, if no more is said."""
    parameters = dict(
        teacher=teacher,
        stem="conv-small",
        epochs=1,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=5e-4,
        gradient_clip=0.0,
        augmentation="crop-flip",
        device="cpu",
    )
    return Config.from_parameters(parameters | more)


def noise(count: int, seed: int) -> ImageSet:
    """`count` random images, 32 x 32 RGB."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return ImageSet(pixels, labels, tuple(map(str, range(CLASSES))), "noise")


def new_student(config: Config, images: ImageSet) -> Student:
    """A fresh student of such images, by the seed of the run."""
    torch.manual_seed(config.runtime.seed)
    mean, std = channel_statistics(images.images)
    return Student(
        config.student,
        channels=images.channels,
        size=images.size,
        classes=len(images.classes),
        mean=mean.tolist(),
        std=std.tolist(),
    )


def our_epoch(config: Config, splits: Splits, cache: TeacherCache | None) -> None:
    """Train a fresh student for one epoch, checkpoint included."""
    fabric = make_fabric("cpu", 1, 1, "auto")
    student = new_student(config, splits.train)
    task = StudentTask(student, splits, cache, config, response_kd, fabric.device)
    with tempfile.TemporaryDirectory() as folder:
        fit(task, distillation_recipe(config), fabric, Path(folder), lambda row: None)


def bound(config: Config, teacher: Teacher) -> str:
    """How many times a student's step costs, in multiply-adds, with the teacher's answer in it.

    Forward and backward are three times forward. More than this no cache can save, unless other
    things are done better, too.
    """
    image = noise(1, 0)
    student = new_student(config, image).eval()
    once, often = (multiply_adds(model, image.images) for model in (teacher, student))
    return spread([(once + 3 * often) / (3 * often)])


def measure(name: str, images: int, rounds: int, views: int) -> list[list[str]]:
    """Rows of the table for one teacher."""
    config = configuration(name)
    splits = Splits(noise(images, 0), noise(1, 1), noise(1, 2))
    teacher = new_teacher(config, splits.train).eval().requires_grad_(False)
    theirs, teacher = teacher, place(copy.deepcopy(teacher), torch.device("cpu"))
    precision = resolve_precision("cpu")

    def cache_of(folder: str, views: int) -> TeacherCache:
        where = Path(folder)
        return TeacherCache(teacher, splits.train, "crop-flip", views, where, precision)

    def plain(**options: bool) -> Callable[[], None]:
        return lambda: plain_epoch(
            new_student(config, splits.train), theirs, loader(splits.train), **options
        )

    with tempfile.TemporaryDirectory() as folder:
        cached, online = cache_of(folder, 1), cache_of(folder, 0)
        box = TorchDistill(new_student(config, splits.train), theirs, splits.train)
        ways = {
            "torchdistill": box.epoch,
            "plain loop": plain(),
            "plain loop, channels-last": plain(channels_last=True),
        }
        if precision != "32-true":
            ways[f"the same in {precision}"] = plain(channels_last=True, mixed=True)
        ways |= {
            "ours, with the teacher in every step: no Python per image": lambda: our_epoch(
                config, splits, online
            ),
            OURS: lambda: our_epoch(config, splits, cached),
            "the same on labels alone": lambda: our_epoch(config, splits, None),
        }
        cached.build()
        times = in_turns(ways, rounds)
        filling = seconds(lambda: cache_of(f"{folder}/anew", 1).build())
    rows = [[name, way, spread(t), spread(ratios(times, way, OURS))] for way, t in times.items()]
    rows.append([name, "by multiply-adds, teacher once", "", bound(config, teacher)])
    rows.append([name, "filling the cache, a view", spread([filling]), ""])
    for count in (views, 2):
        whole = count * filling + EPOCHS * median(times[OURS])
        for peer in ("torchdistill", "plain loop"):
            factor = EPOCHS * median(times[peer]) / whole
            text = f"{peer}, {WHOLE}, {count} views filled"
            rows.append([name, text, "", spread([factor])])
    return rows


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=1024, help="training images")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--teachers", nargs="+", default=["resnet18", "resnet56"])
    options = parser.parse_args()
    logging.disable(logging.INFO)
    views = Config().training.views
    rows: list[list[str]] = []
    for teacher in options.teachers:
        rows += measure(teacher, options.images, options.rounds, views)
    keep(
        "distillation",
        f"Distillation, {options.images:,} images of 32 x 32",
        ["teacher", "way", "seconds an epoch", "times ours"],
        rows,
        f"Ours run in {resolve_precision('cpu')}, peers, where nothing is said, in 32-true. "
        "`by multiply-adds`: the teacher forward and the student forward and backward (three times "
        "forward), against the student alone: what a cache can save, if nothing else differs. A "
        "whole training is computed from the epoch and the view.",
    )


if __name__ == "__main__":
    main()

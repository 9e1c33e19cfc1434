"""A prediction by the student, with a bank of 50,000 images, beside ResNets.

Images of 32 x 32 in 100 classes, k = 20, one at a time and 100 at once. Weights and images are
random: only sizes matter here. `search` is the time in which the neighbours are found, alone.
Compiling a stem needs a compiler of C++.

    python benchmarks/inference.py [--bank 50000] [--rounds 20]      (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import torch
from side_by_side import against, in_turns, keep

from cnn2gnn.config import StudentConfig
from cnn2gnn.distillation.loop import place
from cnn2gnn.evaluation.cost import multiply_adds
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher

SIZE, CLASSES = 32, 100
CPU = torch.device("cpu")
OURS = "student with its graph"


def pixels(count: int) -> torch.Tensor:
    """Random uint8 images `(count, 3, S, S)`."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)


def resnet(name: str) -> Teacher:
    """An untrained ResNet for small images."""
    teacher = Teacher.build(
        name, channels=3, size=SIZE, classes=CLASSES, mean=[0.5] * 3, std=[0.25] * 3, weights=None
    )
    return place(teacher.eval().requires_grad_(False), CPU)


@torch.inference_mode()
def measure(stem: str, bank_size: int, rounds: int) -> list[list[str]]:
    """Rows of the table: for single images, then for 100 at once."""
    torch.manual_seed(0)
    student = Student(
        StudentConfig(stem=stem),
        channels=3, size=SIZE, classes=CLASSES, mean=[0.5] * 3, std=[0.25] * 3,
    )  # fmt: skip
    student = place(student.eval().requires_grad_(False), CPU)
    # features that differ as those of images do; the stem's own, untrained, hardly would
    features = torch.randn(bank_size, student.network.layer1.in_features)
    labels = torch.arange(bank_size) % CLASSES
    student.network.start_keys(features, labels)
    bank = student.network.settled(student.network.bank(features, labels))
    compiled = copy.deepcopy(student)
    compiled.stem = torch.compile(compiled.stem)
    networks = {name: resnet(name) for name in ("resnet18", "resnet50", "resnet152")}
    rows = []
    for count in (1, 100):
        images = pixels(count)
        queries = student.features(images)
        ways = {
            OURS: partial(student, images, bank),
            "the same, without": partial(student, images),
            "with its stem compiled": partial(compiled, images, bank),
            "search": partial(student.network.find_graph, queries, bank),
        }
        ways |= {
            name: partial(network, images)
            for name, network in networks.items()
            if stem == "conv-small"  # beside one of the students
        }
        times = in_turns(ways, rounds if count == 1 else 3)
        rows += [[stem, str(count), *row] for row in against(times, OURS, unit=1e-3)]
    image = pixels(1)
    for name, model in {"student": student, **networks}.items():
        cost = multiply_adds(model, image) / 1e6
        rows.append([stem, "", f"{name}: million multiply-adds", f"{cost:.0f}", ""])
    return rows


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bank", type=int, default=50_000, help="images in the bank")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    rows = [
        row
        for stem in ("conv-small", "conv-base")
        for row in measure(stem, options.bank, options.rounds)
    ]
    keep(
        "inference",
        f"Prediction, {SIZE} x {SIZE}, a bank of {options.bank:,}",
        ["stem", "images at once", "way", "milliseconds", "times ours"],
        rows,
    )


if __name__ == "__main__":
    main()

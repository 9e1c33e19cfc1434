"""How long the explorer takes to answer: 10,000 test nodes, a bank of 40,000, k = 20.

Each interaction goes through the widgets, as a click does, up to the last change that is sent to
the browser; what the browser draws is not in it. Images, features and weights are random: only
sizes matter here.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.evaluation.protocols import inductive
from cnn2gnn.explore import Explorer
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run

LIMIT_SECONDS = 0.3


def images(count: int, classes: int, generator: torch.Generator) -> ImageSet:
    """Random images of 3x32x32 and random labels."""
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return ImageSet(pixels, labels, tuple(f"class {i}" for i in range(classes)), "random")


def random_nodes(test: int, bank: int, classes: int, folder: str) -> RunNodes:
    """Nodes of an untrained student on features that cluster by class."""
    generator = torch.Generator().manual_seed(0)
    splits = Splits(
        images(bank, classes, generator),
        images(10, classes, generator),
        images(test, classes, generator),
    )
    run = Run.create(Config.from_parameters({"run": "latency", "runs_dir": folder}), splits)
    student = Student(
        run.config.student, channels=3, size=32, classes=classes, mean=[0.5] * 3, std=[0.25] * 3
    )
    student = student.eval().requires_grad_(False)
    network, d = student.network, student.network.layer1.in_features
    centres = 0.5 * torch.randn(classes, d, generator=generator)
    features = {
        part: centres[split.labels] + torch.randn(len(split), d, generator=generator)
        for part, split in ((TEST, splits.test), (BANK, splits.train))
    }
    network.start_keys(features[BANK])
    kept = network.bank(features[BANK], splits.train.labels)
    out = inductive(student, network(features[TEST]), kept)
    assert out.graph is not None and out.gate is not None
    return RunNodes(
        run=run,
        student=student,
        bank=kept,
        splits=splits,
        labels={TEST: splits.test.labels, BANK: splits.train.labels},
        keys={part: network.keys(values) for part, values in features.items()},
        base_logits={part: network.base(values) for part, values in features.items()},
        features=features[TEST],
        logits=out.logits,
        gate=out.gate,
        graph=out.graph,
        teacher_logits=torch.randn(test, classes, generator=generator),
    )


def interactions(explorer: Explorer) -> dict[str, Callable[[int], object]]:
    """Ten things a person does; each is given the number of the repetition."""
    state, count = explorer.state, len(explorer.state.nodes)
    strip, what_if, listed = explorer.node.strip, explorer.what_if.controls, explorer.list.controls
    chosen = np.random.default_rng(0).permutation(count)

    def lasso(step: int) -> None:
        explorer.map.widget.selection = chosen[1000 * (step % 9) :][:1000].astype(np.uint32)

    def again(name: str, *values: object) -> Callable[[int], None]:
        return lambda step: setattr(what_if[name], "value", values[step % len(values)])

    def act(kind: str) -> Callable[[int], None]:
        return lambda step: setattr(
            strip, "action", {"kind": kind, "position": 0, "on": step % 2 == 0, "count": step}
        )

    def cell(step: int) -> None:
        explorer.matrix.matrix.cell = [step % 10, (step + 1) % 10]

    def click(step: int) -> None:
        explorer.map.widget.selection = chosen[step : step + 1].astype(np.uint32)

    return {
        "click a point": click,
        "switch an edge off or on": act("switch"),
        "change k": again("k", 10, 30),
        "predict in a batch": again("protocol", "batch", "inductive"),
        "half the bank": again("bank_share", 0.5, 1.0),
        "walk to a neighbour": act("walk"),
        "lasso 1,000 nodes": lasso,
        "list the edges of a cell": cell,
        "filter and sort": lambda step: setattr(
            listed["sort"], "value", ("mistakes", "confidence", "disagreement")[step % 3]
        ),
        "two-hop ego graph": lambda step: (state.select(int(chosen[step])), explorer.ego.refresh()),
    }


def main() -> None:
    """Print median and worst of every interaction, and of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--bank", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        nodes = random_nodes(options.test, options.bank, 10, folder)
        began = time.perf_counter()
        explorer = Explorer(nodes)
        print(f"opened in {time.perf_counter() - began:.2f} s")
        every: list[float] = []
        for name, interact in interactions(explorer).items():
            seconds = []
            for step in range(options.repeats):
                began = time.perf_counter()
                interact(step)
                seconds.append(time.perf_counter() - began)
            every += seconds
            print(
                f"{name:28s} median {statistics.median(seconds):.3f} s  worst {max(seconds):.3f} s"
            )
        slow = sum(second > LIMIT_SECONDS for second in every)
        print(
            f"{'all':28s} median {statistics.median(every):.3f} s  worst {max(every):.3f} s, "
            f"{slow} of {len(every)} over {LIMIT_SECONDS} s"
        )


if __name__ == "__main__":
    main()

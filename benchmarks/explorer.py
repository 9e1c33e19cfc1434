"""How long the explorer takes to open and to answer: 10,000 and 50,000 nodes, a bank of 40,000.

Each interaction goes through the widgets, as a click does, up to the last change that is sent to
the browser; what the browser draws is not in it. Images, features and weights are random: only
sizes matter here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from side_by_side import keep, seconds, spread

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.evaluation.nodes import BANK, TEST, RunNodes
from cnn2gnn.evaluation.protocols import inductive
from cnn2gnn.explore import Explorer
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run


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
    network.start_keys(features[BANK], splits.train.labels)
    kept = network.settled(network.bank(features[BANK], splits.train.labels))
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
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bank", type=int, default=40_000)
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 50_000], help="on the map")
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    rows = [
        [line, "", spread([importing(line) for _ in range(3)]), ""]
        for line in ("import cnn2gnn", "from cnn2gnn import Explorer")
    ]
    for nodes in options.nodes:
        rows += measure(nodes, options.bank, options.repeats)
    keep(
        "explorer",
        f"Explorer, a bank of {options.bank:,}",
        ["what", "nodes on the map", "seconds", "worst"],
        rows,
        "A click up to the last change that is sent to the browser; what the browser draws is not "
        "in it. The first map is a projection by principal components; UMAP takes longer.",
    )


def measure(test: int, bank: int, repeats: int) -> list[list[str]]:
    """Rows of the table for so many nodes: opening, then each interaction."""
    with tempfile.TemporaryDirectory() as folder:
        nodes = random_nodes(test, bank, 10, folder)
        began = time.perf_counter()
        explorer = Explorer(nodes)
        rows = [
            ["open, with the first map", f"{test:,}", spread([time.perf_counter() - began]), ""]
        ]
        for name, interact in interactions(explorer).items():
            taken = [seconds(partial(interact, step)) for step in range(repeats)]
            rows.append([name, f"{test:,}", spread(taken), spread([max(taken)])])
    return rows


def importing(line: str) -> float:
    """Seconds of an import in a fresh interpreter, without Python's own start."""
    bare, full = (
        seconds(partial(subprocess.run, [sys.executable, "-c", code], check=True))
        for code in ("pass", line)
    )
    return full - bare


if __name__ == "__main__":
    main()

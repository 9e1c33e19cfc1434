"""What finished runs left behind, and which of them may be averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from cnn2gnn.data import DataError, Splits
from cnn2gnn.drawing.classnames import readable
from cnn2gnn.evaluation.bank_sizes import bank_sizes
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.runs import Run, load_run

SEEDS = ("seed", "teacher_seed", "split_seed")
# where a run lies, what it ran on and what was trained beside it: no part of what was tried
_ASIDE = (
    *("run", "runs_dir", "device", "devices", "num_nodes", "data_dir", "download", "baselines"),
    "logger",
)


@dataclass(frozen=True)
class Results:
    """A finished run.

    Attributes:
        metrics: content of `metrics.json`.
        tensors: the test nodes under protocol inductive, content of `nodes.safetensors`.
    """

    run: Run
    metrics: dict[str, Any]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, run: Run | str | Path) -> Results:
        """Read a run: itself, its folder, or its name in `runs`.

        Raises:
            FileNotFoundError: there is no run, or it has not finished.
        """
        run = run if isinstance(run, Run) else load_run(run)
        return cls(run, run.metrics(), run.load_nodes())

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.folder.name

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.metrics["seed"]

    @property
    def has_graph(self) -> bool:
        """Whether the student learned a graph."""
        return "weights" in self.tensors

    @cached_property
    def splits(self) -> Splits:
        """The run's images."""
        return self.run.load_splits()

    @cached_property
    def nodes(self) -> RunNodes:
        """Student, bank and graph of a run with a graph."""
        return RunNodes.load(self.run)

    @cached_property
    def has_sizes(self) -> bool:
        """Whether the student looks into a bank that may become smaller."""
        learner = self.nodes.student.network.learner if self.has_graph else None
        return learner is not None and learner.reach is not None

    @cached_property
    def bank_sizes(self) -> pd.DataFrame:
        """Accuracy by the bank's size, see `evaluation.bank_sizes`."""
        return bank_sizes(self.nodes.student, self.nodes.bank, self.splits)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, each one once."""
        return readable(self.splits.test.classes)

    def source(self, *files: str) -> str:
        """Name files of the run, as in `runs/demo/metrics.json`."""
        folder = Path(self.run.folder.parent.name, self.name)
        return ", ".join((folder / file).as_posix() for file in files)

    def require_same_data(self, other: Results) -> None:
        """Runs of one configuration are averaged, and then they must have seen the same images.

        Raises:
            DataError: they have not.
        """
        seeds = {r.run.config.data.split_seed for r in (self, other)}
        # of another split, the training images are others, but not the test images
        for name in ("classes", "test images", *(["train images"] if len(seeds) == 1 else [])):
            mine, theirs = (r.run.manifest["data"][name] for r in (self, other))
            if mine != theirs:
                raise DataError(
                    f"runs {self.name} and {other.name} have the same parameters but other "
                    f"{name} ({str(mine)[:60]} and {str(theirs)[:60]}): they cannot be averaged; "
                    "report them one by one"
                )

    def choices(self) -> dict[str, Any]:
        """The parameters that make a configuration: all but seeds and places."""
        parameters = self.run.config.parameters()
        chosen = {n: v for n, v in parameters.items() if n not in (*SEEDS, *_ASIDE)}
        chosen["precision"] = self.run.manifest["hardware"]["precision"]  # what auto has become
        named = self.run.manifest.get("registered", {})
        return chosen | {f"own {name}": mark for name, mark in (self.run.made_with | named).items()}


def configurations(results: Sequence[Results]) -> dict[str, list[Results]]:
    """Group runs that differ in nothing but their seeds; only those may be averaged.

    Raises:
        DataError: runs of one configuration have seen other images.

    Returns:
        The groups, by the parameters in which they differ from one another (`k=10, scope=batch`);
        a single group is called by an empty string.
    """
    groups: list[list[Results]] = []
    for result in results:
        for group in groups:
            if group[0].choices() == result.choices():
                group[0].require_same_data(result)
                group.append(result)
                break
        else:
            groups.append([result])
    choices = [group[0].choices() for group in groups]
    named = {name: None for choice in choices for name in choice}  # own objects are not in all
    differing = [name for name in named if len({repr(c.get(name)) for c in choices}) > 1]
    names = [", ".join(f"{name}={c.get(name)}" for name in differing) for c in choices]
    return dict(zip(names, groups, strict=True))

"""How long cells will take, from the seconds per epoch of runs that lie there already."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnn2gnn.base.files import read_json
from cnn2gnn.base.values import InputError
from cnn2gnn.compare.grid import Cell
from cnn2gnn.config import Config
from cnn2gnn.distillation.first_stage import LATER, TAUGHT
from cnn2gnn.models.given import NAME as GIVEN
from cnn2gnn.runs import manifest
from cnn2gnn.runs.epochs import GRAPH, EpochLog
from cnn2gnn.runs.manifest import FREE

TEACHER, DISTILLING, LEARNING = "teacher", "stage one", "stage two"
# what the seconds of an epoch depend on, beside the machine
_DATA = ("dataset", "image_size", "train_images", "validation")
_DEPENDS = {
    TEACHER: (*_DATA, "teacher", "teacher_batch_size"),
    DISTILLING: (*_DATA, "stem", "batch_size"),
    LEARNING: (*_DATA, "stem", "graph", "layer", "graph_batch_size", "scope", "stage_two"),
}
# an estimate needs no every run: not one that is damaged, of another version or just vanishing
_UNREADABLE = (InputError, OSError)


class Seconds:
    """What epochs took in the runs of a folder, and in their teachers.

    Decoding, filling the teacher's cache and evaluating are no epochs: they are not counted.
    """

    def __init__(self, runs_dir: str | Path) -> None:
        self._seen: dict[tuple[Any, ...], list[float]] = defaultdict(list)
        self._made: set[str] = set()  # teachers, and stage ones, that are there already
        teachers = _teachers(Path(runs_dir))
        for path in sorted(Path(runs_dir).glob(f"*/{manifest.FILE}")):
            with suppress(*_UNREADABLE):
                self._learn(path.parent, teachers)

    def of(self, cells: Sequence[Cell]) -> list[float | None]:
        """Return the seconds of each cell, one after the other; None where no run is like it.

        A teacher that several cells share, and a stage one, counts in the first of them.
        """
        made, found = set(self._made), []
        for cell in cells:
            shared = _shared(cell.config)
            parts = [_second(cell.config), *(shared[what] for what in shared if what not in made)]
            made |= {*shared}
            seconds = [self._epoch(stage, cell.config) for stage, _ in parts]
            known = [s * n for s, (_, n) in zip(seconds, parts, strict=True) if s is not None]
            found.append(sum(known) if len(known) == len(parts) else None)
        return found

    def _learn(self, folder: Path, teachers: dict[str, list[dict[str, Any]]]) -> None:
        """Take in what the epochs of a run and of its teacher took."""
        content, rows = manifest.read(folder), EpochLog.read(folder)
        config = Config.from_parameters(content["parameters"])
        if "student" in content["stages"]:
            self._made |= {*_shared(config)}
        for row in rows:
            second = row["stage"].endswith(GRAPH)
            self._note(LEARNING if second else DISTILLING, config, row)
        for row in teachers.get(content["teacher"], ()):
            self._note(TEACHER, config, row)

    def _note(self, stage: str, config: Config, row: dict[str, Any]) -> None:
        self._seen[_like(stage, config)].append(row["seconds"])

    def _epoch(self, stage: str, config: Config) -> float | None:
        seen = self._seen.get(_like(stage, config))
        return statistics.median(seen) if seen else None


def _shared(config: Config) -> dict[str, tuple[str, int]]:
    """What other runs may have made or will take over, by all that decides it: stage and epochs."""
    training, baselines = config.training, config.training.baselines.split(",")
    decisive = {n: v for n, v in config.parameters().items() if n not in {*FREE, *LATER}}
    firsts = [decisive]
    if "undistilled" in baselines:
        firsts.append({n: v for n, v in decisive.items() if n not in TAUGHT})
    if "twin" in baselines and training.twin_kd_weight is not None:
        firsts.append(decisive | {"kd_weight": training.twin_kd_weight})
    found = {repr(first): (DISTILLING, training.epochs) for first in firsts}
    if config.teacher.teacher != GIVEN:  # which nobody trains
        teacher = repr((asdict(config.data), asdict(config.teacher)))
        found[teacher] = (TEACHER, config.teacher.teacher_epochs)
    return found


def _second(config: Config) -> tuple[str, int]:
    """Stage two of a run's students, which nobody shares, and all their epochs of it."""
    baselines = [name for name in config.training.baselines.split(",") if name]
    return LEARNING, (1 + len(baselines)) * config.training.graph_epochs


def _like(stage: str, config: Config) -> tuple[Any, ...]:
    parameters = config.parameters()
    return (stage, *(parameters[name] for name in _DEPENDS[stage]))


def _teachers(runs_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The epochs of the teachers that lie there, by fingerprint."""
    found = {}
    for path in sorted(runs_dir.glob("teachers/*/teacher.json")):
        with suppress(*_UNREADABLE):
            found[str(read_json(path).get("fingerprint"))] = EpochLog.read(path.parent)
    return found

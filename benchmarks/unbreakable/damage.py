"""Damage to every kind of file that a run holds or is made from: is it ever used as if whole?

    python benchmarks/unbreakable/damage.py --flips 5 --seed 0

Each trial copies a finished run (or a stopped one), damages one file (a random bit flipped, cut
short, emptied, replaced by garbage), looks at everything a run shows and then goes on with it.
    refused    one error that names the file, or the data, and says what to do
    rebuilt    made again, and the results are the same, bit for bit
    survived   the results are the same without it: it was not needed, or the bit meant nothing
    lost       other results, or an error that does not tell where to look: must be 0
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import torch
from small_run import config as small_config
from small_run import write_photos

from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.predictor import Predictor
from cnn2gnn.runs import Run
from cnn2gnn.runs.epochs import EpochLog

# kind → file, and the run that needs it: the finished one, a stopped one, or one like it
KINDS = {
    "decoded store": ("cache/images/*.safetensors", "finished"),
    "teacher's weights": ("runs/teachers/*/teacher.safetensors", "finished"),
    "teacher's facts": ("runs/teachers/*/teacher.json", "finished"),
    "teacher's epochs": ("runs/teachers/*/metrics.jsonl", "finished"),
    "cache of logits": ("runs/teachers/*/cache/*/view-001.safetensors", "like it"),
    "shared first stage": ("runs/distilled/*/distilled.safetensors", "like it"),
    "its facts": ("runs/distilled/*/distilled.json", "like it"),
    "manifest": ("runs/r/config.json", "finished"),
    "metrics": ("runs/r/metrics.json", "finished"),
    "epochs": ("runs/r/metrics.jsonl", "finished"),
    "student": ("runs/r/student.safetensors", "finished"),
    "twin": ("runs/r/baselines/twin/student.safetensors", "finished"),
    "first stage": ("runs/r/distilled.safetensors", "stopped"),
    "checkpoint": ("runs/r/graph-checkpoint/checkpoint.safetensors", "stopped"),
    "bank": ("runs/r/bank.safetensors", "finished"),
    "nodes": ("runs/r/nodes.safetensors", "finished"),
    "snapshot": ("runs/r/snapshots/epoch-001.safetensors", "finished"),
    "map": ("runs/r/explore/umap.safetensors", "finished"),
    "predictor": ("small.predictor", "finished"),
    "image": ("photos/3/*.png", "finished"),
    "parquet": ("table.parquet", "finished"),
}
DAMAGE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bit flipped": lambda content, chance: _flipped(content, chance.randrange(8 * len(content))),
    "cut short": lambda content, chance: content[: chance.randrange(1, len(content))],
    "emptied": lambda content, chance: b"",
    "garbage": lambda content, chance: chance.randbytes(len(content)),
}


def _flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Stopped(Exception):
    """Raised in the middle of a training, to leave a run that has not finished."""


def configuration(folder: Path, state: str) -> Config:
    """The run that is gone on with; "like it" shares all but the graph with the finished one."""
    config = small_config(folder, folder / "photos")
    if state != "like it":
        return config
    student, runtime = replace(config.student, k=4), replace(config.runtime, run="like")
    return replace(config, student=student, runtime=runtime)


def on_table(folder: Path) -> Config:
    """A run on the same images as a parquet table."""
    config = small_config(folder, folder / "photos")
    data = replace(config.data, dataset=f"parquet:{folder / 'table.parquet'}")
    training = replace(config.training, baselines="")
    return replace(
        config, data=data, training=training, runtime=replace(config.runtime, run="table")
    )


def prepare(folder: Path, images: int) -> None:
    """Make a finished run with all that belongs to it."""
    write_photos(folder / "photos", images)
    files = sorted((folder / "photos").rglob("*.png"))
    rows = {"image": [file.read_bytes() for file in files], "label": [f.parent.name for f in files]}
    pandas.DataFrame(rows).to_parquet(folder / "table.parquet")
    run = distil(configuration(folder, "finished"))
    nodes = RunNodes.load(run)
    draw_map(nodes)
    Predictor.load(run).save(folder / "small.predictor")
    run.unlock()
    distil(on_table(folder)).unlock()


def prepare_stopped(folder: Path, finished: Path) -> None:
    """Make a run of the same that was stopped in its last pass."""
    for name in ("photos", "cache", "runs/teachers"):
        shutil.copytree(finished / name, folder / name)
    write_row = EpochLog.__call__

    def stop(log: EpochLog, row: dict[str, Any]) -> None:
        write_row(log, row)
        if (log.stage, row["epoch"]) == ("student-graph", 1):
            raise Stopped

    EpochLog.__call__ = stop  # type: ignore[method-assign]
    try:
        distil(configuration(folder, "stopped"))
    except Stopped:
        Run.open(folder / "runs" / "r").unlock()
    finally:
        EpochLog.__call__ = write_row  # type: ignore[method-assign]


def draw_map(nodes: RunNodes) -> None:
    """Save a PCA in the place of the UMAP, for which compiling takes long."""
    coordinates.save_umap(nodes, coordinates.pca(nodes.together(nodes.keys)))


def look(folder: Path) -> dict[str, Any]:
    """Everything that explorer, report and predictor read of the finished run."""
    run = Run.open(folder / "runs" / "r")
    nodes = RunNodes.load(run)
    images = nodes.splits.test.images[:5]
    if coordinates.saved_umap(nodes) is None:  # the explorer says so, and draws it again
        draw_map(nodes)
    return {
        "metrics": run.metrics(),
        "epochs": run.history(),
        "teacher": [EpochLog.read(path) for path in (folder / "runs" / "teachers").iterdir()],
        "nodes": run.load_nodes(),
        "snapshots": dict(run.snapshots()),
        "logits": nodes.logits,
        "teacher's": nodes.teacher_logits,
        "bank": run.load_bank().keys,
        "twin": run.load_student("twin").state_dict(),
        "map": coordinates.saved_umap(nodes),
        "predictor": torch.as_tensor(
            Predictor.load(folder / "small.predictor").predict_proba(images)
        ),
    }


def go_on(folder: Path, state: str, kind: str) -> dict[str, Any]:
    """Start the run again, and return what came of it."""
    run = distil(on_table(folder) if kind == "parquet" else configuration(folder, state))
    try:
        metrics = run.metrics()
        del metrics["measured"], metrics["student"]["images_per_second"]
        weights = run.load_student().state_dict()
        return {"metrics": metrics, "weights": weights, "bank": run.load_bank().keys}
    finally:
        run.unlock()


def same(one: Any, two: Any) -> bool:
    """Whether two results are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    return bool(one == two)


def trial(kind: str, damage: str, clean: Path, folder: Path, chance: random.Random) -> str:
    """Damage one file of a copy and return what came of it: a word, and why."""
    pattern, state = KINDS[kind]
    source = clean.with_name("stopped") if state == "stopped" else clean
    shutil.copytree(source, folder, copy_function=shutil.copy2)
    path = chance.choice(sorted(folder.glob(pattern)))
    damaged = DAMAGE[damage](path.read_bytes(), chance)
    path.write_bytes(damaged)
    refused = ""
    steps: dict[str, Callable[[Path], Any]] = {"go on": lambda f: go_on(f, state, kind)}
    if state == "finished" and kind != "parquet":
        steps = {"look": look} | steps
    for step, do in steps.items():
        try:
            if not same(EXPECTED[step, state, kind == "parquet"], do(folder)):
                return f"lost: other results when we {step}"
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if not _clear(told, path):
                return f"lost: unclear: {told}"
            refused = told
    if refused:
        return f"refused: {refused}"
    return "rebuilt" if path.read_bytes() != damaged else "survived"


def _clear(told: str, path: Path) -> bool:
    """Whether an error names the file, or says that the data are others, in a line or two."""
    where = path.name in told or "are no longer those it was made with" in told
    return where and told.count("\n") < 2


EXPECTED: dict[tuple[str, str, bool], Any] = {}


def measure(flips: int, seed: int, images: int, place: Path) -> pandas.DataFrame:
    """Return a row for each trial: kind, damage, outcome, why."""
    os.environ["CNN2GNN_CACHE"] = str(place / "work" / "cache")
    logging.disable(logging.WARNING)
    clean, folder = place / "clean", place / "work"
    # always worked on in one place: the store knows its images by their paths
    prepare(folder, images)
    folder.rename(clean)
    prepare_stopped(folder, clean)
    folder.rename(place / "stopped")
    for state in ("finished", "like it", "stopped"):
        source = place / "stopped" if state == "stopped" else clean
        shutil.copytree(source, folder)
        if state == "finished":
            EXPECTED["look", state, False] = look(folder)
            EXPECTED["go on", state, True] = go_on(folder, state, "parquet")
        EXPECTED["go on", state, False] = go_on(folder, state, "")
        shutil.rmtree(folder)
    chance, rows = random.Random(seed), []
    for kind in KINDS:
        for damage in [*["bit flipped"] * flips, *list(DAMAGE)[1:]]:
            outcome, _, why = trial(kind, damage, clean, folder, chance).partition(": ")
            rows.append((kind, damage, outcome, why))
            print(f"{kind}, {damage}: {outcome} {why}", flush=True)
            shutil.rmtree(folder)
    return pandas.DataFrame(rows, columns=["kind", "damage", "outcome", "why"])


def main() -> int:
    """Print the outcomes by kind, and an example of each error; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=5, help="random bits of each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-") as place:
        rows = measure(options.flips, options.seed, options.images, Path(place))
    table = pandas.crosstab(rows["kind"], rows["outcome"]).reindex(
        index=list(KINDS), columns=["refused", "rebuilt", "survived", "lost"], fill_value=0
    )
    table.insert(0, "tried", table.sum(axis=1))
    print(f"\n{table.to_string()}\n\n{table.sum().to_frame('all').T.to_string()}\n")
    for kind, group in rows[rows["outcome"] == "refused"].groupby("kind", sort=False):
        print(f"{kind}: {group['why'].iloc[0]}")
    return int(table["lost"].any())


if __name__ == "__main__":
    sys.exit(main())

"""Run folders that somebody has changed by hand: files gone or another's, fields gone or others."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from damage import same
from hypothesis import strategies as st
from small_run import config, write_photos

from cnn2gnn.base import checksums
from cnn2gnn.base.files import load_tensors, save_tensors, write_json
from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.predictor import Predictor
from cnn2gnn.report import Report
from cnn2gnn.report.model_card import model_card
from cnn2gnn.report.results import Results
from cnn2gnn.report.tables import accuracy_table
from cnn2gnn.runs import Run
from surfaces.outcomes import Kind

FILES = (
    "config.json", "metrics.json", "metrics.jsonl", "student.safetensors", "bank.safetensors",
    "nodes.safetensors", "snapshots/epoch-001.safetensors", "explore/umap.safetensors",
    "baselines/twin/student.safetensors", "distilled.safetensors",
)  # fmt: skip
TENSORS = tuple(name for name in FILES[3:] if name != "distilled.safetensors")
VALUES = (None, "x", "", -1, 0, 1.5, 10**30, True, [], {}, [1], {"a": 1}, "\x1b[2J<b>")


def prepare(folder: Path, images: int = 120) -> Path:
    """Make two finished runs of the same photographs, `r` and `other`; return the folder of both.

    They differ in k and seed alone: nothing of one is right in the other.
    """
    write_photos(folder / "photos", images)
    first = config(folder, folder / "photos")
    first = replace(first, training=replace(first.training, baselines="twin"))
    student = replace(first.student, k=4)
    second = replace(first, student=student, runtime=replace(first.runtime, run="other", seed=1))
    for each in (first, second):
        run = distil(each)
        nodes = RunNodes.load(run)
        coordinates.save_umap(nodes, coordinates.pca(nodes.together(nodes.keys)))
        run.unlock()
    return folder / "runs"


def look(folder: Path) -> dict[str, Any]:
    """Everything that is read of a finished run, but for a whole report."""
    run = Run.open(folder)
    metrics, nodes = run.metrics(), RunNodes.load(run)
    state = ExplorerState(nodes)
    images = nodes.splits.test.images[:5]
    return {
        "metrics": metrics,
        "accuracies": accuracy_table(metrics).to_csv(),
        "card": model_card(run),
        "choices": Results.read(run).choices(),
        "history": run.history(),
        "nodes": {**run.load_nodes()},
        "graph": {"neighbours": nodes.graph.neighbours, "weights": nodes.graph.weights},
        "labels": nodes.labels,
        "bank": {n: t for n, t in vars(run.load_bank()).items() if isinstance(t, torch.Tensor)},
        "twin": run.load_student("twin").state_dict(),
        "snapshots": dict(run.snapshots()),
        "timeline": state.timeline.table.to_csv(),
        "map": coordinates.saved_umap(nodes),
        "predicted": torch.as_tensor(Predictor.load(run).predict_proba(images)),
        "card of a node": state.card(),
    }


@dataclass(frozen=True)
class Changed:
    """A file that was moved, or what stands in one.

    Attributes:
        how: `deleted`, `renamed`, `another's`, `a folder`; for the content of a file `removed`,
            `value`, or what became of a tensor.
        at: which of the file's fields or tensors, as a share of their number.
    """

    file: str
    how: str
    at: float = 0.0
    value: Any = None


@cache
def expected(runs: Path) -> dict[str, Any]:
    """What the run shows that nobody has changed."""
    return look(runs / "r")


def changed_copy(runs: Path, place: Path, given: Changed) -> Path:
    """A copy of the run in `place`, changed."""
    folder = place / "r"
    shutil.copytree(runs / "r", folder)
    (place / "teachers").symlink_to(runs / "teachers")
    path = folder / given.file
    if given.how in ("deleted", "a folder"):
        path.unlink()
        if given.how == "a folder":
            path.mkdir()
    elif given.how == "renamed":
        path.rename(path.with_name(f"old-{path.name}"))
    elif given.how == "another's":
        shutil.copy(runs / "other" / given.file, path)
    elif path.suffix == ".safetensors":
        edit_tensor(path, given)
    else:
        edit_json(path, given)
    return folder


def fields_of(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every field of a JSON object lies."""
    if not isinstance(content, dict | list):
        return []
    found = []
    for name in content if isinstance(content, dict) else range(len(content)):
        found += [(*above, name), *fields_of(content[name], (*above, name))]
    return found


def change_field(content: Any, given: Any) -> Any:
    """Remove or replace, as `given` says, one field of what a file held; return its name."""
    where = fields_of(content)
    *above, name = where[int(given.at * len(where))]
    holder = content
    for step in above:
        holder = holder[step]
    if given.how == "removed":
        del holder[name]
    else:
        holder[name] = copy.deepcopy(given.value)
    return name


def edit_json(path: Path, given: Changed) -> str:
    """Remove or replace one field, and put the checksum right; return the field's name."""
    lines = path.suffix == ".jsonl"
    text = path.read_text(encoding="utf-8")
    content = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
    (content[0] if lines else content).pop(checksums.NAME)
    name = change_field(content, given)
    if not lines:
        write_json(path, content)
        return str(name)
    if content and isinstance(content[0], dict):
        content[0] = content[0] | {checksums.NAME: checksums.of_json(content)}
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return str(name)


def edit_tensor(path: Path, given: Changed) -> None:
    """Change one tensor, and put the checksum right."""
    held, facts = load_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in held.items()}
    name = sorted(tensors)[int(given.at * len(tensors))]
    tensor = tensors.pop(name)
    floats = tensor.is_floating_point()
    changed = {
        "removed": None,
        "renamed tensor": tensor,
        "one row less": tensor[:-1] if tensor.ndim and len(tensor) else None,
        "one axis more": tensor[None],
        "another type": tensor.long() if floats else tensor.float(),
        "NaN": torch.full_like(tensor, torch.nan) if floats else None,
        "out of range": tensor + 10**6 if not floats else None,
        "empty": tensor.new_empty(0),
    }[given.how]
    if changed is not None:
        tensors["other" if given.how == "renamed tensor" else name] = changed
    save_tensors(path, tensors, facts)


def moved() -> st.SearchStrategy[Changed]:
    """A file that is not where it was, or another run's."""
    hows = st.sampled_from(["deleted", "renamed", "another's", "another's", "a folder"])
    return st.builds(Changed, st.sampled_from(FILES), hows)


def edited(*files: str) -> st.SearchStrategy[Changed]:
    """One field of a JSON file that is gone, or holds something else."""
    hows, at = st.sampled_from(["removed", "value", "value"]), st.floats(0, 0.999)
    return st.builds(Changed, st.sampled_from(files), hows, at, st.sampled_from(VALUES))


def edited_tensors() -> st.SearchStrategy[Changed]:
    """One tensor of a file that is gone, or another."""
    hows = ("removed", "renamed tensor", "one row less", "one axis more", "another type", "NaN")
    which = st.sampled_from([*hows, "out of range", "empty"])
    return st.builds(Changed, st.sampled_from(TENSORS), which, st.floats(0, 0.999))


def open_moved(runs: Path, given: Changed) -> None:
    """Look at a run with a file moved: what it shows is what it was, or nothing."""
    with tempfile.TemporaryDirectory(prefix="moved-") as place:
        found, right = look(changed_copy(runs, Path(place), given)), expected(runs)
        for name in right:
            if name == "map" and found[name] is None:
                continue  # it is made again
            if name == "history" and not found[name] or name in ("snapshots", "timeline"):
                continue  # curves are gone, and are not shown
            assert same_text(found[name], right[name]), f"other {name}"


def same_text(one: Any, two: Any) -> bool:
    """Whether two results are the same; of what is no tensor, as it is shown."""
    if isinstance(one, dict | torch.Tensor):
        return same(one, two)
    return str(one) == str(two)


def open_edited(runs: Path, given: Changed) -> None:
    """Look at a run whose files hold something else."""
    with tempfile.TemporaryDirectory(prefix="edited-") as place:
        found = look(changed_copy(runs, Path(place), given))
        predicted = found["predicted"]
        assert predicted.isfinite().all() and (predicted.sum(1) - 1).abs().max() < 1e-4
        for table in ("accuracies", "timeline"):
            assert "nan" not in found[table].lower()


def report(runs: Path, given: Changed) -> None:
    """Build the report of a run whose files hold something else."""
    with tempfile.TemporaryDirectory(prefix="report-") as place:
        built = Report.build([changed_copy(runs, Path(place), given)])
        assert built.sections and built.card


def names_of(given: Changed) -> tuple[str, ...]:
    """What a refusal must name: the file, or one that no longer belongs to it."""
    return (Path(given.file).name, "no longer those it was made with", "another one than it was")


def kinds(runs: Callable[[], Path]) -> Iterator[Kind]:
    """The rows of this surface, of the runs that `prepare` makes."""
    rows = (
        ("files moved", moved(), open_moved, 0.5),
        ("config.json edited", edited("config.json"), open_edited, 1),
        ("metrics.json edited", edited("metrics.json"), open_edited, 1),
        ("metrics.jsonl edited", edited("metrics.jsonl"), open_edited, 0.5),
        ("tensors edited", edited_tensors(), open_edited, 1),
        ("reports of edited ones", edited("metrics.json", "config.json"), report, 0.1),
    )
    for name, cases, do, share in rows:
        bound = lambda given, do=do: do(runs(), given)  # noqa: E731
        yield Kind("run folders", name, cases, bound, names_of, share=share)

"""Runs that differ in the graph alone share stage one, and no others do."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_config

from cnn2gnn import distil
from cnn2gnn.base.files import BrokenFileError, load_tensors
from cnn2gnn.config import Config, ConfigError, DataConfig, TeacherConfig
from cnn2gnn.distillation.first_stage import DISTILLED, LATER, TAUGHT, FirstStage
from cnn2gnn.distillation.graph_task import GraphTask
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.distillation.students import without_graph
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs import Run
from cnn2gnn.runs.manifest import FREE

SMALL = {
    "train_images": 300, "teacher_epochs": 1, "epochs": 2, "graph_epochs": 1,
    "baselines": "undistilled",
}  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return distil(small_config(folder, run="first", **SMALL))


def another(first: Run, name: str, **more: object) -> Config:
    return small_config(first.folder.parent, run=name, **SMALL | more)


def test_a_run_that_differs_in_the_graph_trains_no_first_stage(
    first: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"k": 5, "graph": "softmax", "layer": "attention"}
    alone = distil(small_config(tmp_path, run="alone", **SMALL | other))

    def trained(*_: Any) -> None:
        raise AssertionError("stage one was trained again")

    monkeypatch.setattr(StudentTask, "loss", trained)
    run = distil(another(first, "second", **other))
    weights, _ = load_tensors(run.folder / "student.safetensors")
    expected, _ = load_tensors(alone.folder / "student.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    stages = [row["stage"] for row in run.history()]
    assert stages == [row["stage"] for row in alone.history()]
    assert run.manifest["stages"]["student"] == first.manifest["stages"]["student"]
    assert run.manifest["stages"]["student-graph"] != first.manifest["stages"]["student-graph"]


def test_another_loss_shares_what_learns_from_labels_alone(first: Run) -> None:
    run = distil(another(first, "dkd", loss="dkd"))
    mine, _ = load_tensors(run.folder / DISTILLED)
    its, _ = load_tensors(first.folder / DISTILLED)
    assert not all(torch.equal(tensor, its[name]) for name, tensor in mine.items())
    mine, _ = load_tensors(run.stage_folder("undistilled") / DISTILLED)
    its, _ = load_tensors(first.stage_folder("undistilled") / DISTILLED)
    assert all(torch.equal(tensor, its[name]) for name, tensor in mine.items())


def weighted(share: float) -> Any:
    """Losses of one source: what they compute hangs on a number that no source shows."""

    def loss(student: Any, teacher: Any, labels: Any, *, temperature: float, weight: float) -> Any:
        return share * torch.nn.functional.cross_entropy(student, labels)

    return loss


def test_code_of_ones_own_is_never_taken_for_the_same(first: Run) -> None:
    runs = [
        distil(another(first, f"own-{share}", baselines=""), loss=weighted(share))
        for share in (1.0, 0.1)
    ]
    mine, its = (load_tensors(run.folder / DISTILLED)[0] for run in runs)
    assert not all(torch.equal(tensor, its[name]) for name, tensor in mine.items())


def test_a_deleted_run_leaves_nothing_to_another_of_its_name(first: Run) -> None:
    """Nor to code that was registered by the same name."""
    losses = []
    for share in (1.0, 0.1):
        config = another(first, "own-again", baselines="")
        run = distil(config, loss=weighted(share))
        run.unlock()
        losses.append(run.history()[0]["loss"])
        shutil.rmtree(run.folder)
    assert losses[1] == pytest.approx(0.1 * losses[0], rel=0.2)


def test_registered_code_that_has_changed_is_refused(
    first: Run, registries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    LOSSES.register("mine", weighted(1.0))
    config = another(first, "registered", baselines="", loss="mine")
    run = distil(config)
    run.unlock()
    assert distil(config).metrics() == run.metrics()
    monkeypatch.setitem(LOSSES._entries, "mine", weighted(0.1))
    with pytest.raises(ConfigError, match=r"registered loss was 'weighted\S* \w+', is 'weighted"):
        distil(config)


def key(run: Run, config: Config, teacher: str | None) -> str:
    torch.manual_seed(0)
    parts = without_graph(config).student
    student = Student(parts, channels=1, size=8, classes=10, mean=[0.5], std=[0.5])
    return FirstStage(run, config, student, teacher).folder.name


def test_other_code_makes_a_first_stage_of_its_own(
    first: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever commit it is of: a checkout that is being edited has no other."""
    usual = key(first, first.config, "t")
    monkeypatch.setattr("cnn2gnn.distillation.first_stage.code_hash", lambda: "edited")
    assert key(first, first.config, "t") != usual


@pytest.mark.parametrize(
    ("task", "steps", "edited"),
    [(StudentTask, 2, True), (GraphTask, 0, True), (StudentTask, 3, False)],
)
def test_what_other_code_has_begun_is_not_handed_on(
    first: Run, monkeypatch: pytest.MonkeyPatch, task: Any, steps: int, edited: bool
) -> None:
    """Killed in its second epoch or in stage two, a run goes on, perhaps by edited code."""
    few: dict[str, Any] = {"baselines": "", "batch_size": 150, "seed": steps}
    began = another(first, f"began-{steps}", **few)
    usual, left = task.loss, [None] * steps

    def stopped(self: Any, *more: Any) -> Any:
        if not left:
            raise InterruptedError
        left.pop()
        return usual(self, *more)

    with monkeypatch.context() as older:
        if edited:
            older.setattr("cnn2gnn.distillation.first_stage.code_hash", lambda: "older")
        older.setattr(task, "loss", stopped)
        with pytest.raises(InterruptedError):
            distil(began)
    shared = first.folder.parent / "distilled"
    before = {*shared.glob(f"*/{DISTILLED}")}
    distil(began)
    assert len({*shared.glob(f"*/{DISTILLED}")} - before) == (0 if edited else 1)
    distil(another(first, f"again-{steps}", **few, k=7))
    assert len({*shared.glob(f"*/{DISTILLED}")} - before) == 1


def changed(config: Config) -> dict[str, Any]:
    """Another allowed value of every parameter that can be changed by itself."""
    found: dict[str, Any] = {}
    for group in fields(Config):
        part = getattr(config, group.name)
        for item in fields(part):
            value, choices = getattr(part, item.name), item.metadata["choices"]
            if choices:
                found[item.name] = next(c for c in choices if c != value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                found[item.name] = value + 1 if isinstance(value, int) else value * 0.9 + 0.01
    return found


def test_every_other_parameter_makes_a_first_stage_of_its_own(first: Run) -> None:
    """Data and teacher are told apart by what they are, not by what they are called."""
    config = first.config
    elsewhere = {item.name for group in (DataConfig, TeacherConfig) for item in fields(group)}
    values = changed(config)
    assert len(values) > 30
    for teacher, ignored in (("t", ()), (None, TAUGHT)):
        usual = key(first, config, teacher)
        for name, value in values.items():
            other = Config.from_parameters(config.parameters() | {name: value})
            same = name in {*LATER, *FREE, *elsewhere, *ignored}
            assert (key(first, other, teacher) == usual) == same, name
        assert key(first, config, "another") != usual


def test_damaged_weights_are_named_and_not_used(first: Run) -> None:
    (path,) = [
        p
        for p in first.folder.parent.glob(f"distilled/*/{DISTILLED}")
        if p.read_bytes() == (first.folder / DISTILLED).read_bytes()
    ]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BrokenFileError, match=r"is damaged; delete .* to train it again"):
        distil(another(first, "third", k=7))
    path.write_bytes(whole)
    assert distil(another(first, "third", k=7)).metrics()

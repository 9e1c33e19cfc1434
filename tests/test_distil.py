"""A whole run: its files, its baselines, and that nothing that happens to it loses anything."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import small_config

from cnn2gnn.base.files import load_tensors
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data.pixels import DataError
from cnn2gnn.distillation.distil import distil
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import Run, load_run, load_splits
from cnn2gnn.runs.own import Own

SCRIPT = """
import json, sys
from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
distil(Config.from_parameters(json.loads(sys.argv[1])))
"""


def tiny(folder: Path, **more: object) -> Config:
    return small_config(folder, **{"train_images": 300, "epochs": 3} | more)


def start(config: Config) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, json.dumps(config.parameters())]
    # sums are split over the threads: another number of them gives other bits
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def begun(log: Path, stage: str) -> bool:
    return f'"stage": "{stage}"' in log.read_text()


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    """Sums in the order of the threads change their bits: one thread alone would not show it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Run:
    return distil(tiny(folder, run="whole", baselines="twin,undistilled"))


def test_metrics_say_all_that_is_promised(whole: Run) -> None:
    metrics = whole.metrics()
    assert metrics["dataset"] == "digits" and metrics["seed"] == 0
    assert set(metrics["teacher"]) == {"name", "parameters", "accuracy"}
    student = metrics["student"]
    assert set(student["accuracy"]) == {"no_graph", "batch", "inductive", "sorted"}
    assert set(student["accuracy"]["batch"]) == {"mean", "std", "batch_size", "repeats"}
    assert set(student["images_per_second"]) == {"batch", "inductive"}
    assert student["bank_megabytes"] > 0 and student["scope"] == "bank"
    assert 0 <= student["expected_calibration_error"] <= 1
    twin = metrics["baselines"]["twin"]
    assert twin["parameters"] < student["parameters"] and 0 < twin["accuracy"] <= 1
    assert set(metrics["baselines"]["undistilled"]["accuracy"]) == set(student["accuracy"])


def test_the_saved_run_predicts_what_was_reported(whole: Run) -> None:
    student, bank, nodes = whole.load_student(), whole.load_bank(), whole.load_nodes()
    test = whole.load_splits().test
    out = inductive(student, no_graph(student, test.images), bank)
    torch.testing.assert_close(out.logits, nodes["logits"], rtol=1e-3, atol=1e-4)
    right = (nodes["logits"].argmax(1) == nodes["labels"]).float().mean().item()
    assert right == whole.metrics()["student"]["accuracy"]["inductive"]
    assert nodes["neighbours"].max() < len(bank) == whole.metrics()["images"]["train"]
    assert [row["epoch"] for row in whole.history() if row["stage"] == "student"] == [0, 1, 2]
    assert [epoch for epoch, _ in whole.snapshots()] == [0, 1, 2, 3]


def test_the_twin_is_what_training_without_a_graph_gives(folder: Path, whole: Run) -> None:
    alone = distil(tiny(folder, run="without", graph="none"))
    trained, _ = load_tensors(alone.folder / "student.safetensors")
    twin, _ = load_tensors(whole.stage_folder("twin") / "student.safetensors")
    assert trained.keys() == twin.keys()
    assert all(torch.equal(tensor, twin[name]) for name, tensor in trained.items())


def test_the_twin_is_trained_as_long_on_the_same_stem(whole: Run) -> None:
    student, twin = whole.load_student(), whole.load_student("twin")
    for name, tensor in student.stem.state_dict().items():
        assert torch.equal(tensor, twin.stem.state_dict()[name]), name
    passes = {stage: 0 for stage in ("student-graph", "twin-graph", "undistilled-graph")}
    for row in whole.history():
        if row["stage"] in passes:
            passes[row["stage"]] += 1
    assert set(passes.values()) == {whole.config.training.graph_epochs}


def test_another_lambda_of_the_baseline_is_trained_for_itself(folder: Path) -> None:
    run = distil(tiny(folder, run="own", baselines="twin", twin_kd_weight=0.9))
    stages = {row["stage"] for row in run.history()}
    assert stages == {"student", "student-graph", "twin", "twin-graph"}
    baseline, _ = load_tensors(run.folder / "baselines" / "twin" / "student.safetensors")
    student, _ = load_tensors(run.folder / "student.safetensors")
    assert not torch.equal(baseline["stem.norm.bias"], student["stem.norm.bias"])


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_mixed_precision_goes_through_both_stages(folder: Path, scope: str) -> None:
    config = tiny(folder, run=f"mixed-{scope}", scope=scope, precision="bf16-mixed")
    run = distil(config)
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.2
    assert [row["stage"] for row in run.history()][-1] == "student-graph"


def test_scope_batch_and_averaged_weights(folder: Path) -> None:
    run = distil(tiny(folder, run="batch", scope="batch", ema=0.9))
    accuracy = run.metrics()["student"]["accuracy"]
    assert accuracy["inductive"] > 0.2 and run.metrics()["student"]["scope"] == "batch"
    assert "gate" in run.load_nodes()


def test_other_parameters_are_refused_and_nothing_is_touched(whole: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.*")}
    other = replace(whole.config, training=replace(whole.config.training, epochs=4))
    with pytest.raises(ConfigError, match=r"exists with other parameters \(epochs was 3, is 4\)"):
        Session.start(other)
    assert {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.*")} == before


def test_kill_9_in_mid_epoch_of_each_stage_ends_with_the_same_bits(
    whole: Run, tmp_path: Path
) -> None:
    config = tiny(tmp_path, run="whole", baselines="twin,undistilled")
    for stage in ("teacher", "student", "student-graph"):  # each goes on where it was killed
        process = start(config)
        deadline = time.monotonic() + 200
        pattern = "teachers/*/metrics.jsonl" if stage == "teacher" else "whole/metrics.jsonl"
        while not any(begun(path, stage) for path in tmp_path.glob(pattern)):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)  # into the next epoch
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = [*json.loads((tmp_path / "whole" / "config.json").read_text())["stages"]]
        done += ["teacher" for _ in tmp_path.glob("teachers/*/teacher.json")]
        assert stage not in done, "it finished before it was killed"
    again = start(config)
    assert again.wait(250) == 0, again.communicate()[1]
    again.communicate()
    for name in ("student.safetensors", "bank.safetensors", "nodes.safetensors"):
        expected, _ = load_tensors(whole.folder / name)
        found, _ = load_tensors(tmp_path / "whole" / name)
        assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items()), name


def test_a_second_process_on_a_run_is_told(tmp_path: Path) -> None:
    config = tiny(tmp_path, run="busy")
    run = Run.create(config, load_splits(config.data))
    run.lock()  # held as long as `run` lives
    second = start(config)
    _, said = second.communicate(timeout=120)
    assert second.returncode != 0
    assert "RunLockedError: another process is working on" in said


def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Run
) -> None:
    config = tiny(tmp_path, run="whole", baselines="")
    written = safetensors.torch.save_file
    calls: list[str] = []

    def full(tensors: Any, path: Any, *more: Any) -> None:
        calls.append(str(path))
        if "whole/checkpoint" in str(path) and sum("whole/check" in c for c in calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written(tensors, path, *more)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        distil(config)
    monkeypatch.undo()
    tensors, _ = load_tensors(distil(config).folder / "student.safetensors")
    expected, _ = load_tensors(whole.folder / "student.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_an_unknown_baseline_is_named(folder: Path) -> None:
    session = Session.start(tiny(folder, run="names"))
    with pytest.raises(ValueError, match="no baseline 'oracle'; there are twin and"):
        session.baseline("oracle")


def test_any_trained_network_can_teach(folder: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    teacher = Teacher(network, [0.3], [0.4], "mine")
    config = tiny(folder, run="taught")
    run = distil(config, teacher)
    test = run.load_splits().test
    expected = teacher(test.images)
    torch.testing.assert_close(run.load_nodes()["teacher_logits"], expected, rtol=1e-4, atol=1e-4)
    assert run.metrics()["teacher"] == {
        "name": "mine",
        "parameters": 650,
        "accuracy": accuracy(expected, test.labels),
    }
    again = load_run(run.folder)
    assert RunNodes.load(again).teacher is None, "the configured teacher has not taught this run"
    assert RunNodes.load(load_run(run.folder, teacher=teacher)).teacher is teacher
    distil(config, teacher)  # it continues with the same one only
    with pytest.raises(ConfigError, match="own teacher was 'Teacher "):
        Session.start(config)
    short = Teacher(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7)), [0.3], [0.4], "7"
    )
    with pytest.raises(
        ValueError, match=r"teacher 7 gives logits .*\(1, 7\).* \(1, 10\) is needed"
    ):
        Session.start(tiny(folder, run="short"), Own(teacher=short))
    with pytest.raises(DataError, match="unknown data set 'digit'"):
        Session.start(tiny(folder, run="short", dataset="digit"))
    assert not (folder / "short").exists(), "what was refused stands in the way of the next try"


def test_undistilled_differs_from_the_student_by_the_teacher_alone(folder: Path) -> None:
    """Where the teacher has no weight, both have seen the same views and are the same."""
    run = distil(tiny(folder, run="views", views=2, kd_weight=0.0, baselines="undistilled"))
    metrics, nodes = run.metrics(), run.load_nodes()
    assert metrics["baselines"]["undistilled"]["accuracy"] == metrics["student"]["accuracy"]
    assert nodes["undistilled_logits"].equal(nodes["logits"])


@pytest.mark.parametrize(
    "graph", ["whitened", "adaptive-k", "softmax", "sparsemax", "entmax", "gumbel"]
)
def test_every_learner_goes_through_a_run(folder: Path, graph: str) -> None:
    """Trained, evaluated, saved and read again; what is explored is what was measured."""
    few = {"train_images": 100, "stem": "linear", "graph_epochs": 2, "k": 6}
    run = distil(tiny(folder, run=graph, graph=graph, **few))
    nodes = RunNodes.load(load_run(graph, folder))
    saved = run.load_nodes()
    accuracy_ = run.metrics()["student"]["accuracy"]["inductive"]
    right = (saved["logits"].argmax(1) == saved["labels"]).double().mean().item()
    assert right == pytest.approx(accuracy_)
    out = inductive(nodes.student, no_graph(nodes.student, nodes.splits.test.images), nodes.bank)
    torch.testing.assert_close(out.logits, saved["logits"], rtol=1e-3, atol=1e-3)

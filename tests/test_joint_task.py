"""Stage two in which the stem goes on: what reaches it, and what follows it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_config
from test_distil import begun, start
from test_processes import run_in_two
from torch import Tensor

from cnn2gnn import distil
from cnn2gnn.base.files import load_tensors
from cnn2gnn.config import Config
from cnn2gnn.distillation.first_stage import DISTILLED
from cnn2gnn.distillation.joint_task import JointTask
from cnn2gnn.distillation.loop import place
from cnn2gnn.models.keys import whitening
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs import Run, load_splits

BATCH = torch.arange(60)


def make(tmp_path: Path, **more: object) -> JointTask:
    config = small_config(tmp_path, train_images=200, stage_two="joint", **more)
    splits = load_splits(config.data)
    torch.manual_seed(0)
    student = Student(
        config.student, channels=1, size=8, classes=10, mean=[0.3], std=[0.4]
    )  # fmt: skip
    task = JointTask(
        student, splits, config, torch.device("cpu"), cache=None, loss=LOSSES["kd"]
    )  # fmt: skip
    task.module.train()
    task.network.dropout.p = 0.0
    return task


def gradients(task: JointTask, loss: Any) -> dict[str, Tensor | None]:
    """What a loss, a function of nothing, leaves at the stem."""
    task.module.zero_grad()
    loss().backward()
    return {name: p.grad for name, p in task.student.stem.named_parameters()}


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_the_loss_of_the_graph_does_not_reach_the_stem(tmp_path: Path, scope: str) -> None:
    task = make(tmp_path, scope=scope)
    alone, epochs = task.stage_one, task.config.training.epochs
    expected = gradients(task, lambda: alone.loss(task.student, BATCH, epochs + 1))
    both = gradients(task, lambda: task.loss(task.module, BATCH, 1))
    assert all(torch.equal(expected[name], found) for name, found in both.items())
    assert task.network.label_message.weight.grad.abs().max() > 0, "the graph learned nothing"
    of_the_graph = gradients(
        task, lambda: task._by_labels(task.network(*task._query(BATCH, 1)), BATCH)
    )
    assert set(of_the_graph.values()) == {None}


def test_bank_and_queries_are_of_the_stem_before_the_pass(tmp_path: Path) -> None:
    task = make(tmp_path, graph="random")  # which meets the whole bank
    task.loss(task.module, BATCH, 0)
    before = task._query(BATCH, 0)
    torch.nn.init.normal_(task.student.stem.norm.weight)
    task.loss(task.module, BATCH, 0)  # the pass goes on
    after = task._query(BATCH, 0)
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[1].probabilities, before[1].probabilities)

    task.module.eval()
    images = task.train.view(BATCH, 2, task.augmentation)
    features = task.student.features(images)
    bank = task.student.bank(task.train.images, task.train.labels)
    task.module.train()
    task.loss(task.module, BATCH, 1)
    next_pass = task._query(BATCH, 1)
    torch.testing.assert_close(next_pass[0], features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(next_pass[1].probabilities, bank.probabilities, rtol=1e-2, atol=1e-3)


def test_keys_that_nobody_learns_are_whitened_again(tmp_path: Path) -> None:
    task = make(tmp_path, graph="whitened")
    task.student.stem.norm.weight.data *= torch.linspace(1, 9, len(task.features.clean[0]))
    task.validate(task.module.eval(), 0)
    x = task.features.clean
    white = whitening(x, task.train.labels, x.shape[1])
    torch.testing.assert_close(task.network.keys(x), x @ white)


def tiny(folder: Path, **more: object) -> Config:
    few = {"train_images": 200, "teacher_epochs": 1, "epochs": 2, "graph_epochs": 3}
    return small_config(folder, **few | {"stage_two": "joint"} | more)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return distil(tiny(folder, run="joint", baselines="twin,undistilled"))


def stem(path: Path) -> dict[str, Tensor]:
    return {n: t for n, t in load_tensors(path)[0].items() if n.startswith("stem.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_stem_moves_in_joint_alone_and_stage_one_is_shared(joint: Run) -> None:
    frozen = distil(tiny(joint.folder.parent, run="frozen", stage_two="frozen"))
    start_ = stem(joint.folder / DISTILLED)
    assert same(start_, stem(frozen.folder / DISTILLED))
    assert same(start_, stem(frozen.folder / "student.safetensors"))
    for stage in ("student", "twin"):
        moved = stem(joint.stage_folder(stage) / "student.safetensors")
        assert not any(
            torch.equal(tensor, moved[name])
            for name, tensor in start_.items()
            if tensor.is_floating_point()
        ), stage
        assert moved["stem.norm.num_batches_tracked"] > start_["stem.norm.num_batches_tracked"]
    passes = [row["epoch"] for row in joint.history() if row["stage"] == "twin-graph"]
    assert passes == [0, 1, 2], "the twin is trained as long"


def test_the_bank_is_of_the_stem_at_the_end(joint: Run) -> None:
    train = joint.load_splits().train
    student = place(joint.load_student(), torch.device("cpu"))
    expected = student.bank(train.images, train.labels)
    assert torch.equal(joint.load_bank().keys, expected.keys)
    last = [row for row in joint.history() if row["stage"] == "student-graph"][-1]
    validation = joint.load_splits().validation
    student.network.label_scale.zero_()  # which was set after the last pass
    said = student(validation.images, expected).logits.argmax(1)
    assert (said == validation.labels).float().mean().item() == pytest.approx(last["accuracy"])


def test_the_twin_is_what_joint_training_without_a_graph_gives(joint: Run) -> None:
    alone = distil(tiny(joint.folder.parent, run="without", graph="none"))
    twin, _ = load_tensors(joint.stage_folder("twin") / "student.safetensors")
    assert same(load_tensors(alone.folder / "student.safetensors")[0], twin)


def test_kill_9_ends_with_the_same_bits(joint: Run, tmp_path: Path) -> None:
    config = tiny(tmp_path, run="joint", baselines="twin,undistilled")
    process, log = start(config), tmp_path / "joint" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and begun(log, "student-graph")):  # its first pass is done
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "joint" / "metrics.json").exists(), "it finished before it was killed"
    again = start(config)
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said
    for name in ("student.safetensors", "bank.safetensors", "nodes.safetensors"):
        expected, _ = load_tensors(joint.folder / name)
        assert same(expected, load_tensors(tmp_path / "joint" / name)[0]), name


def test_two_processes_train_one_stem(tmp_path: Path) -> None:
    few = {"train_images": 100, "epochs": 1, "graph_epochs": 2, "graph_batch_size": 50}
    config = tiny(tmp_path, run="two", **few)
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps(config.parameters()))
    run_in_two("-m", "cnn2gnn.distillation", str(file))
    run = Run.open(tmp_path / "two")
    assert run.manifest["stages"]["student-graph"]["hardware"]["world_size"] == 2
    assert not same(stem(run.folder / DISTILLED), stem(run.folder / "student.safetensors"))
    losses = [row["loss"] for row in run.history() if row["stage"] == "student-graph"]
    config = Config.from_parameters(config.parameters() | {"runs_dir": str(tmp_path / "alone")})
    alone = [row["loss"] for row in distil(config).history() if row["stage"] == "student-graph"]
    assert losses == pytest.approx(alone, rel=0.1)  # each draws dropout of its own

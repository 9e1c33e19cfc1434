"""Two processes with half a batch and half the bank each: losses, gradients, neighbours of one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_config
from lightning_fabric import Fabric
from torch import Tensor, nn

from cnn2gnn.base.files import load_tensors, save_tensors
from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation import features
from cnn2gnn.distillation.collectives import Shares
from cnn2gnn.distillation.graph_task import GraphTask
from cnn2gnn.distillation.loop import Recipe, Task, fit
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.sharded_search import ShardedSearch
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs import load_splits

TRAIN = {"train_images": 240, "augmentation": "none", "graph_views": 1}  # 215 of them, uneven
STEP = Recipe(1, 215, "sgd", 1.0, 0.0)  # one: weights move by the gradient times a constant
STEPS = Recipe(2, 51, "sgd", 0.5, 0.0, gradient_clip=1.0)
CASES: dict[str, tuple[dict[str, Any], Recipe]] = {
    "batch": ({"scope": "batch"}, STEP),
    "batch, several steps": ({"scope": "batch"}, STEPS),
    "batch, heads": ({"scope": "batch", "heads": 2}, STEP),
    "batch, pixels": ({"scope": "batch", "graph": "fixed"}, STEP),
    "bank": ({}, STEP),
    "bank, several steps": ({}, STEPS),
    "bank, heads": ({"heads": 2}, STEPS),
    "bank, cosine": ({"graph": "cosine"}, STEPS),
    "bank, pixels": ({"graph": "fixed"}, STEP),
    "batch, gcn": ({"scope": "batch", "layer": "gcn"}, STEP),
    "bank, anchors": ({"graph": "anchors"}, STEPS),
    "images compared": ({"loss": "relation"}, STEP),
    "classes compared": ({"loss": "dist"}, STEPS),
}


class Unvalidated:
    """A task whose training is all that matters."""

    def __init__(self, task: Task) -> None:
        self.module, self.size, self.loss = task.module, task.size, task.loss

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        return {}


class Told:
    """A teacher's answers without a teacher."""

    def logits(self, indices: Tensor, view: int, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return 3 * torch.randn(400, 10, generator=generator)[indices]


def new_student(config: Config) -> Student:
    """A student that draws nothing at random, and whose messages are not zero."""
    torch.manual_seed(0)
    student = Student(config.student, channels=1, size=8, classes=10, mean=[0.3], std=[0.4])
    student.network.dropout.p = 0.0
    for name, parameter in student.network.named_parameters():
        if "message" in name:
            nn.init.normal_(parameter, std=0.3)
    return student


def task_of(case: dict[str, Any], folder: Path, splits: Splits) -> Task:
    """Stage two, or one where the case is about a loss; in float64, for gradients are small."""
    config = small_config(folder, **TRAIN, **case)
    device = torch.device("cpu")
    if "loss" in case:
        student, told = new_student(config).double(), Told()
        return StudentTask(student, splits, told, config, LOSSES[case["loss"]], device)  # type: ignore[arg-type]
    task = GraphTask(new_student(config), splits, config, device)
    task.module.double()
    task.features.clean = task.features.clean.double()
    task.features._views = {1: task.features.view(1).double()}
    return task


def work(folder: Path, fabric: Fabric) -> None:
    """What one process does, and each of two: train every case, and search among real keys."""
    splits = load_splits(small_config(folder, **TRAIN).data)
    features.CHUNK = 50  # five of them, and two processes
    for number, (case, recipe) in enumerate(CASES.values()):
        task, rows = task_of(case, folder, splits), []
        start = {name: p.detach().clone() for name, p in task.module.named_parameters()}
        trained = fit(Unvalidated(task), recipe, fabric, folder / f"fit-{number}", rows.append)
        moved = {name: p.detach() - start[name] for name, p in trained.named_parameters()}
        if fabric.is_global_zero:
            moved["losses"] = torch.tensor([row["loss"] for row in rows])
            save_tensors(folder / f"{number}.safetensors", moved)
    task = task_of({}, folder, splits)
    assert isinstance(task, GraphTask)
    keys = task.module.keys(task.features.clean).detach()  # (215, d)
    mine = torch.arange(len(keys)).tensor_split(fabric.world_size)[fabric.global_rank]
    if fabric.world_size == 1:
        found = chosen_distances(keys, keys, 21, mine)[0]
    else:
        search = ShardedSearch(len(keys))
        found = search(keys[mine], keys[search.rows], 21, mine)
    task, looked = task_of({}, folder, splits), []
    task.student.stem.register_forward_hook(lambda stem, images, z: looked.append(len(z)))
    seen = {"features": task.features.view(2), "looked": torch.tensor(looked)}
    save_tensors(folder / f"found-{fabric.global_rank}.safetensors", {"found": found, **seen})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process has left, and what two have."""
    from test_processes import run_in_two  # with notebooks, which the two do without

    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    run_in_two(str(Path(__file__)), str(two))
    work(one, make_fabric("cpu", 1, 1, "64-true"))
    return one, two


@pytest.mark.parametrize("name", CASES)
def test_two_shares_give_losses_and_gradients_of_the_whole(
    folders: tuple[Path, Path], name: str
) -> None:
    file = f"{list(CASES).index(name)}.safetensors"
    one, two = (load_tensors(folder / file)[0] for folder in folders)
    learned = [n for n, moved in one.items() if moved.abs().max() > 1e-6]
    assert any("stem" in n for n in learned) or "layer1.weight" in learned
    if name in ("batch", "bank", "batch, heads", "bank, cosine"):
        assert "project.weight" in learned, "no gradient reached the keys"
    for parameter, moved in one.items():
        scale = moved.abs().max().item()
        torch.testing.assert_close(
            two[parameter], moved, rtol=1e-5, atol=1e-5 * scale, msg=parameter
        )


def test_half_the_bank_each_finds_the_neighbours_of_the_whole(folders: tuple[Path, Path]) -> None:
    one, two = folders
    halves = [load_tensors(two / f"found-{rank}.safetensors")[0]["found"] for rank in (0, 1)]
    assert torch.cat(halves).equal(load_tensors(one / "found-0.safetensors")[0]["found"])


def test_each_process_looks_at_a_share_of_the_images_and_has_the_features_of_all(
    folders: tuple[Path, Path],
) -> None:
    one, *two = (
        load_tensors(folder / f"found-{rank}.safetensors")[0]
        for folder, rank in zip((folders[0], *[folders[1]] * 2), (0, 0, 1), strict=True)
    )
    assert one["looked"].tolist() == [50, 50, 50, 50, 40]
    # the second has nothing to do in the last turn
    assert [part["looked"].tolist() for part in two] == [[50, 50, 40], [50, 50, 40]]
    for part in two:
        torch.testing.assert_close(part["features"], one["features"], rtol=1e-6, atol=1e-6)


def test_a_single_process_has_it_all() -> None:
    rows = torch.randn(5, 3)
    shares = Shares.of(rows)
    assert shares.gathered(rows) is rows and shares.mine == slice(0, 5)


if __name__ == "__main__":  # one of torchrun's
    work(Path(sys.argv[1]), make_fabric("cpu", int(os.environ["WORLD_SIZE"]), 1, "64-true"))

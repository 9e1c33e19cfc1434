"""Stage two: who meets whom, and what moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_config
from torch import Tensor, nn

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation import graph_task
from cnn2gnn.distillation.distil import distil
from cnn2gnn.distillation.features import StemFeatures
from cnn2gnn.distillation.graph_task import GraphTask
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student, StudentOutput
from cnn2gnn.registry import LEARNERS
from cnn2gnn.runs import load_splits


def make(tmp_path: Path, **more: object) -> tuple[GraphTask, Config, Splits]:
    config = small_config(tmp_path, train_images=300, **more)
    splits = load_splits(config.data)
    torch.manual_seed(0)
    student = Student(
        config.student, channels=1, size=8, classes=10, mean=[0.3], std=[0.4]
    )  # fmt: skip
    return GraphTask(student, splits, config, torch.device("cpu")), config, splits


def met(task: GraphTask, indices: Tensor, epoch: int) -> tuple[tuple, StudentOutput]:
    """What the network was given for a batch, and what it said."""
    seen = []
    task.module.register_forward_hook(lambda _, given, out: seen.append((given, out)))
    task.loss(task.module, indices, epoch)
    return seen[-1]


def test_in_mixed_precision_keys_and_features_are_not_rounded(tmp_path: Path) -> None:
    """As Lightning would do with all that a module is given."""
    task, _, _ = make(tmp_path)
    fabric = make_fabric("cpu", 1, 1, "bf16-mixed")
    model = fabric.setup(task.module)
    seen, products = [], set()
    task.module.register_forward_pre_hook(lambda _, given: seen.append(given))
    task.module.layer1.register_forward_hook(lambda _, __, out: products.add(out.dtype))
    indices = torch.arange(40)
    fabric.backward(task.loss(model, indices, 0))
    ((x, bank, _, _),) = seen
    assert torch.equal(x, task.features.view(1)[indices])
    keys = task.module.keys(task.features.clean)
    assert bank.keys.dtype == torch.float32
    between = torch.cdist(bank.keys, keys, compute_mode="donot_use_mm_for_euclid_dist")
    assert between.min(1).values.max() < 1e-4
    assert torch.bfloat16 in products, "autocast is on"


@pytest.mark.parametrize("graph", [name for name in LEARNERS if name != "none"])
def test_a_training_image_never_meets_itself(tmp_path: Path, graph: str) -> None:
    task, _, _ = make(tmp_path, graph=graph)
    indices = torch.randperm(300)[:40]
    (_, bank, _, _), out = met(task, indices, 0)
    own = task.module.keys(task.features.clean)[indices]  # (40, d)
    exact = "donot_use_mm_for_euclid_dist"
    between = torch.cdist(own, bank.keys, compute_mode=exact)  # (40, m)
    itself = between.gather(1, out.graph.neighbours)[out.graph.weights > 0]
    assert itself.min() > 1e-3
    if graph == "random":
        assert between.min(1).values.max() < 1e-3, "not even in the bank"


@pytest.mark.parametrize(
    ("graph", "layer"),
    [
        *((name, "mean") for name in LEARNERS if name not in ("none", "random")),
        *(("adaptive", layer) for layer in ("attention", "gcn")),
    ],
)
def test_the_part_of_the_bank_that_is_searched_decides_as_the_whole_would(
    tmp_path: Path, graph: str, layer: str
) -> None:
    task, _, splits = make(tmp_path, graph=graph, layer=layer)
    network, indices = task.module.eval(), torch.arange(50, 90)
    (x, bank, _, pixels), out = met(task, indices, 0)
    clean = task.features.clean
    whole = network.settled(network.bank(clean, splits.train.labels, task.clean_pixels))
    expected = network(x, whole, indices, pixels)
    torch.testing.assert_close(out.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert len(bank) <= len(whole)


def test_queries_come_in_augmented_views_and_the_bank_is_clean(tmp_path: Path) -> None:
    task, config, splits = make(tmp_path)
    indices = torch.arange(20)
    for epoch in range(5):
        (x, *_), _ = met(task, indices, epoch)
        view = 1 + epoch % config.training.graph_views
        images = splits.train.view(indices, view, splits.train.augmentation_for("auto"))
        torch.testing.assert_close(x, task.student.features(images), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(task.features.clean, task.student.features(splits.train.images))


def test_residuals_are_those_of_the_pass(tmp_path: Path) -> None:
    task, _, _ = make(tmp_path, graph="random")  # which meets the whole bank
    (_, before, _, _), _ = met(task, torch.arange(20), 0)
    nn.init.normal_(task.module.layer2.weight)
    (_, same, _, _), _ = met(task, torch.arange(20), 0)
    (_, after, _, _), _ = met(task, torch.arange(20), 1)
    assert torch.equal(before.probabilities, same.probabilities)
    expected = task.module.eval().base(task.features.clean).softmax(1)
    torch.testing.assert_close(after.probabilities, expected)
    assert not torch.equal(after.probabilities, before.probabilities)


def test_the_stem_stands_still(tmp_path: Path) -> None:
    task, _, _ = make(tmp_path)
    before = {name: t.clone() for name, t in task.student.stem.state_dict().items()}
    task.module.train()
    task.loss(task.module, torch.arange(30), 0).backward()
    assert all(p.grad is None for p in task.student.stem.parameters())
    assert not task.student.stem.training
    assert all(torch.equal(t, before[name]) for name, t in task.student.stem.state_dict().items())


def test_the_twin_meets_nobody(tmp_path: Path) -> None:
    task, _, _ = make(tmp_path, graph="none")
    (_, bank, exclude, _), out = met(task, torch.arange(30), 0)
    assert bank is None and exclude is None and out.graph is None


def test_a_step_has_the_same_bits_on_every_run(tmp_path: Path) -> None:
    task, _, _ = make(tmp_path, k=20)
    task.module.eval()  # no dropout

    def gradient() -> Tensor:
        task.module.zero_grad()
        task.loss(task.module, torch.arange(200), 0).backward()
        return task.module.project.weight.grad.clone()

    first = gradient()
    assert all(torch.equal(first, gradient()) for _ in range(10))


@pytest.mark.parametrize("graph", ["adaptive", "gumbel", "cosine", "fixed", "random"])
def test_of_candidates_among_earlier_keys_those_of_now_decide_as_among_the_whole(
    tmp_path: Path, graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _, splits = make(tmp_path, graph=graph)
    searched, candidates = [], task.module.candidates

    def look(x: Tensor, nodes: Bank, *rest: object) -> Tensor | None:
        searched.append(nodes)
        return candidates(x, nodes, *rest)

    monkeypatch.setattr(task.module, "candidates", look)
    monkeypatch.setattr(graph_task, "LATELY", 2)
    network = task.module.eval()
    for epoch in (0, 0, 0, 1):
        indices = torch.randperm(300)[:40]
        (x, bank, _, pixels), out = met(task, indices, epoch)
        nodes = network.bank(task.features.clean, splits.train.labels, task.clean_pixels)
        whole = network.settled(nodes)
        expected = network(x, whole, indices, pixels)
        torch.testing.assert_close(out.logits, expected.logits)
        assert len(bank) <= 300
    first, again, third, other = searched
    assert first is again and third is not again and other is not third
    if network.learner.space == "features":
        with torch.no_grad():  # within a pass keys move; of those found, the nearest now are taken
            network.project.weight.mul_(1 + 0.01 * torch.randn_like(network.project.weight))
        (x, _, _, _), out = met(task, indices, 1)
        moved = replace(whole, keys=network.keys(task.features.clean))
        expected = network(x, moved, indices)
        torch.testing.assert_close(out.logits, expected.logits)
        assert searched[4] is other  # keys of before


def test_the_twin_sees_what_the_student_saw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Counted(StemFeatures):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(graph_task, "StemFeatures", Counted)
    accuracies = []
    for name, alike in (("shared", True), ("each", False)):
        config = small_config(tmp_path, train_images=200, baselines="twin", run=name)
        if not alike:
            monkeypatch.setattr(StemFeatures, "are_of", lambda *_: False)
        run = distil(config)
        accuracies.append([row.get("accuracy") for row in run.history()])
        twin = run.load_student("twin").network.state_dict()
        made.append(twin)
        run.unlock()
    (_, shared, _, _, each) = made
    assert accuracies[0] == accuracies[1]
    assert all(torch.equal(shared[part], each[part]) for part in shared)

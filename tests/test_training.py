"""The training loop: order, schedule, checkpoints, divergence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn

from cnn2gnn.base.files import BrokenFileError, load_tensors
from cnn2gnn.config import Config
from cnn2gnn.distillation.loop import (
    CHECKPOINT,
    RANKS_APART,
    NotFiniteError,
    Recipe,
    batches,
    fit,
    make_optimizer,
    one_cycle,
)
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.students import KEYS_SHARE, graph_recipe

RECIPE = Recipe(epochs=4, batch_size=8, optimizer="adamw", learning_rate=0.05, weight_decay=0.01)
FABRIC = make_fabric("cpu", 1, 1, "32-true")


class LineTask:
    """Linear regression with dropout, small enough to be trained in a blink."""

    def __init__(self, explode_at: int | None = None, stop_at: int | None = None) -> None:
        torch.manual_seed(1)
        self.module: nn.Module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.x = torch.randn(40, 3)
        self.y = self.x.sum(1, keepdim=True)
        self.size = 40
        self.explode_at, self.stop_at = explode_at, stop_at
        self.modes: list[tuple[str, bool]] = []

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        if epoch == self.stop_at:
            raise KeyboardInterrupt
        self.modes.append(("loss", self.module.training))
        loss = (model(self.x[indices]) - self.y[indices]).square().mean()
        return loss * float("nan") if epoch == self.explode_at else loss

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        self.modes.append(("validate", module.training))
        with torch.no_grad():
            return {"error": (module(self.x) - self.y).square().mean().item()}


def train(task: LineTask, folder: Path, recipe: Recipe = RECIPE) -> tuple[nn.Module, list[Any]]:
    rows: list[Any] = []
    return fit(task, recipe, FABRIC, folder, rows.append), rows


def test_a_parameter_may_learn_at_a_share_of_the_rate(tmp_path: Path) -> None:
    """Adam's first steps are as long as the rate: here, weights without decay."""
    plain = replace(RECIPE, epochs=1, weight_decay=0.0, gradient_clip=0.0)
    start = {name: p.detach().clone() for name, p in LineTask().module.named_parameters()}

    def moved(folder: str, recipe: Recipe) -> dict[str, float]:
        module, _ = train(LineTask(), tmp_path / folder, recipe)
        return {n: (p - start[n]).abs().max().item() for n, p in module.named_parameters()}

    all_alike = moved("alike", plain)
    slow = moved("slow", replace(plain, shares={"0.weight": 0.1, "weight": 1.0}))
    assert slow["0.weight"] < 0.15 * all_alike["0.weight"]
    assert slow["2.weight"] > 0.5 * all_alike["2.weight"]
    assert moved("still", replace(plain, shares={"bias": 0.0}))["0.bias"] == 0


def test_shares_leave_the_order_of_a_checkpoint() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))
    groups = [
        [id(p) for group in make_optimizer(module, recipe).param_groups for p in group["params"]]
        for recipe in (RECIPE, replace(RECIPE, shares={"1.weight": 0.1}))
    ]
    assert groups[0] == groups[1]


def test_of_a_student_only_the_keys_learn_slowly() -> None:
    for stage_two, end in (("frozen", ""), ("joint", "network.")):
        recipe = graph_recipe(Config.from_parameters(stage_two=stage_two))
        assert recipe.share(f"{end}project.weight") == KEYS_SHARE < 1
        assert recipe.share(f"{end}layer1.weight") == 1
    assert recipe.share("student.stem.project.weight") == 1, "a stem may have one of that name"


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_and_logs_every_epoch(tmp_path: Path) -> None:
    _, rows = train(LineTask(), tmp_path)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["error"] < rows[0]["error"] / 2
    assert all(row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_training_ends_with_the_same_bits(
    tmp_path: Path, optimizer: str, ema: float, stop_at: int
) -> None:
    recipe = Recipe(4, 8, optimizer, 0.02, 0.01, gradient_clip=1.0, ema=ema)
    whole, _ = train(LineTask(), tmp_path / "whole", recipe)
    with pytest.raises(KeyboardInterrupt):
        train(LineTask(stop_at=stop_at), tmp_path / "broken", recipe)
    resumed, rows = train(LineTask(), tmp_path / "broken", recipe)
    assert [row["epoch"] for row in rows] == list(range(stop_at, 4))
    assert same_bits(whole, resumed)


def halves() -> Fabric:
    """16-mixed as on a GPU, on the CPU; its scale begins too high, and rises every third step."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=3)
    return Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu", scaler))


def test_half_precision_goes_on_with_its_scale(tmp_path: Path) -> None:
    whole, broken, again = halves(), halves(), halves()
    expected = fit(LineTask(), RECIPE, whole, tmp_path / "whole", lambda row: None)
    with pytest.raises(KeyboardInterrupt):
        fit(LineTask(stop_at=2), RECIPE, broken, tmp_path / "broken", lambda row: None)
    resumed = fit(LineTask(), RECIPE, again, tmp_path / "broken", lambda row: None)
    assert same_bits(expected, resumed)
    states = [fabric.strategy.precision.state_dict() for fabric in (whole, again, halves())]
    assert states[0] == states[1] != states[2]


def test_an_epoch_that_was_not_logged_is_repeated(tmp_path: Path) -> None:
    def full(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        fit(LineTask(), RECIPE, FABRIC, tmp_path, full)
    _, rows = train(LineTask(), tmp_path)
    assert [row["epoch"] for row in rows] == [2, 3]


def test_averaged_weights_differ_from_the_last_ones(tmp_path: Path) -> None:
    plain, _ = train(LineTask(), tmp_path / "plain")
    averaged, _ = train(LineTask(), tmp_path / "ema", Recipe(4, 8, "adamw", 0.05, 0.01, ema=0.9))
    assert not same_bits(plain, averaged)


def test_the_module_trains_in_training_mode_only(tmp_path: Path) -> None:
    task = LineTask()
    module, _ = train(task, tmp_path)
    assert {mode for mode in task.modes if mode[0] == "loss"} == {("loss", True)}
    assert {mode for mode in task.modes if mode[0] != "loss"} == {("validate", False)}
    assert not module.training


def test_divergence_names_the_step_and_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"nan in step 0 of epoch 2 .*checkpoint\.safeten"):
        train(LineTask(explode_at=2), tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    with pytest.raises(NotFiniteError, match="no checkpoint yet"):
        train(LineTask(explode_at=0), tmp_path / "other")


def test_weights_that_the_last_step_spoils_are_not_kept(tmp_path: Path) -> None:
    class LastStep(LineTask):
        """Its loss is finite in every step; the gradient of the root at 0 is not."""

        def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
            loss = super().loss(model, indices, epoch)
            last = sum(mode == "loss" for mode, _ in self.modes) == 4 * 5
            return loss + (0 * loss).sqrt() if last else loss

    with pytest.raises(NotFiniteError, match=r"weights are not finite .* epoch 3 .*checkpoint"):
        train(LastStep(), tmp_path)
    checkpoint, _ = load_tensors(tmp_path / CHECKPOINT)
    assert all(tensor.isfinite().all() for tensor in checkpoint.values())


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(LineTask(stop_at=1), tmp_path)
    task = LineTask()
    task.module = nn.Sequential(nn.Linear(3, 9), nn.Dropout(0.5), nn.Linear(9, 1))
    with pytest.raises(ValueError, match=r"0\.weight has shape \(8, 3\) where \(9, 3\)"):
        train(task, tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"1234")
    with pytest.raises(BrokenFileError, match="damaged"):
        train(LineTask(), tmp_path)


def test_an_epoch_shows_each_image_once_in_an_order_of_its_own() -> None:
    orders = [torch.cat(list(batches(40, RECIPE, epoch, FABRIC))) for epoch in (0, 1, 0)]
    assert all(order.sort().values.tolist() == list(range(40)) for order in orders)
    assert orders[0].equal(orders[2]) and not orders[0].equal(orders[1])
    assert [len(b) for b in batches(21, RECIPE, 0, FABRIC)] == [8, 8]  # the rest is dropped


def test_the_schedule_rises_to_one_and_falls_to_zero() -> None:
    rates = [one_cycle(i / 1000) for i in range(1001)]
    assert max(rates) == pytest.approx(1.0, abs=1e-3) and rates[-1] == pytest.approx(0, abs=1e-6)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_each_rank_draws_dropout_of_its_own() -> None:
    """A CPU looks at the lower 32 bits of a seed alone."""
    drawn = []
    for rank in range(8):
        torch.manual_seed(7 + RANKS_APART * rank)
        drawn.append(torch.rand(8))
    assert not any(one.equal(other) for i, one in enumerate(drawn) for other in drawn[:i])

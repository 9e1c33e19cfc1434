"""The one training loop, for teachers and students alike, on Lightning Fabric.

What an epoch draws at random (order, dropout, views) is a function of (seed, epoch), and the
learning rate is a function of the step. A checkpoint therefore needs no generator and no
scheduler state, and a killed run continues to the same weights, bit for bit on a CPU.

Several processes do what one does: each takes its share of the same batches, batch norm and the
mean of the gradients count the whole batch, and rank 0 alone validates, logs and writes. Only what
is drawn within the model differs: each process draws dropout of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from cnn2gnn.base.files import load_state, load_tensors, save_tensors
from cnn2gnn.distillation.batch_norm import synchronise
from cnn2gnn.distillation.narrow import in_float32

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint.safetensors"
RANKS_APART = 0x9E3779B1  # between seeds; of these a CPU takes the lower 32 bits, so an odd number
ModuleType = TypeVar("ModuleType", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """Length and optimiser of a training.

    `optimizer` is "adamw" or "sgd" (Nesterov momentum 0.9); `learning_rate` the peak of the
    one-cycle; `gradient_clip` the largest gradient norm, 0 for none; `ema` the decay of averaged
    weights, 0 for none. `shares` of the learning rate, by the end of a parameter's name.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    gradient_clip: float = 0.0
    ema: float = 0.0
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)

    def share(self, name: str) -> float:
        """Of the learning rate, for the parameter of this name."""
        return next((share for end, share in self.shares.items() if name.endswith(end)), 1.0)


class Task(Protocol):
    """What the loop does not know: the model, its loss and its validation."""

    size: int  # training images

    @property
    def module(self) -> nn.Module:
        """The model to be trained."""

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Mean loss of the training images `indices` `(B,)` in this epoch, a scalar.

        Of several processes all are asked at once, each for its share of a batch. The mean of what
        they say, weighted by share, is to be what one would say of the batch.
        """

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Metrics of `module`, in evaluation mode, on the validation split."""


class NotFiniteError(ArithmeticError):
    """The loss, or a weight, became NaN or infinite."""


def one_cycle(progress: float, warm_up: float = 0.2) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to zero (Smith 2018).

    Args:
        progress: steps done / steps in all, in [0, 1].
    """
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm_up) / (1 - warm_up))


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW or SGD; biases, norms and gates are not decayed."""
    named = [*module.named_parameters()]
    matrices = [(name, p) for name, p in named if p.ndim > 1]
    vectors = [(name, p) for name, p in named if p.ndim <= 1]
    groups = [
        {"params": [p for _, p in alike], "weight_decay": decay, "share": share}
        for decay, parameters in ((recipe.weight_decay, matrices), (0.0, vectors))
        for share, alike in groupby(parameters, lambda named: recipe.share(named[0]))
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def batches(size: int, recipe: Recipe, epoch: int, fabric: Fabric) -> Iterator[Tensor]:
    """Shuffled index batches `(B,)` of this rank; a last incomplete batch is dropped."""
    generator = torch.Generator().manual_seed(_seed(recipe, epoch))
    order = torch.randperm(size, generator=generator)
    batch = min(recipe.batch_size, size)
    for start in range(0, size - batch + 1, batch):
        mine = order[start : start + batch].tensor_split(fabric.world_size)[fabric.global_rank]
        yield mine.to(fabric.device)


def fit(
    task: Task,
    recipe: Recipe,
    fabric: Fabric,
    folder: Path,
    log: Callable[[dict[str, Any]], None],
    *,
    title: str = "training",
) -> nn.Module:
    """Train `task.module` and return it (its averaged twin with `ema`), in evaluation mode.

    A checkpoint is written to `folder` after every epoch; where one lies there, training
    continues from it. `log` gets one row per epoch: loss, validation metrics, seconds.

    Raises:
        NotFiniteError: names the step and the last good checkpoint.
    """
    module = place(task.module, fabric.device)
    if fabric.world_size > 1:
        synchronise(module, fabric.device)
    average = None
    if recipe.ema:
        averaging = get_ema_multi_avg_fn(recipe.ema)
        average = AveragedModel(module, multi_avg_fn=averaging, use_buffers=True)
    optimizer = make_optimizer(module, recipe)
    path = folder / CHECKPOINT
    resumes = fabric.broadcast(path.exists())  # all ranks do what rank 0 sees
    start = _restore(path, module, average, optimizer, fabric) if resumes else 0
    model, optimizer = fabric.setup(module, optimizer)
    evaluated = module if average is None else average.module
    silent = None if fabric.is_global_zero else True  # None: silent where no terminal is
    for epoch in tqdm(range(start, recipe.epochs), desc=title, unit="epoch", disable=silent):
        began = time.perf_counter()
        # dropout: each rank its own; rank 0 draws what a single process would
        torch.manual_seed(_seed(recipe, epoch) + RANKS_APART * fabric.global_rank)
        module.train()
        with in_float32(module):
            loss = _train_epoch(task, model, optimizer, average, recipe, fabric, epoch, path)
        module.eval()
        evaluated.eval()
        if fabric.is_global_zero:
            metrics = task.validate(evaluated, epoch)
            # logged first: an epoch killed in between is repeated and logged again, never lost
            log({"epoch": epoch, "loss": loss, **metrics, "seconds": time.perf_counter() - began})
            # of 16-mixed: by what the loss is scaled, and since when that went well
            scaling = fabric.strategy.precision.state_dict()
            state = _state(module, average, optimizer)
            save_tensors(path, state, {"epoch": epoch, "scaling": scaling})
        fabric.barrier()
    return evaluated.eval()


def place(module: ModuleType, device: torch.device) -> ModuleType:
    """Put `module` on `device`, channels-last where that is faster (not on MPS).

    For training and for use alike: convolutions of another layout round differently, and a model
    loaded again must give the same bits as one just trained.
    """
    layout = torch.preserve_format if device.type == "mps" else torch.channels_last
    return module.to(device).to(memory_format=layout)


def _train_epoch(
    task: Task,
    model: Any,
    optimizer: Any,
    average: AveragedModel | None,
    recipe: Recipe,
    fabric: Fabric,
    epoch: int,
    path: Path,
) -> float:
    """One pass over the training images; returns the mean loss."""
    steps = task.size // min(recipe.batch_size, task.size)
    total = 0.0
    for step, indices in enumerate(batches(task.size, recipe, epoch, fabric)):
        rate = one_cycle((epoch + step / steps) / recipe.epochs)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate * group["share"]
        optimizer.zero_grad()
        # DDP takes the plain mean over ranks, and shares may differ by an image
        share = len(indices) / min(recipe.batch_size, task.size)
        loss = task.loss(model, indices, epoch) * share
        value = _sum(loss, fabric)  # of all ranks: one that is not finite stops them all
        if not math.isfinite(value):
            raise _diverged(f"the loss is {value} in step {step} of epoch {epoch}", path)
        fabric.backward(loss * fabric.world_size)
        if recipe.gradient_clip:
            fabric.clip_gradients(
                model, optimizer, max_norm=recipe.gradient_clip, error_if_nonfinite=False
            )
        optimizer.step()
        if average is not None:
            average.update_parameters(model.module)
        total += value
    # what the last step did, no loss has seen
    if not all(tensor.isfinite().all() for tensor in model.module.state_dict().values()):
        raise _diverged(f"weights are not finite after the last step of epoch {epoch}", path)
    return total / steps


def _diverged(what: str, path: Path) -> NotFiniteError:
    kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint yet"
    return NotFiniteError(f"{what} ({kept}); lower the learning rate or clip the gradient")


def _sum(value: Tensor, fabric: Fabric) -> float:
    total = fabric.all_reduce(value.detach().clone(), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total.item()


def _seed(recipe: Recipe, epoch: int) -> int:
    return recipe.seed * 100_003 + epoch


def _state(
    module: nn.Module, average: AveragedModel | None, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Everything training needs to go on, as flat names: `module.…`, `average.…`, `optimizer.…`."""
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    if average is not None:
        state |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        state |= {
            f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()
        }
    return state


def _restore(
    path: Path,
    module: nn.Module,
    average: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
) -> int:
    """Load a checkpoint and return the epoch to go on with."""
    tensors, metadata = load_tensors(path)
    load_state(module, _under(tensors, "module."), path)
    if average is not None:
        load_state(average, _under(tensors, "average."), path)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimizer.").items():
        index, _, moment = name.partition(".")
        moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    if metadata.get("scaling"):
        fabric.strategy.precision.load_state_dict(metadata["scaling"])
    return int(metadata["epoch"]) + 1


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}

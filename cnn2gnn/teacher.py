"""The teacher: a CNN that is trained once per (data, configuration) and shared between runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.architectures import build_network
from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits, augment, channel_statistics
from cnn2gnn.files import load_state, load_tensors, save_tensors, write_json
from cnn2gnn.layers import Floats, Normalise
from cnn2gnn.runs import EpochLog
from cnn2gnn.training import CHECKPOINT, Recipe, fit, place

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Teacher(nn.Module):
    """A CNN that takes raw images.

    Args:
        network: any module from normalised images `(B, C, H, W)` to logits `(B, classes)`.
        mean, std: of the channels, in [0, 1] units, each of length C.
        name: what tables call it.
    """

    def __init__(self, network: nn.Module, mean: Floats, std: Floats, name: str) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.network = network
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        """uint8 images `(B, C, H, W)` to logits `(B, classes)`."""
        return self.network(self.normalise(images))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and the penultimate features `(B, d)`: what the last Linear is given."""
        linears = [m for m in self.network.modules() if isinstance(m, nn.Linear)]
        if not linears:
            raise ValueError(f"teacher {self.name} has no Linear layer to take features from")
        caught: list[Tensor] = []
        hook = linears[-1].register_forward_pre_hook(lambda _, args: caught.append(args[0]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        return logits, caught[0]

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(p.numel() for p in self.parameters())

    def fingerprint(self) -> str:
        """Hash of every weight and statistic: another training is another teacher."""
        digest = hashlib.sha256(type(self.network).__name__.encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            # as bytes: numpy knows no bfloat16
            digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


class TeacherTask:
    """Cross-entropy on augmented images; each epoch is a view of its own."""

    def __init__(
        self, teacher: Teacher, splits: Splits, augmentation: str, smoothing: float, device: Any
    ) -> None:
        self.module = teacher
        self.size = len(splits.train)
        self.images = splits.train.images.to(device)
        self.labels = splits.train.labels.to(device)
        self.validation = splits.validation
        self.augmentation, self.smoothing = augmentation, smoothing

    def begin_epoch(self, epoch: int) -> None:
        """Nothing to prepare."""

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Label-smoothed cross-entropy of the images `indices` `(B,)`."""
        images = augment(self.images[indices], indices, epoch + 1, self.augmentation)
        logits = model(images)  # (B, classes)
        return F.cross_entropy(logits, self.labels[indices], label_smoothing=self.smoothing)

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracy in [0, 1]."""
        logits = in_chunks(module, self.validation.images)
        return {"accuracy": accuracy(logits, self.validation.labels)}


@torch.inference_mode()
def in_chunks(function: Callable[[Tensor], Tensor], images: Tensor, size: int = 500) -> Tensor:
    """Apply `function` to `images` in pieces on its module's device; the result is on the CPU."""
    module = function if isinstance(function, nn.Module) else function.__self__  # type: ignore[attr-defined]
    device = next(module.parameters()).device
    return torch.cat([function(chunk.to(device)).float().cpu() for chunk in images.split(size)])


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of right predictions, in [0, 1]."""
    return (logits.argmax(1) == labels).float().mean().item()


@torch.no_grad()
def check_classes(teacher: Teacher, images: ImageSet) -> None:
    """Ask a teacher that was trained elsewhere for one image.

    Raises:
        ValueError: it does not answer with one logit per class.
    """
    device = next(teacher.parameters()).device
    teacher.eval()  # a single image has no batch statistics
    found, expected = tuple(teacher(images.images[:1].to(device)).shape), (1, len(images.classes))
    if found != expected:
        raise ValueError(
            f"teacher {teacher.name} gives logits of shape {found} for one image of "
            f"{images.name}; {expected} is needed"
        )


def new_teacher(config: Config, train: ImageSet) -> Teacher:
    """Return the configured teacher with fresh (seeded) or ImageNet weights."""
    torch.manual_seed(config.teacher.teacher_seed)
    mean, std = channel_statistics(train.images)
    name = config.teacher.teacher
    network = build_network(
        name, train.channels, train.size, len(train.classes), config.teacher.teacher_weights
    )
    return Teacher(network, mean, std, name)


def teacher_folder(config: Config, splits: Splits) -> Path:
    """Where this teacher lies: named by the hash of its data and configuration."""
    return Path(config.run.runs_dir) / "teachers" / _key(config, splits)


def obtain_teacher(config: Config, splits: Splits, fabric: Fabric) -> Teacher:
    """Return the trained teacher in evaluation mode: loaded if it exists, trained if not.

    Two processes that need the same teacher train it once: the second waits.

    Raises:
        BrokenFileError: the stored weights are damaged.
        NotFiniteError: training diverged.
    """
    folder = teacher_folder(config, splits)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "teacher.safetensors"
    teacher = new_teacher(config, splits.train)
    with FileLock(folder / ".lock") if fabric.is_global_zero else nullcontext():
        fabric.barrier()  # the ranks of one run look together
        if not path.exists():
            _train(teacher, config, splits, fabric, folder)
            if fabric.is_global_zero:
                save_tensors(path, teacher.state_dict(), {"name": teacher.name})
                (folder / CHECKPOINT).unlink(missing_ok=True)
        fabric.barrier()
    load_state(teacher, load_tensors(path)[0], path)  # one teacher for all ranks
    return place(teacher, fabric.device).eval()


def _train(teacher: Teacher, config: Config, splits: Splits, fabric: Fabric, folder: Path) -> None:
    settings = config.teacher
    recipe = Recipe(
        epochs=settings.teacher_epochs,
        batch_size=settings.teacher_batch_size,
        optimizer="sgd",
        learning_rate=settings.teacher_learning_rate,
        weight_decay=settings.teacher_weight_decay,
        gradient_clip=5.0,
        seed=settings.teacher_seed,
    )
    smoothing = settings.teacher_label_smoothing
    task = TeacherTask(teacher, splits, config.data.recipe, smoothing, fabric.device)
    write_json(folder / "teacher.json", asdict(settings) | {"dataset": splits.train.name})
    fit(task, recipe, fabric, folder, EpochLog(folder, "teacher"), title=f"teacher {teacher.name}")


def _key(config: Config, splits: Splits) -> str:
    content = [
        asdict(config.teacher),
        config.data.recipe,
        splits.train.fingerprint,
        splits.validation.fingerprint,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

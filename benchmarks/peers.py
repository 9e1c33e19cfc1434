"""How others train: a plain loop, and torchdistill's, fed by torchvision and a `DataLoader`."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from cnn2gnn.data import ImageSet, channel_statistics
from cnn2gnn.distillation.loop import one_cycle
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher

BATCH = 128
SGD: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
TEMPERATURE, WEIGHT = 4.0, 0.5


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's CIFAR hands them out: PIL images through its transforms."""

    def __init__(self, images: ImageSet) -> None:
        self.images = [to_pil_image(image) for image in images.images]
        self.labels = images.labels.tolist()
        mean, std = channel_statistics(images.images)
        side = images.size
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(side, padding=side // 8),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean.tolist(), std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class OnFloats(nn.Module):
    """A student without its graph, on normalised images, as peers feed them."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.stem, self.network = student.stem, student.network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.base(self.stem(images))


def loader(images: ImageSet) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches; without workers, which would take the cores from the networks."""
    return DataLoader(PilImages(images), BATCH, shuffle=True, drop_last=True)


def plain_epoch(
    student: Student,
    teacher: Teacher,
    batches: DataLoader[tuple[Tensor, int]],
    *,
    channels_last: bool = False,
    mixed: bool = False,
) -> None:
    """What everybody writes: the teacher answers in every step."""
    model, expert = OnFloats(student).train(), teacher.network.eval()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model, expert = model.to(memory_format=layout), expert.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for images, labels in batches:
        images = images.to(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            with torch.no_grad():
                soft = expert(images).float()
            logits = model(images).float()
        loss = kd(logits, soft, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # logged, as everywhere


def kd(logits: Tensor, soft: Tensor, labels: Tensor) -> Tensor:
    """Hinton's loss, as it stands in most scripts."""
    divergence = F.kl_div(
        F.log_softmax(logits / TEMPERATURE, 1),
        F.softmax(soft / TEMPERATURE, 1),
        reduction="batchmean",
    )
    return (1 - WEIGHT) * F.cross_entropy(logits, labels) + WEIGHT * TEMPERATURE**2 * divergence


class TorchDistill:
    """torchdistill's box and the loop of its example for image classification.

    Args:
        epochs: of the whole training, over which the learning rate goes through one cycle.
    """

    def __init__(
        self, student: Student, teacher: Teacher, images: ImageSet, epochs: int = 1
    ) -> None:
        from torchdistill.core.distillation import DistillationBox

        self.box = DistillationBox(
            copy.deepcopy(teacher.network),  # its layout stays as it is
            OnFloats(student),
            {"train": PilImages(images)},
            _config(epochs * (len(images) // BATCH)),
            torch.device("cpu"),
            None,
            False,
            1,
        )

    def epoch(self, epoch: int = 0) -> None:
        """One pass, without validation."""
        self.box.pre_epoch_process(epoch=epoch)
        for images, labels, supplement in self.box.train_data_loader:
            loss = self.box.forward_process(images, labels, supplement)
            self.box.post_forward_process(loss=loss)
            loss.item()
        self.box.post_epoch_process()


def _config(steps: int) -> dict[str, object]:
    """The sections that a YAML file of its examples has, for a training of so many steps."""
    of_logits = {"module_path": ".", "module_io": "output"}
    criterion = {
        "key": "KDLoss",
        "kwargs": {
            **{f"student_{name}": value for name, value in of_logits.items()},
            **{f"teacher_{name}": value for name, value in of_logits.items()},
            "temperature": TEMPERATURE,
            "alpha": 1 - WEIGHT,
            "reduction": "batchmean",
        },
    }
    model = {"forward_proc": "forward_batch_only"}
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": BATCH, "drop_last": True},
        },
        "teacher": {**model, "requires_grad": False},
        "student": {**model, "requires_grad": True},
        "optimizer": {"key": "SGD", "kwargs": dict(SGD)},
        "scheduler": {
            "key": "LambdaLR",
            "kwargs": {"lr_lambda": lambda step: one_cycle(min(1, step / max(1, steps)))},
            "scheduling_step": 1,
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": criterion, "weight": 1.0}}},
        },
    }

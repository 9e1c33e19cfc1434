"""Stage one: stem and base branch are distilled, without any graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation.cache import TeacherCache, view_of
from cnn2gnn.distillation.collectives import Shares
from cnn2gnn.evaluation.metrics import accuracy
from cnn2gnn.evaluation.protocols import no_graph
from cnn2gnn.models.student import Student
from cnn2gnn.runs.trials import Loss


class StudentTask:
    """Distillation of one student's base branch.

    The graph comes afterwards (`GraphTask`): trained together from the start, the stem was no
    better, the keys of the bank grew stale, and every epoch paid for the search.

    Args:
        student: to be trained.
        splits: its data; only train and validation are used.
        cache: the teacher's logits; None trains on labels alone.
        config: all parameters.
        loss: of student and teacher logits, with `temperature` and `weight`; see `registry.LOSSES`.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        cache: TeacherCache | None,
        config: Config,
        loss: Loss,
        device: torch.device,
    ) -> None:
        self.module = student
        self.size = len(splits.train)
        self.train = splits.train.to(device)
        self.validation = splits.validation
        self.cache, self.config = cache, config
        self.distillation_loss = loss
        self.augmentation = splits.train.augmentation_for(config.data.augmentation)

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """KD on the images `indices` `(B,)`, in this epoch's view."""
        images = self.images(indices, epoch)
        return self.distillation(model(images).logits, images, indices, epoch)

    def images(self, indices: Tensor, epoch: int) -> Tensor:
        """The training images `indices` in this epoch's view, `(B, C, H, W)`."""
        return self.train.view(indices, self._view(epoch), self.augmentation)

    def distillation(self, logits: Tensor, images: Tensor, indices: Tensor, epoch: int) -> Tensor:
        """Loss of the base branch's `logits` `(B, C)` on `images`, which `images` has given."""
        training, labels = self.config.training, self.train.labels[indices]
        if self.cache is None:
            return F.cross_entropy(logits.float(), labels)
        told = self.cache.logits(indices, self._view(epoch), images)
        # some losses compare the images of a batch: every process sees those of all
        shares = Shares.of(labels)
        return self.distillation_loss(
            *(shares.gathered(each) for each in (logits.float(), told, labels)),
            temperature=training.temperature,
            weight=training.kd_weight,
        )

    def _view(self, epoch: int) -> int:
        # also without a teacher: else two things differed
        return view_of(epoch, self.config.training.views)

    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """Validation accuracy in [0, 1], without a graph."""
        assert isinstance(module, Student)
        logits = no_graph(module, self.validation.images).logits
        return {"accuracy": accuracy(logits, self.validation.labels.to(logits.device))}

"""Stage two in which the stem goes on: the graph is learned on features that move."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cnn2gnn.config import Config
from cnn2gnn.data import Splits
from cnn2gnn.distillation.cache import TeacherCache
from cnn2gnn.distillation.graph_task import GraphTask
from cnn2gnn.distillation.student_task import StudentTask
from cnn2gnn.models.output import StudentOutput
from cnn2gnn.models.student import Student
from cnn2gnn.runs.trials import Loss


class JointTask(GraphTask):
    """The graph network, and stage one, which goes on beside it.

    loss = stage two(x*) + stage one(x)       x by the stem, x* by the stem before this pass

    The graph's loss ends at x*: where it reached the stem, the keys of the bank grew stale within
    a pass. So that bank and queries are of one stem, both are looked at before each pass, with the
    running statistics of batch norm, as test images are. Stage one goes on with its own views and
    the statistics of the batch. A pass costs what one of stage one does, and two looks at all
    training images, more than where the stem stands still. The twin has the same, without a graph.

    Args:
        cache, loss: of stage one, see `StudentTask`; the others as for `GraphTask`.
    """

    def __init__(
        self,
        student: Student,
        splits: Splits,
        config: Config,
        device: torch.device,
        snapshots: Path | None = None,
        *,
        cache: TeacherCache | None,
        loss: Loss,
    ) -> None:
        super().__init__(student, splits, config, device, snapshots)
        self.module = _Both(self.student)
        here = splits._replace(train=self.train)  # on the device already
        self.stage_one = StudentTask(self.student, here, cache, config, loss, device)
        self._after = 0  # passes of the stem that the features were taken after

    def loss(self, model: nn.Module, indices: Tensor, epoch: int) -> Tensor:
        """Losses of both stages on the training images `indices` `(B,)`."""
        self._look_after(epoch)
        one = self.config.training.epochs + epoch  # stage one's next epoch
        images = self.stage_one.images(indices, one)
        base_logits, out = model(images, *self._query(indices, epoch))
        distillation = self.stage_one.distillation(base_logits, images, indices, one)
        return self._by_labels(out, indices) + distillation

    @torch.no_grad()
    def validate(self, module: nn.Module, epoch: int) -> dict[str, float]:
        """As `GraphTask.validate`, with the stem as it is after the pass."""
        self._look_after(epoch + 1)
        return super().validate(self.network, epoch)

    def learn_label_scale(self) -> None:
        """As `GraphTask.learn_label_scale`, with the stem as it is now."""
        self._look_after(self.config.training.graph_epochs)
        super().learn_label_scale()

    def _look_after(self, passes: int) -> None:
        """Take the features after so many passes, unless it has been done."""
        if self._after == passes:
            return
        # rank 0 looks alone where it validates
        self.features = self._look(shared=False)
        learner = self.network.learner
        if learner is not None and not learner.learns_keys:
            # nothing else would let them follow
            self.network.start_keys(self.features.clean, self.train.labels)
        self._after = passes


class _Both(nn.Module):
    """Stem and graph network in one forward: processes add up the gradients of one."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor, *query: Tensor) -> tuple[Tensor, StudentOutput]:
        """Logits of the base branch `(B, C)` for images, and what the network says of `query`."""
        return self.student(images).logits, self.student.network(*query)

"""What a stem that stands still makes of the images: looked at once, whoever learns from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import module_hash
from cnn2gnn.data import ImageSet
from cnn2gnn.distillation.collectives import Shares, several_processes
from cnn2gnn.models.student import Student

CHUNK = 500  # images at a time


class StemFeatures:
    """Features of the training images, clean and in augmented views, and of the validation images.

    Args:
        student: whose stem looks, as it is now.
        train, validation: on the student's device.
        augmentation: of the views.
        shared: of P processes, which all ask at once, each looks at every P-th chunk of images and
            tells the others. A chunk is what one process would look at, so the features are the
            same, to the bit. False: this process looks at all of them.

    Attributes:
        clean: features of the training images, `(M, d)`.
        held_out: features of the validation images, `(V, d)`.
    """

    def __init__(
        self,
        student: Student,
        train: ImageSet,
        validation: ImageSet,
        augmentation: str,
        shared: bool = True,
    ) -> None:
        self.student, self.train, self.augmentation = student, train, augmentation
        self.shared = shared and several_processes()
        self.clean = self._of(len(train), lambda rows: train.images[rows])
        self.held_out = self._of(len(validation), lambda rows: validation.images[rows])
        self._views: dict[int, Tensor] = {}  # each (M, d), once it is asked for
        self._stem = module_hash(student.stem)

    def view(self, view: int) -> Tensor:
        """Features of the training images in an augmented view, `(M, d)`."""
        if view not in self._views:
            self._views[view] = self._of(
                len(self.train), lambda rows: self.train.view(rows, view, self.augmentation)
            )
        return self._views[view]

    def are_of(self, student: Student) -> bool:
        """Whether the stem of another student of the same run would say the same."""
        return module_hash(student.stem) == self._stem

    @torch.no_grad()
    def _of(self, count: int, images: Callable[[Tensor], Tensor]) -> Tensor:
        """Features `(count, d)` of what `images` gives for some indices."""
        with evaluating(self.student.stem):
            return collected(self._in_shares(count, images), count)

    def _in_shares(self, count: int, images: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
        """Features of all chunks, in order."""
        chunks = torch.arange(count).split(CHUNK)
        if not self.shared:
            yield from (self.student.features(images(chunk)) for chunk in chunks)
            return
        ranks, rank = distributed.get_world_size(), distributed.get_rank()
        for start in range(0, len(chunks), ranks):
            turn = chunks[start : start + ranks]
            # the last turn may be too short for all: who has no chunk looks, and tells nothing
            features = self.student.features(images(turn[min(rank, len(turn) - 1)]))  # (n, d)
            features = features if rank < len(turn) else features[:0]
            yield Shares.of(features).gathered(features)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Have `module` in evaluation mode, and then as it was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)

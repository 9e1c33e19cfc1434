"""Teacher logits, computed once per (teacher, images, augmented view) and memory-mapped.

A cache keyed by the image's index alone is wrong as soon as images are augmented: the student
would see one crop and the teacher's answer to another. Here a view is a seed of the augmentation,
so the same (image, view) has the same pixels in the cache and in the training loop.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor
from tqdm.auto import tqdm

from cnn2gnn.base.disk import collected
from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors, sweep
from cnn2gnn.data import ImageSet
from cnn2gnn.models.teacher import Teacher, device_of

log = logging.getLogger(__name__)

ASKED_AGAIN = 8  # images of which the teacher is asked whether it still says what is kept
APART = 0.1  # relative difference of its answers that no precision and no device explains
# autocast of a run's precision; the teacher answers as precisely as the student learns
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class TeacherCache:
    """Logits of `views` augmented views of `images`; view 0 is the clean image.

    Args:
        teacher: in evaluation mode; asked only for views that are not on disk yet.
        images: the images, in order.
        augmentation: of the views, as `ImageSet.view` takes it.
        views: augmented views (1 … views) to hold. 0: the teacher is asked in every step.
        folder: where views are kept, a file each, so that an interrupted build goes on.
        precision: in which the teacher answers, as `runtime.precision` is resolved.
    """

    def __init__(
        self,
        teacher: Teacher,
        images: ImageSet,
        augmentation: str,
        views: int,
        folder: Path,
        precision: str = "32-true",
    ) -> None:
        self.teacher, self.images, self.augmentation = teacher, images, augmentation
        self.views, self.precision = views, precision
        key = f"{teacher.fingerprint()} {images.fingerprint} {augmentation} {images.view_version}"
        if precision in MIXED:
            key += f" {precision}"
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        self._loaded: dict[int, dict[str, Tensor]] = {}

    def build(self) -> TeacherCache:
        """Compute the views that are missing on disk; of two runs that need them, one does.

        What lies there counts if the teacher still says so: its weights may be the same and its
        code another.
        """
        if self.views:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                sweep(self.folder)
                if self._path(1).exists() and not self._holds():
                    log.warning("asking the teacher again: it no longer says what it said")
                    self._loaded.clear()
                    for path in self.folder.glob("view-*"):
                        path.unlink()
                missing = [v for v in range(1, self.views + 1) if not self._path(v).exists()]
                for view in tqdm(missing, desc="teacher's logits", unit="view", disable=None):
                    self._compute(view)
        return self

    def logits(self, indices: Tensor, view: int, images: Tensor | None = None) -> Tensor:
        """Return the teacher's logits `(B, classes)` for images `indices` `(B,)` in a view.

        `images` are the augmented pixels of that view; they are needed without a cache only.
        """
        if self.views == 0 and view > 0:
            if images is None:
                images = self.images.view(indices, view, self.augmentation).to(indices.device)
            with torch.no_grad():
                return self._answers(images)
        return self._view(view)["logits"][indices.cpu()].to(indices.device)

    @torch.inference_mode()
    def _holds(self) -> bool:
        """Whether the teacher says of some images in view 1 what is kept of them."""
        some = torch.arange(min(ASKED_AGAIN, len(self.images)))
        pixels = self.images.view(some, 1, self.augmentation)
        now = self._answers(pixels.to(device_of(self.teacher))).cpu()  # (n, classes)
        kept = self.logits(some, 1)
        return kept.shape == now.shape and bool((kept - now).norm() <= APART * now.norm())

    def _view(self, view: int) -> dict[str, Tensor]:
        if view not in self._loaded:
            path = self._path(view)
            if not path.exists():
                self._compute(view)
            try:
                tensors = load_tensors(path)[0]  # memory-mapped
            except BrokenFileError as error:
                log.warning("asking the teacher again: %s", error)
                self._compute(view)
                tensors = load_tensors(path)[0]
            self._loaded[view] = tensors
        return self._loaded[view]

    @torch.inference_mode()
    def _compute(self, view: int) -> None:
        device = device_of(self.teacher)
        chunks = torch.arange(len(self.images)).split(500)
        seen = (self.images.view(indices, view, self.augmentation) for indices in chunks)
        answers = (self._answers(pixels.to(device)).cpu() for pixels in seen)
        logits = collected(answers, len(self.images))  # (N, classes)
        save_tensors(self._path(view), {"logits": logits}, {"view": view})

    def _answers(self, pixels: Tensor) -> Tensor:
        """Logits of the teacher for uint8 pixels `(B, C, S, S)`, float32 `(B, classes)`."""
        dtype = MIXED.get(self.precision)
        with torch.autocast(pixels.device.type, dtype, enabled=dtype is not None):
            return self.teacher(pixels).float()

    def _path(self, view: int) -> Path:
        return self.folder / f"view-{view:03d}.safetensors"


def view_of(epoch: int, views: int) -> int:
    """Return the view that an epoch trains on: `views` are used in turn; 0: each has a new one."""
    return 1 + (epoch % views if views else epoch)

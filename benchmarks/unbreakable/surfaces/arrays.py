"""Data handed over in Python: `ImageSet`, and `distil(data=…)` of three of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.distil import distil
from surfaces.outcomes import Kind

_SHAPES = [(24, 1, 8, 8)] * 8 + [
    (24, 3, 8, 8), (1, 1, 8, 8), (0, 1, 8, 8), (24, 8, 8), (24, 2, 8, 8), (24, 1, 8, 9),
    (24, 1, 0, 0), (24, 0, 8, 8), (24, 1, 1, 1), (24, 1, 2, 2), (24,), (), (23, 1, 8, 8),
]  # fmt: skip
_CLASSES = [("a", "b", "c")] * 8 + [
    ["a", "b", "c"], ("a", "b"), ("a",), (), ("a", "a", "a"), (1, 2, 3), "abc", None,
    ("a", "b", "c", "d"), ("", "\x1b[2J", "<b>"), 3, (None, "b", "c"), ("b", "c", "a"),
]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What one `ImageSet` is made of.

    Attributes:
        array: whether images and labels are numpy's.
        low, high: of labels, both included.
    """

    shape: tuple[int, ...]
    type_: torch.dtype
    fill: str
    array: bool
    labels: torch.dtype
    low: int
    high: int
    classes: Any
    name: Any
    modality: Any
    seed: int

    def made(self) -> ImageSet:
        """The set, if it may be one."""
        chance = torch.Generator().manual_seed(self.seed)
        pixels = torch.randint(0, 256, self.shape, generator=chance)
        images = pixels.clamp(max=1 if self.fill == "ones" else 255).to(self.type_)
        if self.fill == "NaN" and images.is_floating_point():
            images = images / 0 * 0
        count = self.shape[:1] if self.fill != "few labels" else (2,)
        labels = torch.randint(self.low, self.high + 1, count, generator=chance).to(self.labels)
        both: Any = (images.numpy(), labels.numpy()) if self.array else (images, labels)
        found = ImageSet(*both, self.classes, self.name, self.modality)
        assert isinstance(found.images, torch.Tensor) and found.images.dtype == torch.uint8
        assert found.images.ndim == 4 and 0 not in found.images.shape[1:]
        assert found.labels.dtype == torch.int64 and len(found.labels) == len(found.images)
        assert not len(found) or 0 <= found.labels.min() <= found.labels.max() < len(found.classes)
        assert all(isinstance(name, str) for name in found.classes) and len(found.fingerprint) == 64
        return found


def parts() -> st.SearchStrategy[Part]:
    """Sets that may be made, and others."""
    types = [torch.uint8] * 20 + [torch.float32, torch.int64, torch.bool, torch.int8]
    labels = [torch.int64] * 20 + [torch.int32, torch.float32, torch.bool, torch.uint8]
    return st.builds(
        Part,
        shape=st.sampled_from(_SHAPES),
        type_=st.sampled_from(types),
        fill=st.sampled_from(["any"] * 6 + ["ones", "NaN", "few labels"]),
        array=st.sampled_from([False] * 8 + [True]),
        labels=st.sampled_from(labels),
        low=st.sampled_from([0] * 12 + [-1]),
        high=st.sampled_from([2] * 12 + [0, 1, 3]),
        classes=st.sampled_from(_CLASSES),
        name=st.sampled_from(["own"] * 12 + ["", None, 7, "a/b", "\x1b[2J"]),
        modality=st.sampled_from(["image"] * 20 + ["images", "", None, "text", "features"]),
        seed=st.integers(0, 2**31),
    )


def make(part: Part) -> None:
    """Make a set."""
    part.made()


def train(given: tuple[Part, Part, Part]) -> None:
    """Distil from three parts, as shortly as possible; what is refused has left no run behind."""
    with tempfile.TemporaryDirectory(prefix="own-") as place:
        config = Config.from_parameters(
            runs_dir=place, run="own", device="cpu", precision="32-true", stem="conv-tiny",
            hidden=8, k=3, teacher_epochs=1, epochs=1, graph_epochs=1, views=1, graph_views=1,
            baselines="", batch_size=16, teacher_batch_size=16, eval_repeats=1,
        )  # fmt: skip
        try:
            run = distil(config, data=Splits(*(part.made() for part in given)))
        except Exception:
            assert not any(Path(place).rglob("*")), "refused, and something is left behind"
            raise
        run.unlock()
        student = run.metrics()["student"]
        assert 0 <= student["accuracy"]["inductive"] <= 1
        assert all(t.isfinite().all() for t in run.load_student().state_dict().values())


def several() -> st.SearchStrategy[tuple[Part, Part, Part]]:
    """Three parts that fit together, but for perhaps one."""
    alike = st.builds(
        Part,
        shape=st.sampled_from([(24, 1, 8, 8), (24, 3, 8, 8), (6, 1, 8, 8), (24, 1, 5, 5)]),
        type_=st.just(torch.uint8),
        fill=st.sampled_from(["any", "ones"]),
        array=st.just(False),
        labels=st.just(torch.int64),
        low=st.just(0),
        high=st.sampled_from([2, 1, 0]),
        classes=st.sampled_from(_CLASSES),
        name=st.sampled_from(["own", "a/b", "\x1b[2J"]),
        modality=st.just("image"),
        seed=st.integers(0, 2**31),
    )
    equal = alike.map(lambda part: (part, part, part))
    mixed = st.tuples(alike, alike, parts())
    return st.one_of(equal, equal, mixed)


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    names = (
        "features",
        "tokens",
        "images",
        "labels",
        "classes",
        "modality",
        "name",
        "data of your own",
        "label ",
        "own",
    )
    yield Kind("arrays", "ImageSet", parts(), make, lambda part: names, share=2)
    sizes = (*names, "k=", "batch_size", "train")
    yield Kind("arrays", "distil(data=…)", several(), train, lambda given: sizes, share=0.1)

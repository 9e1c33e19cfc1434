"""Cached and fresh logits are the same, and nothing stale is ever served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cnn2gnn.data import ImageSet, augment
from cnn2gnn.distillation.cache import TeacherCache, view_of
from cnn2gnn.models.networks import build_network
from cnn2gnn.models.teacher import Teacher

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = ImageSet(
    torch.randint(0, 256, (30, 3, 16, 16), generator=GENERATOR, dtype=torch.uint8),
    torch.arange(30) % 5,
    tuple("abcde"),
    "noise",
)


def make(seed: int = 0) -> Teacher:
    torch.manual_seed(seed)
    network = build_network("resnet20", 3, 16, 5)
    return Teacher(network, [0.5] * 3, [0.3] * 3, "resnet20").eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@given(index=st.integers(0, 29), view=st.integers(0, 3))
def test_cached_and_fresh_logits_agree(folder: Path, index: int, view: int) -> None:
    teacher = make()
    cache = TeacherCache(teacher, IMAGES, "crop-flip-cutout", 3, folder)
    indices = torch.tensor([index])
    pixels = augment(IMAGES.images[indices], indices, view, "crop-flip-cutout")
    with torch.no_grad():
        fresh = teacher(pixels)
    torch.testing.assert_close(cache.logits(indices, view), fresh, rtol=1e-4, atol=1e-4)


def test_of_two_runs_that_need_the_same_views_one_computes_them(tmp_path: Path) -> None:
    class Counted(Teacher):
        asked = 0

        def forward(self, images: Tensor) -> Tensor:
            Counted.asked += 1
            return super().forward(images)

    torch.manual_seed(0)
    network = build_network("resnet20", 3, 16, 5)
    teachers = [Counted(network, [0.5] * 3, [0.3] * 3, "resnet20").eval() for _ in range(2)]
    caches = [TeacherCache(teacher, IMAGES, "crop-flip", 4, tmp_path) for teacher in teachers]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(TeacherCache.build, caches))
    assert Counted.asked == 4 + 1  # a view each, and whether what lies there still holds


def test_online_teaching_gives_the_same_answers(folder: Path) -> None:
    teacher, indices = make(), torch.tensor([3, 17, 5])
    cached = TeacherCache(teacher, IMAGES, "crop-flip", 2, folder).build()
    online = TeacherCache(teacher, IMAGES, "crop-flip", 0, folder)
    assert [view_of(epoch, 2) for epoch in range(5)] == [1, 2, 1, 2, 1]
    assert [view_of(epoch, 0) for epoch in range(3)] == [1, 2, 3]
    expected = cached.logits(indices, 2)
    torch.testing.assert_close(online.logits(indices, 2), expected, rtol=1e-4, atol=1e-4)
    pixels = augment(IMAGES.images[indices], indices, 2, "crop-flip")
    given_pixels = online.logits(indices, 2, pixels)
    torch.testing.assert_close(given_pixels, expected, rtol=1e-4, atol=1e-4)


def test_the_teacher_answers_in_the_precision_of_the_run(tmp_path: Path) -> None:
    teacher, indices = make(), torch.arange(30)
    exact = TeacherCache(teacher, IMAGES, "crop", 1, tmp_path).build()
    mixed = TeacherCache(teacher, IMAGES, "crop", 1, tmp_path, "bf16-mixed").build()
    online = TeacherCache(teacher, IMAGES, "crop", 0, tmp_path, "bf16-mixed")
    assert mixed.folder != exact.folder
    said = mixed.logits(indices, 1)
    assert said.dtype == torch.float32 and said.bfloat16().float().equal(said)
    assert not said.equal(exact.logits(indices, 1))
    torch.testing.assert_close(said, exact.logits(indices, 1), rtol=0.05, atol=0.05)
    torch.testing.assert_close(online.logits(indices, 1), said, rtol=0.05, atol=0.05)


def test_another_teacher_data_or_recipe_has_a_cache_of_its_own(folder: Path) -> None:
    teacher, changed = make(), make()
    with torch.no_grad():
        changed.network.fc.bias[0] += 1e-3  # type: ignore[union-attr, operator, index]
    folders = [
        TeacherCache(teacher, IMAGES, "crop", 1, folder).folder,
        TeacherCache(changed, IMAGES, "crop", 1, folder).folder,
        TeacherCache(teacher, IMAGES.subset(torch.arange(29)), "crop", 1, folder).folder,
        TeacherCache(teacher, IMAGES, "crop-flip", 1, folder).folder,
    ]
    assert len({*folders}) == 4
    assert TeacherCache(make(), IMAGES, "crop", 5, folder).folder == folders[0]


class Wrapped(torch.nn.Module):
    """A network of the user's own: neither its weights nor its layers tell of `sign`."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network, self.sign = build_network("resnet20", 3, 16, 5), sign

    def forward(self, images: Tensor) -> Tensor:
        return self.sign * self.network(images)


def test_a_teacher_that_says_something_else_with_the_same_weights_is_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def cached(sign: float) -> TeacherCache:
        teacher = Teacher(Wrapped(sign), [0.5] * 3, [0.3] * 3, "wrapped").eval()
        return TeacherCache(teacher, IMAGES, "crop", 2, tmp_path).build()

    every = torch.arange(30)
    before = [cached(1.0).logits(every, view).clone() for view in (1, 2)]
    assert not caplog.records
    after = [cached(-1.0).logits(every, view) for view in (1, 2)]
    assert "no longer says what it said" in caplog.text
    torch.testing.assert_close(after, [-logits for logits in before])


def test_an_interrupted_build_computes_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TeacherCache(make(), IMAGES, "crop", 2, tmp_path).build()
    seen: list[int] = []
    compute = TeacherCache._compute
    monkeypatch.setattr(
        TeacherCache, "_compute", lambda self, view: (seen.append(view), compute(self, view))
    )
    TeacherCache(make(), IMAGES, "crop", 4, tmp_path).build()
    assert seen == [3, 4]


def test_a_damaged_view_is_computed_again(tmp_path: Path) -> None:
    cache = TeacherCache(make(), IMAGES, "crop", 1, tmp_path).build()
    expected = cache.logits(torch.arange(30), 1).clone()
    (path,) = cache.folder.glob("view-001*")
    path.unlink()
    path.write_bytes(b"1234")
    again = TeacherCache(make(), IMAGES, "crop", 1, tmp_path).build()
    torch.testing.assert_close(again.logits(torch.arange(30), 1), expected)

"""The student: images, banks, files."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.config import StudentConfig
from cnn2gnn.data.modality import PICTURE_STEMS
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student

CLASSES = 5
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (200, 1, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.randint(0, CLASSES, (200,), generator=GENERATOR)


def make(size: int = 8, **config: object) -> Student:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "conv-tiny", "k": 4, **config})  # type: ignore[arg-type]
    student = Student(settings, channels=1, size=size, classes=CLASSES, mean=[0.5], std=[0.3])
    return student.eval()


@pytest.mark.parametrize("stem", PICTURE_STEMS)
@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_every_stem_and_scope_classifies(stem: str, scope: str) -> None:
    student = make(stem=stem, scope=scope)
    bank = student.bank(IMAGES, LABELS)
    for out in (student(IMAGES[:9], bank), student(IMAGES[:9])):
        assert out.logits.shape == out.base_logits.shape == (9, CLASSES)
        assert out.logits.isfinite().all()
    assert bank.keys.shape == (200, min(512, out.features.shape[1]))


def test_a_bank_is_refused_in_training_mode() -> None:
    student = make()
    bank = student.bank(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"evaluation mode; call student\.eval\(\)"):
        student.train()(IMAGES[:6], bank)


def test_no_bank_is_made_in_training_mode_or_without_a_graph() -> None:
    """Its keys would be of batch statistics, and those of the student would move."""
    student = make()
    bank, before = student.bank(IMAGES, LABELS), copy.deepcopy(student.state_dict())
    student.train()
    for add in (
        lambda: student.bank(IMAGES, LABELS),
        lambda: student.enlarged(bank, IMAGES, LABELS),
    ):
        with pytest.raises(ValueError, match=r"evaluation mode; call student\.eval\(\)"):
            add()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    with pytest.raises(ValueError, match=r"no graph \(graph='none'\): it takes no bank"):
        make(graph="none").bank(IMAGES, LABELS)


def test_a_bank_prediction_ignores_the_other_queries() -> None:
    student = make()
    bank = student.bank(IMAGES[:180], LABELS[:180])
    together = student(IMAGES[180:], bank).logits
    apart = torch.cat([student(IMAGES[i : i + 1], bank).logits for i in range(180, 200)])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_a_fixed_graph_is_that_of_the_pixels(scope: str) -> None:
    student = make(graph="fixed", scope=scope, local_scaling=0.0)
    bank = student.bank(IMAGES[:100], LABELS[:100])
    graph = student(IMAGES[100:110], bank).graph
    flat = IMAGES.flatten(1).double()
    nearest = torch.cdist(flat[100:110], flat[:100]).topk(4, largest=False).indices
    assert graph is not None and graph.neighbours.sort().values.equal(nearest.sort().values)
    with pytest.raises(ValueError, match="by raw pixels"):
        student.network(student.embed(IMAGES[100:110]), bank)


def test_files_round_trip(tmp_path: Path) -> None:
    student = make(scope="batch", k=3)
    bank = student.bank(IMAGES, LABELS)
    student.save(tmp_path / "student.safetensors")
    bank.save(tmp_path / "bank.safetensors")
    loaded, loaded_bank = (
        Student.load(tmp_path / "student.safetensors"),
        Bank.load(tmp_path / "bank.safetensors"),
    )
    assert loaded.config == student.config and not loaded.training
    assert torch.equal(loaded(IMAGES, loaded_bank).logits, student(IMAGES, bank).logits)
    size = (tmp_path / "bank.safetensors").stat().st_size / 1e6
    assert bank.megabytes == pytest.approx(size, rel=0.05)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {"b": 1})
    with pytest.raises(ValueError, match="holds no student"):
        Student.load(tmp_path / "x.safetensors")
    with pytest.raises(BrokenFileError, match="is not a bank"):
        Bank.load(tmp_path / "x.safetensors")
    make().save(tmp_path / "s.safetensors")
    tensors, metadata = load_tensors(tmp_path / "s.safetensors")
    metadata["classes"] = 7
    save_tensors(tmp_path / "s.safetensors", tensors, metadata)
    with pytest.raises(ValueError, match=r"does not fit.*\(5, 256\) where \(7, 256\)"):
        Student.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize("claim", ["hidden", "classes", "size", "channels"])
def test_a_file_that_claims_more_than_memory_holds_is_refused_at_once(
    tmp_path: Path, claim: str
) -> None:
    path = tmp_path / "s.safetensors"
    make(stem="linear").save(path)
    tensors, metadata = load_tensors(path)
    (metadata["config"] if claim == "hidden" else metadata)[claim] = 10**7
    save_tensors(path, tensors, metadata)
    with pytest.raises(ValueError, match="holds no student: what it holds does not fit"):
        Student.load(path)


def test_a_bank_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"at least k \+ 2 = 6 images, not 5"):
        make().bank(IMAGES[:5], LABELS[:5])


@pytest.mark.parametrize(
    ("stem", "millions"), [("conv-tiny", 0.28), ("conv-small", 0.87), ("conv-base", 2.3)]
)
def test_sizes_are_as_documented(stem: str, millions: float) -> None:
    student = Student(
        StudentConfig(stem=stem), channels=3, size=32, classes=100, mean=[0.5] * 3, std=[0.3] * 3
    )
    assert student.parameter_count / 1e6 == pytest.approx(millions, rel=0.05)

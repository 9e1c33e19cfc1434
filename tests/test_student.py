"""The student: shapes, the evidence formula, scopes, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from cnn2gnn.config import StudentConfig
from cnn2gnn.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student
from cnn2gnn.registry import LEARNERS, STEMS

CLASSES = 5
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (200, 1, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.randint(0, CLASSES, (200,), generator=GENERATOR)


def make(size: int = 8, **config: object) -> Student:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "conv-tiny", "k": 4, **config})  # type: ignore[arg-type]
    student = Student(settings, channels=1, size=size, classes=CLASSES, mean=[0.5], std=[0.3])
    return student.eval()


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_every_stem_and_scope_classifies(stem: str, scope: str) -> None:
    student = make(stem=stem, scope=scope)
    bank = student.bank(IMAGES, LABELS)
    for out in (student(IMAGES[:9], bank), student(IMAGES[:9])):
        assert out.logits.shape == out.base_logits.shape == (9, CLASSES)
        assert out.logits.isfinite().all()
    assert out.features.shape == (9, bank.features.shape[1])


@pytest.mark.parametrize("graph", LEARNERS)
@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_every_graph_trains(graph: str, scope: str) -> None:
    student = make(graph=graph, scope=scope)
    bank = student.bank(IMAGES, LABELS) if student.scope == "bank" else None
    exclude = torch.arange(12) if bank else None
    out = student.train(bank is None)(IMAGES[:12], bank, exclude)
    (F.cross_entropy(out.logits, LABELS[:12]) + out.base_logits.square().mean()).backward()
    lacking = [name for name, p in student.named_parameters() if p.grad is None]
    assert lacking == []


def test_logits_are_the_evidence_formula() -> None:
    """logits_i = base_i + c·g_i·Σ_j s_ij r_j, edge by edge."""
    student = make()
    bank = student.bank(IMAGES, LABELS)
    out = student(IMAGES[:6], bank, torch.arange(6))
    assert out.graph is not None and out.gate is not None
    for i in range(6):
        expected = out.base_logits[i].clone()
        for j, s in zip(out.graph.neighbours[i], out.graph.weights[i], strict=True):
            assert j != i, "a query is among its own neighbours"
            own = student(IMAGES[j : j + 1]).base_logits[0].softmax(0)
            residual = F.one_hot(LABELS[j], CLASSES) - own
            expected += student.evidence_scale * out.gate[i] * s * residual
        torch.testing.assert_close(out.logits[i], expected, rtol=1e-4, atol=1e-5)


def test_no_gradient_reaches_the_stem_through_the_bank() -> None:
    student = make()
    bank = student.bank(IMAGES, LABELS)
    out = student(IMAGES[:6], bank)
    weights = torch.arange(float(CLASSES))
    ((out.logits - out.base_logits.detach()) @ weights).sum().backward()
    through_bank = [p.grad.clone() for p in student.stem.parameters()]
    student.zero_grad()
    (student(IMAGES[:6]).base_logits @ weights).sum().backward()
    for p, grad in zip(student.stem.parameters(), through_bank, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_a_bank_is_refused_in_training_mode() -> None:
    student = make()
    bank = student.bank(IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"evaluation mode; call student\.eval\(\)"):
        student.train()(IMAGES[:6], bank)


def test_in_the_batch_the_graph_is_learned_through_its_weights() -> None:
    student = make(scope="batch")
    graph = student(IMAGES[:12]).graph
    assert graph is not None
    graph.weights.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.stem.parameters())


def test_a_bank_prediction_ignores_the_other_queries() -> None:
    student = make()
    bank = student.bank(IMAGES[:180], LABELS[:180])
    together = student(IMAGES[180:], bank).logits
    apart = torch.cat([student(IMAGES[i : i + 1], bank).logits for i in range(180, 200)])
    torch.testing.assert_close(together, apart, rtol=1e-3, atol=1e-4)


def test_unlabelled_nodes_add_no_evidence_but_take_weight() -> None:
    student = make()
    bank = student.bank(IMAGES[:30], LABELS[:30])
    queries = student.embed(IMAGES[30:40])
    among = bank.with_unlabelled(queries)
    assert len(among) == 40 and among.residuals[30:].abs().sum() == 0
    votes = among.label_votes(torch.tensor([[29, 35]]), torch.tensor([[0.25, 0.75]]))
    assert votes[0, LABELS[29]] == 0.25 and votes.sum() == 0.25


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_a_fixed_graph_is_that_of_the_pixels(scope: str) -> None:
    student = make(graph="fixed", scope=scope)
    bank = student.bank(IMAGES[:100], LABELS[:100])
    graph = student(IMAGES[100:110], bank).graph
    flat = IMAGES.flatten(1).double()
    nearest = torch.cdist(flat[100:110], flat[:100]).topk(4, largest=False).indices
    assert graph is not None and graph.neighbours.sort().values.equal(nearest.sort().values)
    with pytest.raises(ValueError, match="by raw pixels"):
        student.correct(torch.zeros(1, CLASSES), torch.zeros(1, 64), bank)


def test_whitened_keys_have_unit_covariance() -> None:
    mixing = torch.eye(6) + 0.3 * torch.randn(6, 6, generator=GENERATOR)
    features = torch.randn(500, 6, generator=GENERATOR) @ mixing * 10 + 3
    bank = Bank.build(features, torch.zeros(500, dtype=torch.int64), torch.zeros(500, 2))
    covariance = bank.keys.T.cov()
    torch.testing.assert_close(covariance, torch.eye(6), atol=2e-2, rtol=0)
    torch.testing.assert_close(bank.project(features), bank.keys)


def test_a_direction_without_variance_is_not_blown_up() -> None:
    features = torch.randn(100, 4)
    features[:, 2] = 7.0
    bank = Bank.build(features, torch.zeros(100, dtype=torch.int64), torch.zeros(100, 2))
    assert bank.keys.isfinite().all() and bank.keys.abs().max() < 10


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
    with pytest.raises(ValueError, match=r"does not fit.*\(5, 64\) where \(7, 64\)"):
        Student.load(tmp_path / "s.safetensors")


def test_a_bank_that_is_too_small_is_named() -> None:
    with pytest.raises(ValueError, match=r"at least k \+ 2 = 6 images, not 5"):
        make().bank(IMAGES[:5], LABELS[:5])


@pytest.mark.parametrize("scope", ["bank", "batch"])
@pytest.mark.parametrize("stem", ["conv-tiny", "conv-small", "conv-base"])
def test_the_stem_only_baseline_has_as_many_parameters(scope: str, stem: str) -> None:
    student, baseline = make(stem=stem, scope=scope), make(stem=stem, scope=scope, graph="none")
    assert baseline.parameter_count == pytest.approx(student.parameter_count, rel=0.02)


@pytest.mark.parametrize(
    ("stem", "millions"), [("conv-tiny", 0.1), ("conv-small", 0.45), ("conv-base", 1.8)]
)
def test_sizes_are_as_documented(stem: str, millions: float) -> None:
    student = Student(
        StudentConfig(stem=stem), channels=3, size=32, classes=100, mean=[0.5] * 3, std=[0.3] * 3
    )
    assert student.parameter_count / 1e6 == pytest.approx(millions, rel=0.25)

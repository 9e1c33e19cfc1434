"""Every registered loss: against its formula in numpy, its invariances, its edges, in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import torch
from conftest import small_config
from entmax import sparsemax
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.distillation.distil import distil
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs.trials import check_loss

Array = NDArray[np.float64]
NAMES = [name for name in LOSSES if ":" not in name]
GENERATOR = torch.Generator().manual_seed(3)
B, C = 12, 5
STUDENT = torch.randn(B, C, generator=GENERATOR, dtype=torch.float64)
TEACHER = 3 * torch.randn(B, C, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.arange(B) % C
SEVERAL = 10  # neighbours at most, of 12 images
RELATIONAL = {"dist", "sp", "rkd", "denoised", "relation"}  # an image's loss depends on the others


def term(name: str, student: Tensor = STUDENT, teacher: Tensor = TEACHER, T: float = 2.0) -> Tensor:
    """The loss's own term, without cross-entropy."""
    return LOSSES[name](student, teacher, LABELS[: len(student)], temperature=T, weight=1.0)


def kl(p: Array, q: Array) -> float:
    """Mean over the rows."""
    return float(scipy.special.rel_entr(p, q).sum(1).mean())


def soft(z: Array, T: float = 1.0) -> Array:
    return scipy.special.softmax(z / T, axis=1)


def decoupled(s: Array, t: Array, y: Array, T: float) -> float:
    own = np.eye(C, dtype=bool)[y]
    parts = []
    for z in (s, t):
        p = soft(z, T)
        rest = p[~own].reshape(B, C - 1)
        parts.append((np.stack([p[own], rest.sum(1)], 1), rest / rest.sum(1, keepdims=True)))
    (bs, os), (bt, ot) = parts
    return T**2 * (kl(bt, bs) + 8 * kl(ot, os))


def standard(z: Array) -> Array:
    return (z - z.mean(1, keepdims=True)) / z.std(1, ddof=1, keepdims=True)


def dist(s: Array, t: Array, y: Array, T: float) -> float:
    p, q = soft(s, T), soft(t, T)
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return T**2 * 2 * (2 - rows - columns)


def ofa(s: Array, t: Array, y: Array, T: float) -> float:
    onehot = np.eye(C)[y]
    return -(T**2) * float((((soft(t, T) + onehot) ** 1.5 - onehot) * np.log(soft(s, T))).sum() / B)


def sp(s: Array, t: Array, y: Array, T: float) -> float:
    g = [z @ z.T / np.linalg.norm(z @ z.T, axis=1, keepdims=True) for z in (s, t)]
    return 3000 * float(((g[0] - g[1]) ** 2).sum()) / B**2


def rkd(s: Array, t: Array, y: Array, T: float) -> float:
    def smooth(a: Array, b: Array) -> float:
        d = np.abs(np.asarray(a) - np.asarray(b))
        return float(np.where(d < 1, d**2 / 2, d - 0.5).mean())

    distances, angles = [], []
    for z in (s, t):
        pairs = np.array([np.linalg.norm(z[i] - z[j]) for i in range(B) for j in range(i)])
        distances.append(pairs / pairs.mean())
        cosines = np.zeros((B, B, B))
        for j in range(B):
            for i in range(B):
                for k in range(B):
                    if j not in (i, k):
                        a, b = z[i] - z[j], z[k] - z[j]
                        cosines[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        angles.append(cosines)
    return 25 * smooth(*distances) + 50 * smooth(*angles)


def neighbours(t: Array) -> Array:
    """Dense adaptive weights among the teacher's logits, as sparsemax solves them."""
    centred = t - t.mean(1, keepdims=True)
    d = ((centred[:, None] - centred[None]) ** 2).sum(2)
    np.fill_diagonal(d, np.inf)
    k, rows = 8, np.sort(d, 1)
    gamma = (k * rows[:, k] - rows[:, :k].sum(1)) / 2  # (B,)
    scores = torch.from_numpy(np.where(np.isinf(d), -1e9, -d / (2 * gamma[:, None])))
    return sparsemax(scores, dim=1).numpy()


def denoised(s: Array, t: Array, y: Array, T: float) -> float:
    p = soft(t, T)
    return T**2 * kl((p + neighbours(t) @ p) / 2, soft(s, T))


def relation(s: Array, t: Array, y: Array, T: float) -> float:
    chosen, rows = neighbours(t) > 1e-9, []  # sparsemax rounds
    for z in (s, t):
        z = z - z.mean(1, keepdims=True)
        d = ((z[:, None] - z[None]) ** 2).sum(2)[chosen].reshape(B, 8)
        rows.append(soft(-d / d.mean(1, keepdims=True)))
    return T**2 * kl(soft(t, T), soft(s, T)) + kl(rows[1], rows[0])


ORACLES: dict[str, Callable[[Array, Array, Array, float], float]] = {
    "kd": lambda s, t, y, T: T**2 * kl(soft(t, T), soft(s, T)),
    "dkd": decoupled,
    "dist": dist,
    "kd-ls": lambda s, t, y, T: 10 * T**2 * kl(soft(standard(t), T), soft(standard(s), T)),
    "dkd-ls": lambda s, t, y, T: 9 * decoupled(standard(s), standard(t), y, T),
    "ofa": ofa,
    "sp": sp,
    "rkd": rkd,
    "denoised": denoised,
    "relation": relation,
}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("name", ORACLES)
def test_the_term_is_the_formula(name: str, temperature: float) -> None:
    expected = ORACLES[name](STUDENT.numpy(), TEACHER.numpy(), LABELS.numpy(), temperature)
    assert term(name, T=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_every_loss_has_an_oracle() -> None:
    assert set(ORACLES) == {name for name in NAMES if LOSSES[name].__module__.startswith("cnn2gnn")}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_cross_entropy_has_the_rest_of_the_weight(name: str, weight: float) -> None:
    found = LOSSES[name](STUDENT, TEACHER, LABELS, temperature=2.0, weight=weight)
    hard = F.cross_entropy(STUDENT, LABELS)
    torch.testing.assert_close(found, (1 - weight) * hard + weight * term(name))


@pytest.mark.parametrize("name", ORACLES)
def test_the_gradient_is_right_and_reaches_the_student_only(name: str) -> None:
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: term(name, s, TEACHER), student)
    term(name, student, teacher).backward()
    assert teacher.grad is None and student.grad is not None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(set(ORACLES) - {"ofa", "denoised"}))
def test_a_student_that_is_its_teacher_pays_nothing(name: str) -> None:
    """Not so where the targets are not the teacher's answers."""
    assert abs(term(name, TEACHER, TEACHER).item()) < 1e-5


@pytest.mark.parametrize("name", sorted(set(ORACLES) - {"sp", "rkd"}))
@given(shift=st.floats(-50, 50))
def test_a_constant_added_to_an_images_logits_changes_nothing(name: str, shift: float) -> None:
    """They mean the same probabilities; only SP and RKD compare logits as vectors."""
    added = shift * torch.arange(B, dtype=torch.float64)[:, None]
    torch.testing.assert_close(term(name, STUDENT + added, TEACHER - added), term(name))


@pytest.mark.parametrize("name", ["kd-ls", "dkd-ls"])
def test_standardised_logits_have_no_scale(name: str) -> None:
    # ε beside the deviation is what is left of it
    torch.testing.assert_close(
        term(name, 7 * STUDENT, 0.2 * TEACHER), term(name), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", ORACLES)
def test_of_two_classes_the_teacher_teaches_something(name: str) -> None:
    """Standardised, such logits would be ±√½ whatever they were, and no gradient left."""
    student = STUDENT[:, :2].clone().requires_grad_()
    loss = LOSSES[name](student, TEACHER[:, :2], LABELS % 2, temperature=4.0, weight=1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.abs().amax(1).max() > 1e-3  # of logits of order 1


@pytest.mark.parametrize("name", ["kd-ls", "dkd-ls"])
def test_two_classes_are_not_standardised(name: str) -> None:
    two = STUDENT[:, :2], TEACHER[:, :2], LABELS % 2
    plain = LOSSES[name.removesuffix("-ls")](*two, temperature=4.0, weight=0.5)
    torch.testing.assert_close(LOSSES[name](*two, temperature=4.0, weight=0.5), plain)


@pytest.mark.parametrize("name", ORACLES)
def test_the_order_of_the_batch_changes_nothing(name: str) -> None:
    order = torch.randperm(B, generator=torch.Generator().manual_seed(1))
    shuffled = LOSSES[name](STUDENT[order], TEACHER[order], LABELS[order], temperature=2, weight=1)
    torch.testing.assert_close(shuffled, term(name))


@pytest.mark.parametrize("name", ORACLES)
def test_only_relational_losses_are_means_over_images(name: str) -> None:
    halves = [
        LOSSES[name](STUDENT[rows], TEACHER[rows], LABELS[rows], temperature=2, weight=1)
        for rows in (slice(0, 6), slice(6, 12))
    ]
    same = torch.isclose(sum(halves) / 2, term(name)).item()
    assert same == (name not in RELATIONAL)


EDGES = {
    "one image": (STUDENT[:1], TEACHER[:1]),
    "two images": (STUDENT[:2], TEACHER[:2]),
    "a student that says nothing": (torch.zeros(B, C), TEACHER),
    "a teacher that says nothing": (STUDENT, torch.zeros(B, C)),
    "equal images": (STUDENT[:1].repeat(B, 1), TEACHER[:1].repeat(B, 1)),
    "two classes": (STUDENT[:, :2], TEACHER[:, :2]),
    "a very sure teacher": (STUDENT, 1000 * TEACHER),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_value_and_gradient_are_finite_at_the_edges(
    name: str, edge: str, dtype: torch.dtype
) -> None:
    student, teacher = (z.detach().clone().to(dtype) for z in EDGES[edge])
    student.requires_grad_()
    labels = LABELS[: len(student)] % student.shape[1]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        loss = LOSSES[name](student, teacher, labels, temperature=4.0, weight=0.5)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


@pytest.mark.parametrize("name", ORACLES)
def test_autocast_changes_nothing(name: str) -> None:
    """Squared distances of half precision would have no digit left."""
    student, teacher = STUDENT.float(), TEACHER.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(name, student, teacher)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, term(name, student, teacher))


@pytest.mark.parametrize("name", ORACLES)
def test_each_is_what_a_run_takes(name: str) -> None:
    check_loss(LOSSES[name], classes=4)


@pytest.mark.parametrize("name", sorted(set(ORACLES) - {"kd"}))
def test_a_student_learns_by_each(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    runs = tmp_path_factory.getbasetemp() / "losses"  # they share the teacher
    few = {"train_images": 300, "teacher_epochs": 15, "epochs": 15, "graph_epochs": 1}
    weight = 0.1 if name == "sp" else 0.5  # SP's term at 0.5 leaves the labels little to say
    config = small_config(runs, run=name, loss=name, kd_weight=weight, **few)
    metrics = distil(config).metrics()
    # guessing: 0.1, measured: 0.85 and more; rounding differs by processor, and training with it
    assert metrics["student"]["accuracy"]["no_graph"] > 0.6


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_has_room_for_large_logits_and_a_low_temperature(name: str) -> None:
    student = (3000 * STUDENT).half().requires_grad_()
    loss = LOSSES[name](student, (1000 * TEACHER).half(), LABELS, temperature=0.1, weight=0.5)
    loss.backward()
    assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()

"""α, how much the labels of neighbours count: fitted to validation images, and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor
from torch.nn import functional as F

from cnn2gnn.distillation.label_scale import DEVIATION, LEAST, fitted
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run

CLASSES = 4


def nodes(seed: int, count: int = 60, right: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and votes of nodes, both of which are right on a share of them, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)

    def opinions() -> Tensor:
        wrong = torch.rand(count, generator=generator) > right
        said = (labels + wrong * torch.randint(1, CLASSES, (count,), generator=generator)) % CLASSES
        return F.one_hot(said, CLASSES) + 0.3 * torch.randn(count, CLASSES, generator=generator)

    return 9 * opinions(), opinions().clamp(min=0), labels


@given(seed=st.integers(0, 10_000), right=st.floats(0.3, 1))
def test_it_is_the_minimum_that_scipy_finds(seed: int, right: float) -> None:
    logits, votes, labels = nodes(seed, right=right)
    z, v, y = (t.double().numpy() for t in (logits, votes, labels))

    def loss(numbers: np.ndarray) -> float:
        said = log_softmax(numbers[0] * z + numbers[1] * v, axis=1)
        own = said[np.arange(len(y)), y.astype(int)].sum()
        return -own + (numbers[0] - 1) ** 2 / 2 + (numbers[1] / DEVIATION) ** 2 / 2

    a, beta = minimize(loss, [0.5, 0.5], method="Nelder-Mead", options={"xatol": 1e-8}).x
    expected = max(0, beta / max(a, LEAST))
    assert fitted(logits, votes, labels) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_votes_count_the_more_the_better_they_are() -> None:
    logits, _, labels = nodes(0, 500)
    found = [fitted(logits, nodes(0, 500, right)[1], labels) for right in (0.25, 0.5, 0.9)]
    assert found == sorted(found) and found[-1] > 1


def test_votes_that_are_wrong_do_not_count_against_their_class() -> None:
    logits, votes, labels = nodes(0)
    against = votes.masked_fill(F.one_hot(labels, CLASSES).bool(), 0)
    assert fitted(logits, against, labels) == 0


@pytest.mark.parametrize("count", [1, 60])
def test_it_is_finite_where_nothing_is_wrong(count: int) -> None:
    _, _, labels = nodes(0, count)
    certain = F.one_hot(labels, CLASSES).float()
    assert 0 <= fitted(30 * certain, certain, labels) < 10


def test_a_student_keeps_what_its_validation_images_say(small_run: Run) -> None:
    student, bank = small_run.load_student(), small_run.load_bank()
    held_out, alpha = small_run.load_splits().validation, student.network.label_scale
    kept = alpha.item()
    nodes = no_graph(student, held_out.images)
    found = inductive(student, nodes, bank)
    assert kept > 0 and found.graph is not None
    # v_i = Σ_j s_ij [y_j = c]
    votes = found.graph.aggregate(F.one_hot(bank.labels, 10).float())
    alpha.zero_()
    without = inductive(student, nodes, bank).logits
    torch.testing.assert_close(found.logits, without + kept * votes, atol=1e-3, rtol=1e-3)
    # the bank on disk is in half precision
    assert fitted(without, votes, held_out.labels) == pytest.approx(kept, rel=0.05)


def test_a_student_of_an_older_version_has_none(small_run: Run) -> None:
    student = small_run.load_student()
    old = {n: t for n, t in student.state_dict().items() if "label_scale" not in n}
    restored = Student.restore(old, student.architecture, "an old file")
    assert restored.network.label_scale == 0

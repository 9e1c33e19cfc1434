"""Wrong labels: what the graph finds, what confident learning finds, and the corrected bank."""

from __future__ import annotations

import pytest
import torch

from cnn2gnn.config import StudentConfig
from cnn2gnn.data import Splits
from cnn2gnn.evaluation.label_noise import (
    as_far_as_it_helps,
    confident_joint,
    corrections,
    detection,
    flipped,
    judged,
    leave_one_out,
    suspicion,
    votes,
)
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student
from cnn2gnn.runs import Run

TRUE = torch.arange(4).repeat_interleave(50)
WRONG = flipped(TRUE, 0.1, 4, seed=0)


def student(**config: object) -> Student:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "linear", "k": 8, **config})  # type: ignore[arg-type]
    return Student(settings, channels=1, size=8, classes=4, mean=[0.4], std=[0.3]).eval()


def bank(labels: torch.Tensor) -> Bank:
    generator = torch.Generator().manual_seed(1)
    keys = 9 * torch.eye(4)[TRUE] + torch.randn(200, 4, generator=generator)
    return Bank(keys, labels, torch.full((200, 4), 0.25))


def test_so_many_labels_are_flipped_each_to_another_class() -> None:
    assert (WRONG != TRUE).sum() == 20
    assert torch.equal(WRONG, flipped(TRUE, 0.1, 4, seed=0))
    assert not torch.equal(WRONG, flipped(TRUE, 0.1, 4, seed=1))
    everything = flipped(TRUE, 1.0, 4, seed=0)
    assert (everything != TRUE).all() and set(everything.tolist()) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="share=1.5 must be from 0 to 1"):
        flipped(TRUE, 1.5, 4, seed=0)


def test_the_most_suspect_labels_are_the_wrong_ones_and_no_node_speaks_for_itself() -> None:
    graph = leave_one_out(student(), bank(WRONG))
    assert not (graph.neighbours == torch.arange(200)[:, None]).any()
    said = votes(graph, WRONG, 4)
    torch.testing.assert_close(said.sum(1), torch.ones(200))
    suspect = suspicion(said, WRONG)
    assert suspect[WRONG != TRUE].min() > suspect[WRONG == TRUE].max()
    table = detection(suspect, WRONG != TRUE)
    assert table["nodes"].tolist() == [2, 10, 20]
    assert table["precision"].tolist() == [1, 1, 1]
    assert table["recall"].tolist() == pytest.approx([0.1, 0.5, 1.0])


def test_the_corrected_bank_has_the_right_labels_and_their_residuals() -> None:
    before = bank(WRONG)
    said = votes(leave_one_out(student(), before), WRONG, 4)
    rows = (said.argmax(1) != WRONG).nonzero()[:, 0]
    after = before.relabelled(rows, said[rows].argmax(1))
    assert torch.equal(after.labels, TRUE) and torch.equal(before.labels, WRONG)
    assert torch.equal(after.residuals, bank(TRUE).residuals)
    with pytest.raises(ValueError, match="rows: 200 is no node, allowed are 0 to 199"):
        before.relabelled(torch.tensor([200]), torch.tensor([0]))


@pytest.fixture(scope="module")
def noisy(small_run: Run) -> tuple[Student, Splits, Bank]:
    """A student that learned the right labels, and a bank in which a tenth of them is wrong."""
    learned, splits = small_run.load_student(), small_run.load_splits()
    wrong = flipped(splits.train.labels, 0.1, 10, seed=0)
    return learned, splits, learned.bank(splits.train.images, wrong)


def test_a_node_is_judged_as_the_query_that_it_would_be_without_itself(
    noisy: tuple[Student, Splits, Bank],
) -> None:
    learned, splits, whole = noisy
    said = judged(learned, splits.train.images, whole)
    for row in (0, 17):
        others = torch.arange(len(whole)) != row
        nodes = no_graph(learned, splits.train.images[row : row + 1])
        alone = inductive(learned, nodes, whole.subset(others)).logits.softmax(1)
        torch.testing.assert_close(said[row : row + 1], alone, rtol=1e-3, atol=1e-3)
    table = detection(suspicion(said, whole.labels), whole.labels != splits.train.labels)
    assert table["precision"].iloc[-1] > 0.95


def test_labels_are_corrected_as_far_as_it_helps(noisy: tuple[Student, Splits, Bank]) -> None:
    learned, splits, whole = noisy
    true = splits.train.labels
    said = judged(learned, splits.train.images, whole)
    flagged = as_far_as_it_helps(learned, whole, said, splits.validation)
    found = corrections(learned, whole, said, flagged, true, splits.test)
    assert found["precision"] > 0.9 and found["recall"] > 0.9
    assert found["right after"] > 0.98 > found["right before"]
    assert found["flagged"] == flagged.sum()


def test_a_judge_that_knows_nothing_corrects_nothing(noisy: tuple[Student, Splits, Bank]) -> None:
    learned, splits, whole = noisy
    shifted = torch.nn.functional.one_hot((whole.labels + 1) % 10, 10).float()
    flagged = as_far_as_it_helps(learned, whole, shifted, splits.validation)
    assert flagged.float().mean() <= 0.05, "a small share may be harmless"
    everything = corrections(
        learned, whole, shifted, flagged | True, splits.train.labels, splits.test
    )
    assert everything["corrected"] < everything["noisy"] - 0.1, "and all of it would not be"


def test_without_neighbours_nobody_is_suspect() -> None:
    with pytest.raises(ValueError, match="graph='none'.*no node has neighbours"):
        leave_one_out(student(graph="none"), bank(TRUE))


def test_the_confident_joint_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 1, 0])
    first = torch.tensor([0.9, 0.8, 0.2, 0.3, 0.1])  # thresholds: 0.6 for class 0, 0.75 for 1
    assert confident_joint(torch.stack([first, 1 - first], 1), labels).tolist() == [
        *[False] * 4,
        True,
    ]


def test_the_confident_joint_is_that_of_cleanlab() -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 5, generator=generator) * 2
    labels = logits.argmax(1).where(torch.rand(300, generator=generator) < 0.7, TRUE[:1])
    probabilities = logits.softmax(1)
    found = cleanlab.find_label_issues(
        labels.numpy(), probabilities.numpy(), filter_by="confident_learning", n_jobs=1
    )
    assert confident_joint(probabilities, labels).tolist() == found.tolist()

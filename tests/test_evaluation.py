"""Protocols: who stands beside whom, and what that changes."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cnn2gnn.config import StudentConfig
from cnn2gnn.data import ImageSet
from cnn2gnn.evaluation.metrics import (
    accuracy,
    beats_guessing,
    expected_calibration_error,
    paired_error,
)
from cnn2gnn.evaluation.protocols import (
    InBatches,
    evaluate,
    inductive,
    no_graph,
    true_batch_size,
)
from cnn2gnn.models.student import Student

GENERATOR = torch.Generator().manual_seed(0)
CLASSES = ("a", "b", "c", "d")


def images(count: int) -> ImageSet:
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=GENERATOR, dtype=torch.uint8)
    labels = torch.randint(0, 4, (count,), generator=GENERATOR)
    return ImageSet(pixels, labels, CLASSES, "noise")


TRAIN, TEST = images(200), images(61)


def make(**config: object) -> Student:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "conv-tiny", "k": 5, **config})  # type: ignore[arg-type]
    student = Student(settings, channels=1, size=8, classes=4, mean=[0.5], std=[0.3]).eval()
    for name, weight in student.network.named_parameters():
        if "message" in name:  # where training starts, neighbours have nothing to say in layer 1
            torch.nn.init.normal_(weight, std=0.1)
    return student


def test_anchors_do_not_depend_on_the_other_test_images() -> None:
    student = make()
    bank = student.bank(TRAIN.images, TRAIN.labels)
    whole = inductive(student, no_graph(student, TEST.images), bank).logits
    part = inductive(student, no_graph(student, TEST.images[7:9]), bank).logits
    torch.testing.assert_close(whole[7:9], part, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scope", ["bank", "batch"])
@pytest.mark.parametrize("graph", ["adaptive", "softmax", "fixed", "random"])
@settings(max_examples=30)
@given(batch_size=st.integers(8, 80), seed=st.integers(0, 5))
def test_in_batches_every_node_is_predicted_once_and_as_against_the_whole_bank(
    scope: str, graph: str, batch_size: int, seed: int
) -> None:
    student = make(scope=scope, graph=graph)
    bank = student.bank(TRAIN.images, TRAIN.labels)
    nodes = no_graph(student, TEST.images)
    order = torch.randperm(61, generator=torch.Generator().manual_seed(seed))
    logits = InBatches(student, nodes, bank)(order, batch_size)
    network = student.network
    for members in order.tensor_split(max(1, 61 // batch_size)):
        features = nodes.features[members]
        pixels = None if nodes.pixels is None else nodes.pixels[members]
        joined = bank if scope == "bank" else None
        among, itself = network.among(features, pixels, joined), torch.arange(len(members))
        if scope == "bank":
            among, itself = bank.joined(among), itself + 200
        expected = network(features, among, itself, pixels).logits
        assert not torch.allclose(expected, nodes.base_logits[members], atol=1e-2)
        torch.testing.assert_close(logits[members], expected.detach(), rtol=1e-4, atol=1e-4)


@given(nodes=st.integers(1, 3000), asked=st.integers(2, 3000))
def test_the_true_batch_size_is_that_of_each_batch_or_one_less(nodes: int, asked: int) -> None:
    size = true_batch_size(nodes, asked)
    parts = torch.arange(nodes).tensor_split(max(1, nodes // asked))
    assert {len(part) for part in parts} <= {size, size + 1}
    assert size >= min(asked, nodes) and (size == nodes) == (len(parts) == 1)
    assert true_batch_size(nodes, size) == size  # what a run notes asks for the same batches


@pytest.mark.parametrize(("asked", "noted"), [(20, 20), (25, 30), (31, 61), (500, 61)])
def test_the_batch_size_that_is_noted_is_the_true_one(asked: int, noted: int) -> None:
    figures, _ = evaluate(make(graph="none"), TEST, None, batch_size=asked, repeats=1, seed=0)
    assert figures["batch"]["batch_size"] == noted


def test_figures_follow_the_seed_and_alone_is_the_own_branch() -> None:
    student = make(scope="batch")
    bank = student.bank(TRAIN.images, TRAIN.labels)
    first, nodes = evaluate(student, TEST, bank, batch_size=20, repeats=3, seed=1)
    again, _ = evaluate(student, TEST, bank, batch_size=20, repeats=3, seed=1)
    assert first == again
    own = student.network.base(student.embed(TEST.images))
    assert first["no_graph"] == (own.argmax(1) == TEST.labels).float().mean().item()
    assert first["batch"]["batch_size"] == 20 and first["batch"]["repeats"] == 3
    assert first["inductive"] == (nodes.logits.argmax(1) == TEST.labels).float().mean().item()


def test_without_a_graph_all_protocols_agree() -> None:
    figures, _ = evaluate(make(graph="none"), TEST, None, batch_size=20, repeats=2, seed=0)
    batch = figures["batch"]
    assert figures["no_graph"] == figures["inductive"] == figures["sorted"] == batch["mean"]
    assert batch["std"] == 0


def test_the_audit_sees_a_leak_through_the_order() -> None:
    """Batches sorted by class put each image beside its class: who believes neighbours gains."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(40)
    patterns = torch.randint(0, 256, (4, 1, 8, 8), generator=generator).float()

    def drawn() -> torch.Tensor:
        noise = torch.randn(160, 1, 8, 8, generator=generator) * 200
        return (patterns[labels] * 0.3 + noise + 60).clamp(0, 255).to(torch.uint8)

    student = make(scope="batch", stem="linear")
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    for _ in range(60):
        loss = F.cross_entropy(student.train()(drawn()).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network = student.eval().network
    with torch.no_grad():  # a neighbour's class moves h to where V reads that class
        network.difference_message.weight.zero_()
        network.label_message.weight.copy_(30 * network.layer2.weight.T)
    test, bank = ImageSet(drawn(), labels, CLASSES, "patterns"), student.bank(drawn(), labels)
    figures, _ = evaluate(student, test, bank, batch_size=20, repeats=5, seed=0)
    assert figures["sorted"] > figures["batch"]["mean"] + 0.03


def test_calibration_error_against_the_definition() -> None:
    logits = torch.randn(300, 4, generator=GENERATOR) * 2
    labels = torch.randint(0, 4, (300,), generator=GENERATOR)
    confidence, predicted = logits.softmax(1).max(1)
    expected = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15)
        if inside.any():
            right = (predicted[inside] == labels[inside]).float().mean()
            expected += inside.float().mean() * (right - confidence[inside].mean()).abs()
    assert expected_calibration_error(logits, labels) == pytest.approx(float(expected), abs=1e-5)


def answers(predicted: torch.Tensor) -> torch.Tensor:
    return F.one_hot(predicted, 4).float()


@pytest.mark.parametrize(
    ("frequent", "rare", "won", "lost", "better"),
    [
        (54, 6, 6, 0, True),  # all are right
        (38, 2, 2, 0, False),  # all are right, but two samples show nothing
        (54, 6, 0, 0, False),  # the guess itself
        (5001, 4999, 120, 100, False),
        (5001, 4999, 150, 100, True),
        (18, 17, 14, 6, False),  # p = 0.058
        (18, 17, 15, 5, True),  # p = 0.021
        (51, 49, 0, 50, False),
    ],
)
def test_better_than_guessing_is_told_by_the_samples_on_which_both_differ(
    frequent: int, rare: int, won: int, lost: int, better: bool
) -> None:
    labels = torch.tensor([2] * frequent + [1] * rare)
    predicted = torch.full_like(labels, 2)
    predicted[frequent : frequent + won] = 1
    predicted[:lost] = 0
    assert beats_guessing(answers(predicted), labels) == better
    differ = scipy.stats.binomtest(won, won + lost, alternative="greater") if won + lost else None
    assert better == (differ is not None and differ.pvalue < 0.05)


def test_the_error_of_a_difference_is_that_of_the_paired_samples() -> None:
    labels = torch.randint(0, 4, (500,), generator=GENERATOR)
    wrong, shared = (torch.rand(500, generator=GENERATOR) < share for share in (0.1, 0.3))
    first, second = labels.where(~shared, 3 - labels), labels.where(~(shared ^ wrong), 3 - labels)
    found = paired_error(answers(first), answers(second), labels)
    difference = (first == labels).double() - (second == labels).double()
    assert found == pytest.approx(difference.square().sum().sqrt().item() / 500)
    assert found == paired_error(answers(second), answers(first), labels)
    assert paired_error(answers(first), answers(first), labels) == 0
    share = accuracy(answers(first), labels)
    assert found < 0.75 * (share * (1 - share) / 500) ** 0.5  # that of one accuracy

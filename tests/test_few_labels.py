"""Few labels: who keeps one, and what a node without one tells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_texts import texts
from torch import Tensor, nn

from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.distillation import few_labels as recipe
from cnn2gnn.evaluation.few_labels import compare, few_labels, with_answers, with_few_labels
from cnn2gnn.evaluation.label_spreading import spread_labels, votes_over_graph, votes_over_points
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.models.student import Student
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import Run, load_splits


class Oracle(nn.Module):
    """Knows the class of each of these images."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images.flatten(1).float() / 255)
        self.register_buffer("answers", 100 * nn.functional.one_hot(labels, 10).float())

    def forward(self, images: Tensor) -> Tensor:
        return self.answers[torch.cdist(images.flatten(1), self.images).argmin(1)]


@pytest.fixture(scope="module")
def given(small_run: Run) -> tuple[Student, Splits]:
    return small_run.load_student(), small_run.load_splits()


def test_each_class_keeps_its_share_and_no_image_is_lost(given: tuple[Student, Splits]) -> None:
    _, splits = given
    before = splits.train.labels.bincount()
    smaller: Tensor | None = None
    for share in (0.01, 0.05, 0.1, 0.5):
        labelled, rest = with_few_labels(splits, share, seed=3)
        counts = labelled.train.labels.bincount(minlength=10)
        assert counts.sum() == round(share * len(splits.train))
        assert (counts - share * before).abs().max() <= 1 and counts.min() >= 1
        assert torch.equal(counts + rest.labels.bincount(), before)
        assert labelled.test is splits.test
        told = labelled.validation.labels.bincount(minlength=10)  # they tell α: labels as well
        assert told.sum() == max(10, round(share * len(splits.validation))) and told.min() >= 1
        images = labelled.train.images.flatten(1).float()
        if smaller is not None:
            assert torch.cdist(smaller, images).min(1).values.max() < 1e-2, "not nested"
        smaller = images
    other, _ = with_few_labels(splits, 0.5, seed=4)
    assert not torch.equal(other.train.images, labelled.train.images)


def test_a_rare_class_keeps_a_label_too(given: tuple[Student, Splits]) -> None:
    _, splits = given

    def rare(part: ImageSet) -> ImageSet:
        """With two images of each class but the first five."""
        onehot = nn.functional.one_hot(part.labels, 10)
        rank = (onehot.cumsum(0) * onehot).sum(1)  # 1 for the first of its class, …
        return part.subset(((part.labels < 5) | (rank <= 2)).nonzero()[:, 0])

    labelled, rest = with_few_labels(Splits(*map(rare, splits)), 0.05, seed=0)
    for part in (labelled.train, labelled.validation):
        assert (part.labels.bincount(minlength=10) >= 1).all()
    assert len(labelled.train) == round(0.05 * (len(labelled.train) + len(rest)))


@pytest.mark.parametrize("share", [0.0, 0.005, 1.0])
def test_too_few_labels_are_refused(given: tuple[Student, Splits], share: float) -> None:
    with pytest.raises(DataError, match=rf"share={share} leaves .* from 10, one a class, to"):
        with_few_labels(given[1], share, seed=0)


def test_an_answer_counts_as_a_label_does(given: tuple[Student, Splits]) -> None:
    student, splits = given
    labelled, rest = with_few_labels(splits, 0.2, seed=0)
    bank = student.bank(labelled.train.images, labelled.train.labels)
    nodes = no_graph(student, splits.test.images)
    onehot = nn.functional.one_hot(rest.labels, 10)
    told = inductive(student, nodes, with_answers(student, bank, rest.images, onehot))
    known = inductive(student, nodes, student.enlarged(bank, rest.images, rest.labels))
    torch.testing.assert_close(told.logits, known.logits, rtol=1e-4, atol=1e-4)


def test_what_the_student_says_itself_tells_it_nothing_new(given: tuple[Student, Splits]) -> None:
    student, splits = given
    labelled, rest = with_few_labels(splits, 0.2, seed=0)
    bank = student.bank(labelled.train.images, labelled.train.labels)
    own = no_graph(student, rest.images).logits.softmax(1)
    joined = with_answers(student, bank, rest.images, own)
    assert torch.equal(joined.residuals[: len(bank)], bank.residuals)
    assert joined.residuals[len(bank) :].abs().max() < 2e-3  # a bank is in half precision
    assert (joined.labels[len(bank) :] == -1).all()


def test_a_teacher_that_knows_all_is_worth_all_labels(given: tuple[Student, Splits]) -> None:
    student, splits = given
    labelled, rest = with_few_labels(splits, 0.1, seed=0)
    images, labels = (
        torch.cat([getattr(part, name) for part in splits]) for name in ("images", "labels")
    )
    teacher = Teacher(Oracle(images, labels), [0.0], [1.0], "oracle")
    said = compare(student, student, teacher, labelled, rest)
    assert torch.equal(said["teacher"].argmax(1), splits.test.labels)
    nodes = no_graph(student, splits.test.images)
    bank = student.bank(labelled.train.images, labelled.train.labels)
    known = inductive(student, nodes, student.enlarged(bank, rest.images, rest.labels)).logits
    told = said["unlabelled ones as the teacher says"]
    torch.testing.assert_close(told, known, rtol=1e-3, atol=1e-3)
    assert torch.equal(said["twin"], nodes.logits)


def test_labels_spread_to_images_that_a_few_labels_would_not_tell(
    given: tuple[Student, Splits],
) -> None:
    student, splits = given
    train, none = splits.train, few_labels(splits.train, 0.05, 0) < 0
    bank = student.bank(train.images, train.labels.masked_fill(none, -1))
    answers = spread_labels(student, bank, 10)
    torch.testing.assert_close(answers.sum(1), torch.ones(len(train)))
    assert torch.equal(answers[~none].argmax(1), train.labels[~none])
    keys = bank.keys.float()
    means = torch.stack([keys[bank.labels == c].mean(0) for c in range(10)])
    spread_right, means_right = (
        (found == train.labels)[none].float().mean()
        for found in (answers.argmax(1), torch.cdist(keys, means).argmin(1))
    )
    assert spread_right > max(means_right, 0.97)
    test = no_graph(student, splits.test.images)
    features, labelled = student.features(train.images), bank.labels
    plain = features, labelled, 10, test.features, 10
    centres = torch.stack([features[labelled == c].mean(0) for c in range(10)])
    unspread = torch.cdist(test.features, centres).argmin(1) == splits.test.labels
    # of plain features 94.7 % on some processors, more on others: training rounds as they do
    for voted, least in (
        (votes_over_graph(student, test, bank, answers), 0.95),
        (votes_over_points(*plain), max(0.94, unspread.float().mean())),
    ):
        torch.testing.assert_close(voted.sum(1), torch.ones(len(splits.test)))
        assert (voted.argmax(1) == splits.test.labels).float().mean() > least


def words(folder: Path, **more: object) -> tuple[Config, Splits]:
    """The configuration of a run on a few texts, and these."""
    table = folder / "words.parquet"
    texts(160).to_parquet(table)
    given = {"dataset": f"text:{table}", "stem": "ngrams", "device": "cpu", "seed": 3}
    config = Config.from_parameters({**given, "runs_dir": str(folder / "runs")} | more)
    return config, load_splits(config.data)


def test_the_recipe_is_that_of_the_published_table() -> None:
    config = Config.from_parameters(seed=3, learning_rate=0.01, stem="conv-tiny")
    parts = {
        "teacher": {"teacher_epochs": 60, "teacher_batch_size": 30, "teacher_seed": 3},
        "student": {"k": 20},
        "training": {"epochs": 60, "batch_size": 30, "graph_epochs": 30, "graph_batch_size": 60},
    }
    parts["training"]["baselines"] = "twin"
    asked = {name: replace(getattr(config, name), **part) for name, part in parts.items()}
    assert recipe.few_labels_config(config, 61) == replace(config, **asked)
    assert recipe.few_labels_config(config, 12).student.k == 6


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "teacher='resnet20' is not for text: choose text-cnn"),
        ({"teacher": "text-cnn", "stem": "conv-small"}, "stem='conv-small' is not for text"),
        ({"teacher": "text-cnn", "run": 95 * "x"}, "run='x+-spread-1' must be a .* at most 100 by"),
        ({"teacher": "text-cnn", "k": 1000}, None),  # half of the labels
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    tmp_path: Path, asked: dict[str, object], said: str | None
) -> None:
    config, splits = words(tmp_path, **asked)
    if said is None:
        recipe.check_few_labels(config, splits, 0.2)
    else:
        with pytest.raises(ConfigError, match=said):
            recipe.check_few_labels(config, splits, 0.2)
    assert not (tmp_path / "runs").exists()


def test_few_labels_of_texts_are_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EPOCHS", "GRAPH_EPOCHS"):
        monkeypatch.setattr(recipe, name, 2)
    config, splits = words(tmp_path, teacher="text-cnn", k=1000)  # more than there are texts
    found = recipe.learn_from_few_labels(config, splits, 0.2)
    assert list(found["method"])[:3] == ["teacher", "twin", "labelled nodes"]
    assert found["accuracy"].between(0, 1).all() and set(found["labels"]) == {22}
    assert list(found["method"])[-1] == "trained on spread labels"
    told = found.set_index("method")["told"].dropna()
    assert [*told.index] == ["labels spread over its graph", "labels spread again"]
    assert told.between(0, 1).all()
    assert Run.open(tmp_path / "runs" / f"{config.runtime.run}-spread-2").load_student()

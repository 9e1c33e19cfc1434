"""Classes that arrive after training: their images join the bank, and nothing is trained."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from cnn2gnn.config import StudentConfig
from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.evaluation.class_means import class_means
from cnn2gnn.evaluation.late_classes import (
    accuracies,
    balanced,
    check_late,
    compare,
    few,
    probabilities,
    set_apart,
    trained_again,
)
from cnn2gnn.evaluation.protocols import inductive, no_graph
from cnn2gnn.graph import SparseGraph
from cnn2gnn.models.bank import Bank
from cnn2gnn.models.student import Student
from cnn2gnn.predictor import Predictor
from cnn2gnn.registry import LEARNERS

CLASSES = ("dark", "grey")


def blobs(levels: list[int], each: int, seed: int) -> ImageSet:
    """Images around a level of grey of their own a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(levels)).repeat_interleave(each)
    noise = torch.randint(-9, 10, (len(labels), 1, 8, 8), generator=generator)
    pixels = torch.tensor(levels)[labels][:, None, None, None] + noise
    names = ("dark", "grey", "bright", "white")[: len(levels)]
    return ImageSet(pixels.to(torch.uint8), labels, names, "blobs")


KNOWN, ALL, TEST = (
    blobs([20, 90], 60, 0),
    blobs([20, 90, 160, 230], 30, 1),
    blobs([20, 90, 160, 230], 9, 2),
)
BRIGHT = ALL.images[ALL.labels == 2]


def predictor(classes: int = 2, **config: object) -> Predictor:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "linear", "k": 6, **config})  # type: ignore[arg-type]
    student = Student(settings, channels=1, size=8, classes=classes, mean=[0.4], std=[0.3]).eval()
    bank = None if student.scope == "none" else student.bank(KNOWN.images, KNOWN.labels)
    return Predictor(student, bank, CLASSES + ("bright", "white")[: classes - 2])


def same(one: Bank, other: Bank) -> bool:
    mine, theirs = one.tensors, other.tensors
    return mine.keys() == theirs.keys() and all(torch.equal(mine[n], theirs[n]) for n in mine)


def finding_late_classes() -> list[str]:
    """The graphs by which late classes are not refused."""
    fit = []
    for graph in LEARNERS:
        with suppress(ValueError):
            check_late(graph)
            fit.append(graph)
    return fit


@pytest.mark.parametrize("config", [{"graph": graph} for graph in finding_late_classes()], ids=str)
def test_added_classes_are_predicted_though_they_are_few(config: dict[str, object]) -> None:
    grown = predictor(**config)
    rows = grown.add(BRIGHT[:3], "bright", new=["bright"])
    assert rows.tolist() == [120, 121, 122] and grown.classes == ("dark", "grey", "bright")
    assert (grown.predict(TEST.images[TEST.labels == 2]) == "bright").all()
    assert (grown.predict(TEST.images[TEST.labels < 2]) != "bright").all()
    found = grown.predict_proba(TEST.images)
    assert found.shape == (36, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    table = grown.neighbours(TEST.images[TEST.labels == 2])
    assert (table.groupby("image")["weight"].sum() - 1).abs().max() < 1e-4
    assert table.groupby("label")["weight"].sum().idxmax() == "bright"


def test_remove_undoes_add_exactly() -> None:
    grown, before = predictor(), predictor()
    first = grown.add(BRIGHT[:4], "bright", new=["bright"])
    middle = Predictor(grown.student, grown.bank, grown.classes)
    white = grown.add(ALL.images[ALL.labels == 3][:5], ["white"] * 5, new=["white"])
    more = grown.add(KNOWN.images[:2], "dark")  # of a class that was there from the start
    grown.remove([*white, *more])
    assert middle.bank is not None and grown.bank is not None and before.bank is not None
    assert grown.classes == middle.classes and same(grown.bank, middle.bank)
    grown.remove(first)
    assert grown.classes == CLASSES and same(grown.bank, before.bank)
    np.testing.assert_array_equal(
        grown.predict_proba(TEST.images), before.predict_proba(TEST.images)
    )


def test_rows_are_removed_once() -> None:
    grown = predictor()
    rows = grown.add(BRIGHT[:4], np.array(["bright"] * 4), new="bright")
    grown.remove([])
    assert grown.classes == ("dark", "grey", "bright")
    grown.remove(torch.from_numpy(rows))
    with pytest.raises(ValueError, match="rows: 120 is no node, allowed are 0 to 119"):
        grown.remove(rows)


def test_a_label_that_two_classes_have_is_refused() -> None:
    student, bank = predictor().student, predictor().bank
    twins = Predictor(student, bank, ("crane", "crane"))
    with pytest.raises(ValueError, match="labels: 'crane' is the name of several classes"):
        twins.add(BRIGHT[:1], "crane")


def test_a_class_that_goes_lets_the_next_one_move_up() -> None:
    grown = predictor()
    bright = grown.add(BRIGHT[:4], "bright", new=["bright"])
    grown.add(ALL.images[ALL.labels == 3][:4], "white", new=["white"])
    grown.remove(bright)
    assert grown.classes == ("dark", "grey", "white")
    assert (grown.predict(TEST.images[TEST.labels == 3]) == "white").all()


def test_without_late_nodes_the_student_answers_and_with_them_it_judges_between_its_own() -> None:
    grown = predictor()
    assert grown.bank is not None
    nodes = no_graph(grown.student, TEST.images)
    expected = inductive(grown.student, nodes, grown.bank).logits.softmax(1)
    np.testing.assert_array_equal(grown.predict_proba(TEST.images), expected)
    grown.add(BRIGHT, "bright", new=["bright"])
    found = torch.from_numpy(grown.predict_proba(TEST.images))
    far = TEST.labels == 0  # no bright node among their neighbours
    torch.testing.assert_close(found[far][:, :2], expected[far])
    left = 1 - found[:, 2:]
    torch.testing.assert_close(found[:, :2], left * expected)


def test_the_order_of_the_bank_changes_nothing() -> None:
    student, bank = predictor().student, predictor().bank
    assert bank is not None
    bank = student.enlarged(bank, ALL.images, ALL.labels)
    mixed = bank.subset(torch.randperm(len(bank), generator=torch.Generator().manual_seed(0)))
    nodes = no_graph(student, TEST.images)
    found, again = (probabilities(student, nodes, each, 4) for each in (bank, mixed))
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-4)


def test_balanced_weights_are_those_of_equal_shares() -> None:
    labels = torch.tensor([0, 0, 0, 1, -1])
    edges, even = torch.tensor([[0, 1, 3], [0, 4, 2]]), torch.full((2, 3), 1 / 3)
    found = balanced(SparseGraph(edges, even, sources=5), labels).weights
    torch.testing.assert_close(found, torch.tensor([[0.2, 0.2, 0.6], [0.5, 0.0, 0.5]]))
    alone = balanced(SparseGraph(edges[1:, 1:2], torch.ones(1, 1), sources=5), labels)
    assert alone.weights.tolist() == [[0.0]]


def test_a_grown_predictor_is_saved_with_its_classes(tmp_path: Path) -> None:
    grown = predictor()
    grown.add(BRIGHT[:5], "bright", new=["bright"])
    grown.save(tmp_path / "grown")
    again = Predictor.load(tmp_path / "grown")
    assert again.classes == grown.classes and repr(again).startswith("Predictor(3 classes")
    found = again.predict_proba(TEST.images)
    np.testing.assert_allclose(found, grown.predict_proba(TEST.images), atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "new", "said"),
    [
        ("brigth", ["bright"], "labels: 'brigth' must be one of 'dark', 'grey', 'bright', or"),
        ("bright", [], "labels: 'bright' must be one of 'dark', 'grey', or be named in new"),
        (["dark"], [], "labels: 1 names for 3 images"),
        ("dark", ["dark"], "new: 'dark' is a class already"),
        ("bright", ["bright", "bright"], "new: 'bright' is a class already, or is named twice"),
        (
            "cafe\u0301",
            ["cafe\u0301", "caf\xe9"],
            "new: '.*' is a class already, or is named twice",
        ),
        ([1, 1, 2], ["bright"], "labels: 1 must be the name of a class, as text"),
        (1, [], "labels: 1 must be the name of a class, as text"),
        ("bright", [3], "new: 3 must be the name of a class, as text"),
        ("bright", "white", "labels: 'bright' must be one of 'dark', 'grey', 'white', or"),
        ("bright", ["bright", "white"], "new: no image has the label 'white'"),
    ],
)
def test_a_wrong_name_is_told_and_changes_nothing(labels: str, new: list[str], said: str) -> None:
    grown, before = predictor(), predictor()
    with pytest.raises(ValueError, match=said):
        grown.add(BRIGHT[:3], labels, new)
    assert grown.bank is not None and before.bank is not None
    assert grown.classes == CLASSES and same(grown.bank, before.bank)


def test_what_cannot_be_added_or_removed_is_told() -> None:
    grown = predictor()
    with pytest.raises(DataError, match=r"images of shape \(3, 2, 8, 8\)"):
        grown.add(torch.zeros(3, 2, 8, 8, dtype=torch.uint8), "dark")
    for rows in ([120], [-1]):
        with pytest.raises(ValueError, match=f"rows: {rows[0]} is no node, allowed are 0 to 119"):
            grown.remove(rows)
    for wrong, said in (
        ([True] * 120, r"rows must be integers \(n,\), not bool \(120,\)"),
        ([1.5], r"rows must be integers \(n,\), not float64"),
        (5, r"rows must be integers \(n,\), not int64 \(\)"),
        ([7, 5, 7], "rows: 7 is named twice"),
    ):
        with pytest.raises(ValueError, match=said):
            grown.remove(wrong)
    with pytest.raises(ValueError, match=r"rows: 7 nodes .* would be left, k \+ 2 = 8 are needed"):
        grown.remove(range(113))
    for graph in ("none", "random"):
        with pytest.raises(ValueError, match=f"graph='{graph}' finds no nearest nodes"):
            predictor(graph=graph).add(BRIGHT, "bright", ["bright"])
    anchors = predictor(graph="anchors")
    with pytest.raises(ValueError, match="graph='anchors' does not find .* one of adaptive, "):
        anchors.add(BRIGHT, "bright", ["bright"])
    assert anchors.add(BRIGHT, "dark").tolist() == [*range(120, 150)]
    assert grown.bank is not None
    with pytest.raises(ValueError, match="3 names for a student of 2 classes"):
        Predictor(grown.student, grown.bank, ("dark", "grey", "bright"))


def test_classes_are_set_apart_and_none_is_lost() -> None:
    splits = Splits(ALL, TEST, TEST)
    apart = set_apart(splits, 1, seed=3)
    old, late = apart.old, apart.late
    assert apart.known == 3 and apart.whole.train.classes == late.train.classes
    assert late.train.classes[:3] == old.train.classes and len(late.train.classes) == 4
    for whole, mine, others in zip(splits, old, late, strict=True):
        assert len(mine) + len(others) == len(whole)
        for images in (mine, others):
            names = [images.classes[label] for label in images.labels]
            levels = images.images.float().mean((1, 2, 3))
            expected = [("dark", "grey", "bright", "white")[int(level // 64)] for level in levels]
            assert names == expected
    for late in (0, 3):
        with pytest.raises(
            DataError, match=rf"late={late} must be from 1 to 2: 4 classes, 4 with test"
        ):
            set_apart(splits, late, seed=0)
    with pytest.raises(DataError, match="late=1: no class of blobs can come late: 2 classes"):
        set_apart(Splits(KNOWN, KNOWN, KNOWN), 1, seed=0)


def test_late_classes_are_drawn_among_those_with_test_images() -> None:
    def splits(*tested: int) -> Splits:
        rows = torch.isin(TEST.labels, torch.tensor(tested)).nonzero()[:, 0]
        return Splits(ALL, TEST, TEST.subset(rows))

    for seed in range(9):
        apart = set_apart(splits(1, 3), 1, seed)
        assert apart.late.train.classes[3] in ("grey", "white")
        assert all(len(part) == 9 for part in (apart.old.test, apart.late.test))
        everything = set_apart(splits(0, 1, 2, 3), 1, seed).whole.train.classes
        order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
        assert everything == tuple(ALL.classes[label] for label in order)
    with pytest.raises(DataError, match="late=2 must be from 1 to 1: 4 classes, 2 with"):
        set_apart(splits(1, 3), 2, seed=0)
    with pytest.raises(DataError, match="no class of blobs can come late: 4 classes, 1 with"):
        set_apart(splits(3), 1, seed=0)


def test_few_are_so_many_of_each_class() -> None:
    some = few(ALL, 5, seed=1)
    assert some.labels.bincount().tolist() == [5] * 4
    assert few(ALL, None, seed=1) is ALL
    assert not torch.equal(some.images, few(ALL, 5, seed=2).images)


def test_the_comparison_has_a_row_for_each_method() -> None:
    apart = set_apart(Splits(ALL, TEST, TEST), 2, seed=0)
    table = compare(predictor().student, apart, [3, None], seed=0)
    assert table["method"].tolist() == ["student", *["graph", "class means"] * 2]
    assert table["images"].tolist() == ["0", "3", "3", "all", "all"]
    assert table["new"].tolist()[0] == 0 and (table["new"][1:] == 1).all()
    none = compare(predictor().student, apart, [0], seed=0)
    assert none["images"].tolist() == ["0"] * 3 and (none["new"] == 0).all()
    again = trained_again(predictor(classes=4).student, apart)
    assert again.columns.tolist() == table.columns.tolist()


def test_accuracies_and_class_means_by_hand() -> None:
    found = accuracies(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 2, 2]), known=2)
    assert found == {"old": 0.5, "new": 0.5, "all": 0.5}
    keys = torch.tensor([[0.0], [2.0], [9.0]])
    bank = Bank(keys, torch.tensor([0, 0, 1]), torch.ones(3, 1))
    assert class_means(torch.tensor([[4.0], [6.0]]), bank, 3).tolist() == [0, 1]

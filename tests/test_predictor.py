"""The predictor: what a run reported, in one object and one file, whatever form images come in."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pandas.testing import assert_frame_equal
from PIL import Image
from torch import nn

from cnn2gnn.base.files import BrokenFileError
from cnn2gnn.config import StudentConfig
from cnn2gnn.data import DataError
from cnn2gnn.graph import FixedNeighbours
from cnn2gnn.models.student import Student
from cnn2gnn.predictor import Predictor
from cnn2gnn.runs import Run

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randint(0, 256, (120, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.arange(120) % 3
CLASSES = ("cat", "دجاجة", "$x_1$")
CLASSES_OF_DIGITS = tuple("0123456789")


def untrained(**config: object) -> Predictor:
    torch.manual_seed(0)
    settings = StudentConfig(**{"stem": "conv-tiny", "k": 4, **config})  # type: ignore[arg-type]
    shape = {"channels": 3, "size": 8, "classes": 3}
    student = Student(settings, **shape, mean=[0.5] * 3, std=[0.3] * 3).eval()
    bank = None if student.scope == "none" else student.bank(IMAGES, LABELS)
    return Predictor(student, bank, CLASSES)


@pytest.fixture(scope="module")
def predictor(small_run: Run) -> Predictor:
    return Predictor.load(small_run)


def test_it_predicts_what_the_run_reported(small_run: Run, predictor: Predictor) -> None:
    test, nodes = small_run.load_splits().test, small_run.load_nodes()
    probabilities = predictor.predict_proba(test.images)
    assert probabilities.dtype == np.float32 and probabilities.shape == (len(test), 10)
    np.testing.assert_allclose(probabilities, nodes["logits"].softmax(1), atol=1e-3)
    predicted = predictor.predict(test.images)
    assert predicted.tolist() == [test.classes[i] for i in nodes["logits"].argmax(1)]
    names = np.array(test.classes)[test.labels]
    reported = small_run.metrics()["student"]["accuracy"]["inductive"]
    assert np.mean(predicted == names) == pytest.approx(reported, abs=1e-6)


def test_neighbours_are_the_reported_edges(small_run: Run, predictor: Predictor) -> None:
    splits, nodes = small_run.load_splits(), small_run.load_nodes()
    table = predictor.neighbours(splits.test.images[:7])
    k = small_run.config.student.k
    assert table.columns.tolist() == ["image", "rank", "node", "label", "weight", "distance"]
    assert table["image"].tolist() == [i for i in range(7) for _ in range(k)]
    assert table["rank"].tolist() == [*range(1, k + 1)] * 7
    assert table["node"].tolist() == nodes["neighbours"][:7].flatten().tolist()
    np.testing.assert_allclose(table["weight"], nodes["weights"][:7].flatten(), atol=1e-3)
    np.testing.assert_allclose(table["distance"], nodes["distances"][:7].flatten(), rtol=1e-2)
    classes, labels = splits.train.classes, splits.train.labels
    assert table["label"].tolist() == [classes[labels[node]] for node in table["node"]]


@pytest.mark.parametrize("scope", ["bank", "batch"])
def test_an_image_is_predicted_alike_alone_and_in_any_company(scope: str) -> None:
    predictor = untrained(scope=scope)
    together = predictor.predict_proba(IMAGES)
    alone = np.concatenate([predictor.predict_proba(image) for image in IMAGES[:20]])
    np.testing.assert_allclose(alone, together[:20], atol=1e-4)
    np.testing.assert_allclose(predictor.predict_proba(IMAGES.flip(0)), together[::-1], atol=1e-4)


def test_every_form_of_an_image_gets_the_same_answer(tmp_path: Path) -> None:
    predictor, expected = untrained(), untrained().predict(IMAGES[:5])
    assert set(expected) <= set(CLASSES)
    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in IMAGES[:5]]
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    last = IMAGES[:5].permute(0, 2, 3, 1)
    for form in (IMAGES[:5].numpy(), last, last.numpy() / 255, pictures, paths):
        np.testing.assert_array_equal(predictor.predict(form), expected)
    assert predictor.predict(paths[3]).tolist() == [expected[3]]


def test_wrong_input_is_one_error_that_names_it() -> None:
    predictor = untrained()
    for ask in (predictor.predict, predictor.predict_proba, predictor.neighbours):
        with pytest.raises(DataError, match=r"images of shape \(120, 3, 8, 8\) is int64"):
            ask(IMAGES.long())
        with pytest.raises(DataError, match="images is empty"):
            ask([])


@pytest.mark.parametrize(
    "config",
    [{}, {"scope": "batch"}, {"graph": "none"}, {"graph": "fixed"}, {"graph": "random"}],
    ids=str,
)
def test_a_saved_predictor_is_the_same(config: dict[str, object], tmp_path: Path) -> None:
    predictor, path = untrained(**config), tmp_path / "new folder" / "my.predictor"
    predictor.save(path)
    predictor.save(path)  # it may be replaced
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    for again in (Predictor.load(path), Predictor.load(str(path))):
        assert again.classes == CLASSES
        np.testing.assert_allclose(
            again.predict_proba(IMAGES[:9]), predictor.predict_proba(IMAGES[:9]), atol=1e-5
        )
        if predictor.bank is not None:
            was = predictor.neighbours(IMAGES[:9])
            assert_frame_equal(again.neighbours(IMAGES[:9]), was, atol=1e-5)


def test_the_saved_file_needs_neither_run_nor_data(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path / "digits.safetensors")
    code = (
        "import sys, numpy as np; from cnn2gnn import Predictor\n"
        "import cnn2gnn.data.store as store; store.decoded = None  # no data set is read\n"
        "predictor = Predictor.load('digits.safetensors')\n"
        "print(predictor.predict(np.zeros((2, 8, 8, 1), np.uint8)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "(2,)\n"), done.stderr


def test_a_run_is_found_by_name_and_by_folder(small_run: Run, predictor: Predictor) -> None:
    images = small_run.load_splits().test.images[:9]
    folder = small_run.folder
    for again in (
        Predictor.load(folder.name, runs_dir=folder.parent),
        Predictor.load(folder),
        Predictor.load(str(folder)),
    ):
        np.testing.assert_array_equal(again.predict(images), predictor.predict(images))


def test_what_cannot_be_loaded_is_named(small_run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run in .*gone"):
        Predictor.load(tmp_path / "gone")
    with pytest.raises(BrokenFileError, match=r"student.safetensors holds no predictor"):
        Predictor.load(small_run.folder / "student.safetensors")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(BrokenFileError, match="text is damaged"):
        Predictor.load(tmp_path / "text")
    whole = tmp_path / "whole"
    untrained().save(whole)
    (tmp_path / "half").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(BrokenFileError, match="half is damaged"):
        Predictor.load(tmp_path / "half")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(small_run.folder, unfinished)
    (unfinished / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match="has not finished"):
        Predictor.load(unfinished)
    with pytest.raises(ValueError, match="is a folder: name a file"):
        untrained().save(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, path = untrained(), tmp_path / "p"
    predictor.save(path)
    before = path.read_bytes()

    def fails(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", fails)
    with pytest.raises(OSError, match="no space"):
        predictor.save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["p"]


def test_labels_spread_to_all_images_at_once(small_run: Run, predictor: Predictor) -> None:
    splits = small_run.load_splits()
    few = torch.cat([(splits.train.labels == c).nonzero()[:2, 0] for c in range(10)])
    kept = Predictor(predictor.student, predictor.bank.subset(few.sort().values), CLASSES_OF_DIGITS)
    found = kept.spread(splits.test.images)
    assert found.dtype == np.float32 and found.shape == (len(splits.test), 10)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    right = (found.argmax(1) == splits.test.labels.numpy()).mean()
    assert right > 0.9, "two labels a class, on keys that all labels have taught"
    some = kept.spread(splits.test.images[:200])
    assert not np.allclose(some, found[:200], atol=1e-3), "the other images have a say"
    assert len(kept.bank) == 20 and kept.classes == CLASSES_OF_DIGITS


def test_labels_of_a_late_class_spread_as_well() -> None:
    predictor = untrained()
    late = (IMAGES[:40] // 8) + 200  # unlike all others
    predictor.add(late[:10], "late", new="late")
    found = predictor.spread(torch.cat([late[10:], IMAGES[40:80]]))
    assert found.shape == (70, 4)
    assert found[:30, 3].min() > found[30:, 3].max()
    with pytest.raises(ValueError, match="graph='none' finds no nearest nodes"):
        untrained(graph="none").spread(IMAGES)


def test_without_a_graph_it_predicts_but_has_no_reasons() -> None:
    predictor = untrained(graph="none")
    assert predictor.predict_proba(IMAGES[:4]).shape == (4, 3)
    with pytest.raises(ValueError, match="graph='none'.*no image has neighbours"):
        predictor.neighbours(IMAGES[:4])


def test_random_neighbours_have_no_distance() -> None:
    table = untrained(graph="random").neighbours(IMAGES[:2])
    assert table["distance"].isna().all() and table["weight"].eq(0.25).all()


class MyStem(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, 6))


class Nearest(FixedNeighbours):
    space = "features"


def test_parts_of_my_own_are_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = {"stem": MyStem(), "learner": Nearest(3)}
    shape = {"channels": 3, "size": 8, "classes": 3}
    student = Student(StudentConfig(), **shape, mean=[0.5] * 3, std=[0.3] * 3, **parts).eval()
    predictor = Predictor(student, student.bank(IMAGES, LABELS), CLASSES)
    predictor.save(tmp_path / "own")
    fresh = MyStem()  # its weights do not matter: those of the file are taken
    before = fresh[1].weight.clone()
    again = Predictor.load(tmp_path / "own", stem=fresh, graph=Nearest(3))
    assert_frame_equal(again.neighbours(IMAGES[:5]), predictor.neighbours(IMAGES[:5]), atol=1e-5)
    assert torch.equal(fresh[1].weight, before)
    for given in ({}, {"stem": MyStem()}, {"stem": nn.Flatten(), "graph": Nearest(3)}):
        with pytest.raises(ValueError, match="own was made with.*MyStem.*Nearest.*given are"):
            Predictor.load(tmp_path / "own", **given)
    untrained().save(tmp_path / "theirs")
    with pytest.raises(ValueError, match="of no kind, given are .*Nearest"):
        Predictor.load(tmp_path / "theirs", graph=Nearest(4))


def test_parts_that_do_not_belong_together_are_refused() -> None:
    one, none = untrained(), untrained(graph="none")
    assert one.bank is not None
    narrow = untrained()
    assert narrow.bank is not None
    narrow = replace(narrow.bank, keys=narrow.bank.keys[:, :64])
    for student, bank, classes, said in (
        (one.student, one.bank, CLASSES[:2], "2 names for a student of 3 classes"),
        (one.student, None, CLASSES, "scope 'bank' needs the one it was trained with"),
        (none.student, one.bank, CLASSES, "takes none"),
        (one.student, narrow, CLASSES, r"are \(64, 3\), the student's \(208, 3\)"),
    ):
        with pytest.raises(ValueError, match=said):
            Predictor(student, bank, classes)


def test_it_moves_and_is_pickled_on_the_cpu() -> None:
    predictor = untrained()
    assert predictor.to("cpu") is predictor and predictor.device == torch.device("cpu")
    expected = predictor.predict_proba(IMAGES[:5])
    moved = predictor.to("meta")
    assert moved.device.type == "meta" and moved.bank is not None
    assert moved.bank.keys.device.type == "meta"
    again = pickle.loads(pickle.dumps(untrained()))
    np.testing.assert_allclose(again.predict_proba(IMAGES[:5]), expected, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_predicts_what_the_cpu_does() -> None:
    predictor = untrained()
    expected = predictor.predict_proba(IMAGES)
    predictor.to("cuda")
    np.testing.assert_allclose(predictor.predict_proba(IMAGES), expected, atol=1e-2)
    assert pickle.loads(pickle.dumps(predictor)).device.type == "cpu"
    assert predictor.device.type == "cuda"


def test_a_compressed_predictor_is_saved_and_predicts_nearly_the_same(
    small_run: Run, predictor: Predictor, tmp_path: Path
) -> None:
    images = small_run.load_splits().test.images
    small = predictor.compressed()
    small.save(tmp_path / "small.safetensors")
    predictor.save(tmp_path / "whole.safetensors")
    size, whole = ((tmp_path / f"{n}.safetensors").stat().st_size for n in ("small", "whole"))
    assert predictor.bank is not None and small.bank is not None
    saved = 1e6 * (predictor.bank.megabytes - small.bank.megabytes)
    assert saved > 0 and abs(whole - size - saved) < 1000
    again = Predictor.load(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(again.predict_proba(images), small.predict_proba(images))
    assert (small.predict(images) == predictor.predict(images)).mean() > 0.98
    nodes = small.add(images[:3], small.classes[0])
    small.save(tmp_path / "more.safetensors")
    more = Predictor.load(tmp_path / "more.safetensors")
    np.testing.assert_array_equal(more.predict_proba(images), small.predict_proba(images))
    small.remove(nodes)
    np.testing.assert_array_equal(again.predict_proba(images), small.predict_proba(images))


def test_too_few_bytes_for_k_plus_2_nodes_are_refused() -> None:
    predictor = untrained()
    assert predictor.bank is not None
    smallest = predictor.bank.rounded(2)
    fixed = smallest.subset(slice(0, 0)).megabytes
    few = fixed + (smallest.megabytes - fixed) * 5 / len(smallest)
    with pytest.raises(ValueError, match=r"megabytes=.*: 3 nodes .* k \+ 2 = 6 are needed"):
        predictor.compressed(few)
    with pytest.raises(ValueError, match="no bank to change"):
        untrained(graph="none").compressed()

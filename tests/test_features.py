"""Feature vectors, from the file to the predictor."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_config
from PIL import Image

from cnn2gnn import Predictor, distil, load_data
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError, ImageSet, Splits
from cnn2gnn.distillation.processes import start
from cnn2gnn.distillation.teacher import obtain_teacher
from cnn2gnn.explore.markup import card_html
from cnn2gnn.explore.state import ExplorerState
from cnn2gnn.models.given import GivenAnswers, given_teacher
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import load_splits
from cnn2gnn.runs.manifest import check_config


def vectors(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    return np.random.default_rng(0).normal(labels[:, None] * 2.0, 1, (count, 6)), labels


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_are_distilled_and_predicted(tmp_path: Path, suffix: str) -> None:
    rows, labels = vectors()
    path = tmp_path / f"f.{suffix}"
    if suffix == "npz":
        np.savez(path, features=rows, labels=labels, classes=["no", "yes"])
    else:
        pd.DataFrame({"features": list(rows), "label": np.array(["no", "yes"])[labels]}).to_parquet(
            path
        )
    asked = {"dataset": f"features:{path}", "stem": "features", "teacher": "mlp"}
    run = distil(small_config(tmp_path, run=f"f-{suffix}", **asked, epochs=5, teacher_epochs=4))
    splits = run.load_splits()
    assert splits.train.images.shape[1:] == (6, 1, 1) and splits.train.images.is_floating_point()
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.85
    predictor = Predictor.load(run)
    assert predictor.predict(np.array([[2.0] * 6, [0.0] * 6])).tolist() == ["yes", "no"]
    with pytest.raises(DataError, match=r"features of shape \(2, 5\) must be \(N, 6\)"):
        predictor.predict(np.zeros((2, 5)))


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_teacher_elsewhere_teaches_by_its_logits(tmp_path: Path, suffix: str) -> None:
    rows, labels = vectors()
    logits = np.random.default_rng(1).normal(0, 0.5, (80, 2)) + 3 * np.eye(2)[labels]
    logits[:4] = -logits[:4]  # it is not always right
    previews = [f"row {at} <b>" for at in range(80)]
    path = tmp_path / f"f.{suffix}"
    if suffix == "npz":
        np.savez(path, features=rows, labels=labels, logits=logits, preview=previews)
    else:
        held = {"features": list(rows), "label": labels, "logits": list(logits)}
        pd.DataFrame(held | {"preview": previews}).to_parquet(path)
    asked = {"dataset": f"features:{path}", "stem": "features", "teacher": "given"}
    run = distil(small_config(tmp_path, run="given", **asked, epochs=2))
    check_config(run.config)  # a comparison that is started again goes on with it
    splits = load_data(f"features:{path}")  # from the cache of decoded samples
    assert torch.equal(splits.test.logits, run.load_splits().test.logits)
    right = (splits.test.logits.argmax(1) == splits.test.labels).float().mean().item()
    assert run.metrics()["teacher"]["accuracy"] == pytest.approx(right)
    for part in splits:  # each with its own: subsets keep them together
        for at in range(len(part)):
            row = int(part.words(at).split()[1])
            assert np.allclose(part.images[at].flatten(), rows[row], atol=1e-6)
            assert np.allclose(part.logits[at], logits[row], atol=1e-5)
    state = ExplorerState(run)
    assert "&lt;b&gt;" in card_html(state.card(), "data:,", state.nodes.player(state.card().node))


def test_answers_that_come_with_the_data_are_no_object_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes, which a notebook with several devices starts, find them there."""
    rows, labels = vectors()
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, logits=np.eye(2)[labels])

    def started(config: Config, stages: str | None) -> None:
        raise InterruptedError(stages)

    monkeypatch.setattr("cnn2gnn.distillation.session.start", started)
    asked = {"dataset": f"features:{tmp_path / 'f.npz'}", "stem": "features", "teacher": "given"}
    with pytest.raises(InterruptedError, match="students"):
        distil(small_config(tmp_path, **asked))


def test_answers_that_come_with_the_data_leave_no_place_for_another_teacher(tmp_path: Path) -> None:
    rows, labels = vectors()
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, logits=np.eye(2)[labels])
    asked = {"dataset": f"features:{tmp_path / 'f.npz'}", "stem": "features", "teacher": "given"}
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2))
    for teacher in (network, Teacher(network, [0.0] * 6, [1.0] * 6, "mine")):
        with pytest.raises(ConfigError, match="teacher='given' takes the answers .* leaves no pl"):
            distil(small_config(tmp_path, run="two", **asked), teacher)
    assert not (tmp_path / "two").exists()


def test_answers_that_come_with_the_data_are_not_trained(tmp_path: Path) -> None:
    rows, labels = vectors()
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, logits=np.eye(2)[labels])
    asked = {"dataset": f"features:{tmp_path / 'f.npz'}", "stem": "features", "teacher": "given"}
    config = small_config(tmp_path, **asked)
    with pytest.raises(DataError, match="teacher='given' is not trained: a run takes its answers"):
        obtain_teacher(config, load_splits(config.data), start(config, "teacher"))


def test_previews_may_be_pictures(tmp_path: Path) -> None:
    rows, labels = vectors()
    buffer = io.BytesIO()
    Image.new("RGB", (9, 5), "red").save(buffer, "PNG")
    table = {"features": list(rows), "label": labels, "preview": [buffer.getvalue()] * 80}
    pd.DataFrame(table).to_parquet(tmp_path / "f.parquet")
    train = load_data(f"features:{tmp_path}/f.parquet").train
    assert train.preview(0).size == (9, 5) and train.preview(0).getpixel((0, 0)) == (255, 0, 0)
    assert train.words(0) == "" == train.player(0)


def test_names_of_classes_are_text_whatever_they_are_kept_as(tmp_path: Path) -> None:
    rows, labels = vectors()
    for names in ([b"cat", b"dog"], ["cat", "dog"]):
        np.savez(tmp_path / "f.npz", features=rows, labels=np.array(names)[np.array(labels) % 2])
        assert load_data(f"features:{tmp_path}/f.npz").train.classes == ("cat", "dog")
        parts = np.array([b"train", b"test"])[np.arange(80) // 60]
        np.savez(tmp_path / "f.npz", features=rows, labels=labels, classes=names, split=parts)
        splits = load_data(f"features:{tmp_path}/f.npz")
        assert splits.train.classes == ("cat", "dog") and len(splits.test) == 20
    two = np.array(["caf\u00e9", "cafe\u0301", "tea"])  # composed, and in two signs
    np.savez(tmp_path / "f.npz", features=rows, labels=two[np.arange(len(rows)) % 3])
    assert load_data(f"features:{tmp_path}/f.npz").train.classes == ("caf\u00e9", "tea")
    np.savez(tmp_path / "f.npz", features=rows, labels=np.array([b"\xe9", b"a"])[np.arange(80) % 2])
    with pytest.raises(DataError, match="labels are bytes that are not UTF-8"):
        load_data(f"features:{tmp_path}/f.npz")


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_numbers_as_text_are_sorted_as_numbers(tmp_path: Path, suffix: str) -> None:
    """As in every other table: 2 comes before 10."""
    rows, _ = vectors()
    names = np.array(["10", "2", "1"])[np.arange(80) % 3]
    if suffix == "npz":
        np.savez(tmp_path / "f.npz", features=rows, labels=names)
    else:
        pd.DataFrame({"features": list(rows), "label": names}).to_parquet(tmp_path / "f.parquet")
    assert load_data(f"features:{tmp_path}/f.{suffix}").train.classes == ("1", "2", "10")


def test_logits_are_no_features(tmp_path: Path) -> None:
    table = pd.DataFrame({"logits": [[1.0, 2.0]] * 40, "label": [0, 1] * 20})
    table.to_parquet(tmp_path / "f.parquet")
    with pytest.raises(DataError, match="has no column `features` of numbers"):
        load_data(f"features:{tmp_path}/f.parquet")


def test_a_teacher_that_said_nothing_is_refused(tmp_path: Path) -> None:
    rows, labels = vectors()
    np.savez(tmp_path / "f.npz", features=rows, labels=labels)
    asked = {"dataset": f"features:{tmp_path}/f.npz", "stem": "features", "teacher": "given"}
    with pytest.raises(DataError, match="teacher='given' needs data with logits"):
        distil(small_config(tmp_path, run="wrong", **asked))
    np.savez(tmp_path / "f.npz", features=rows, labels=labels, logits=np.zeros((80, 3)))
    with pytest.raises(DataError, match="logits must be finite, and 2 for each of 80 rows"):
        load_data(f"features:{tmp_path}/f.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": np.zeros((4, 2))}, "has no array 'labels'; its arrays: features"),
        ({"features": np.zeros(4), "labels": np.zeros(4)}, r"features \(4,\) must be \(N, d\)"),
        ({"features": np.full((4, 2), "x"), "labels": [0, 1, 0, 1]}, "row 0 of .* no numbers"),
        (
            {"features": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "preview": ["a"]},
            "1 previews for 4 rows",
        ),
        ({"features": np.full((4, 2), np.nan), "labels": [0, 1, 0, 1]}, "row 0 of .* holds NaN"),
        (
            {"features": np.zeros((4, 2)), "labels": [0, 1, 0, 1], "split": ["train"] * 3 + ["x"]},
            "split must name for each row one of train, .*, not 'x'",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": [0, 2], "classes": ["a", "b"]},
            "labels must be 0 to 1",
        ),
        (
            {"features": np.zeros((4, 2)), "labels": [0, np.nan, 1, np.nan]},
            "labels are missing in 2 of 4 rows, the first of them 1",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": np.array(["2020", "NaT"], "datetime64[Y]")},
            "labels are missing in 1 of 2 rows",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": [0, 1], "split": "train"},
            r"split \(\) must be a list",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": [0, 1], "classes": "ab"},
            r"classes \(\) must be a list",
        ),
        (
            {"features": np.zeros((2, 2)), "labels": [0, 1], "preview": "ab"},
            r"preview \(\) must be a list",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load_data(f"features:{tmp_path}/f.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_file_of_features_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"f\.npz cannot be read as npz"):
        load_data(f"features:{tmp_path}/f.npz")


def test_a_given_teacher_knows_samples_far_from_the_origin() -> None:
    samples = 1000 + 0.1 * torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    answers = torch.arange(300).float()[:, None]
    assert torch.equal(GivenAnswers(samples, answers)(samples), answers)


def test_a_given_teacher_answers_for_images_as_they_are(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> ImageSet:
        images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
        said = torch.randn(count, 2, generator=generator)
        return ImageSet(images, torch.arange(count) % 2, ("no", "yes"), "mine", logits=said)

    splits = Splits(part(50), part(20), part(20))
    teacher = given_teacher(splits)
    for each in splits:
        assert each.logits is not None and torch.equal(teacher(each.images), each.logits)
    # of a view it would give the answer of whichever image lies nearest
    config = small_config(tmp_path, dataset="mine", teacher="given", k=5, augmentation="auto")
    with pytest.raises(ConfigError, match="views by 'crop': augmentation='auto' must be none"):
        distil(config, data=splits)
    with pytest.raises(DataError, match="needs data with logits; mine has none"):
        distil(config, data=Splits(*(replace(each, logits=None) for each in splits)))
    assert [*tmp_path.iterdir()] == []

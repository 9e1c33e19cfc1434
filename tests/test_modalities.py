"""What is said of samples of any kind: examples, groups, and what suits what."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import small_config
from test_audio import item, wave
from test_texts import texts

from cnn2gnn import distil, load_data
from cnn2gnn.base import extras
from cnn2gnn.config import ConfigError
from cnn2gnn.data import DataError
from cnn2gnn.data.audio import learn
from cnn2gnn.registry import MODALITIES, STEMS, TEACHERS


@pytest.mark.parametrize(("name", "classes"), [("vowels", 3), ("docstrings", 4)])
def test_examples_need_no_download(name: str, classes: int) -> None:
    first, again = load_data(name), load_data(name)
    assert torch.equal(first.test.images, again.test.images)
    assert all(len(part.labels.unique()) == classes for part in first)
    assert len({first.train.originals[at] for at in range(len(first.train))}) == len(first.train)


def test_a_group_never_stands_on_both_sides(tmp_path: Path) -> None:
    table = texts(120)
    table["author"] = [f"a{at // 2 % 6}" for at in range(120)]
    table["split"] = "train"
    table.to_parquet(tmp_path / "t.parquet")
    splits = load_data(f"text:{tmp_path}/t.parquet", group_column="author")
    test = {one for one in map(splits.test.originals.__getitem__, range(len(splits.test)))}
    authors = dict(zip(table["text"], table["author"], strict=True))
    tested = {authors[one.decode()] for one in test}
    others = {
        authors[part.originals[at].decode()] for part in splits[:2] for at in range(len(part))
    }
    assert tested and not tested & others
    assert any(note.startswith("test is all of author a") for note in splits.train.notes)
    with pytest.raises(DataError, match="group_column='who' is not in .*author"):
        load_data(f"text:{tmp_path}/t.parquet", group_column="who")
    with pytest.raises(DataError, match="group_column='author' is for tables"):
        load_data("digits", group_column="author")
    with pytest.raises(DataError, match="group_column='split' has one value only, 'train'"):
        load_data(f"text:{tmp_path}/t.parquet", group_column="split")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_without_a_group_are_counted_and_refused(tmp_path: Path, suffix: str) -> None:
    table, path = texts(120), tmp_path / f"t.{suffix}"
    table["author"] = [None if at < 7 else f"a{at % 6}" for at in range(120)]
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    with pytest.raises(DataError, match="group_column='author' is missing in 7 of 120 rows"):
        load_data(f"text:{path}", group_column="author")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "stem='conv-tiny' is not for text: choose ngrams"),
        ({"stem": "ngrams"}, "teacher='resnet20' is not for text: choose text-cnn"),
        (
            {"stem": "ngrams", "teacher": "text-cnn", "augmentation": "crop"},
            "augmentation='crop' is not for text: choose auto, none, drop",
        ),
        (
            {"stem": "ngrams", "teacher": "text-cnn", "graph": "fixed"},
            "graph='fixed' compares raw samples",
        ),
    ],
)
def test_what_does_not_suit_is_refused_before_anything_is_made(
    tmp_path: Path, parameters: dict, message: str
) -> None:
    texts().to_parquet(tmp_path / "t.parquet")
    asked = {"dataset": f"text:{tmp_path}/t.parquet", "stem": "conv-tiny", "teacher": "resnet20"}
    with pytest.raises(ConfigError, match=message):
        distil(small_config(tmp_path, run="wrong", **asked | parameters))
    assert not list(tmp_path.rglob("config.json"))


def test_every_stem_and_teacher_suits_some_kind_of_samples() -> None:
    kinds = list(MODALITIES.values())
    assert {name for kind in kinds for name in kind.stems} == set(STEMS)
    assert {name for kind in kinds for name in kind.teachers} == set(TEACHERS)


def test_a_label_that_only_the_test_part_has_is_named(tmp_path: Path) -> None:
    table = texts()
    table["split"] = "train"
    table.loc[len(table)] = {"text": "a river", "label": "river", "split": "test"}
    table.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no training .* is of the class 'river'"):
        load_data(f"text:{tmp_path}/t.parquet")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(
        ConfigError, match=r"soundfile is not installed: pip install 'cnn2gnn\[audio"
    ):
        learn([item(wave(440))])

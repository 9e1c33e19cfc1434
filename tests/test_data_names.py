"""Names of classes, files and folders of any sign are read, or refused in one line."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from cnn2gnn.data import DataError, load
from cnn2gnn.data.names import LeftOut, class_names, shown


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def fill(folder: str | bytes | Path, count: int = 8, name: bytes = b"%d.png") -> None:
    folder = os.fsencode(folder)
    os.makedirs(folder)
    for at in range(count):
        Image.new("L", (4, 4), at).save(os.fsdecode(os.path.join(folder, name % at)))


@pytest.mark.parametrize(
    "name",
    ["n" * 200, "قطة", "🐈‍⬛", "a & b", "$x_1$", "<b>", "{}", "a,b", "[1]", "bank", "%s", "#"],
)
def test_any_class_name_is_kept_and_found_again_in_the_cache(name: str, tmp_path: Path) -> None:
    fill(tmp_path / "own" / name)
    fill(tmp_path / "own" / "other")
    for _ in range(2):
        assert set(load(f"folder:{tmp_path}/own").train.classes) == {name, "other"}


def test_a_name_that_is_not_utf8_is_shown_by_its_bytes(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "own")
    fill(root + b"/\xe9t\xe9")
    fill(root + b"/b", name=b"caf\xe9%d.png")
    splits = load(f"folder:{tmp_path}/own")
    assert splits.train.classes == ("\\xe9t\\xe9", "b")
    assert sum(map(len, splits)) == 16


def test_a_data_set_in_a_folder_that_is_not_utf8(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/donn\xe9es"
    fill(root + b"/a")
    fill(root + b"/b")
    splits = load("folder:" + os.fsdecode(root))
    assert splits.train.name == "folder:donn\\xe9es" and splits.train.name.encode()


def test_both_forms_of_an_accent_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    fill(tmp_path / "parts" / "train" / composed)
    fill(tmp_path / "parts" / "train" / "bar")
    fill(tmp_path / "parts" / "test" / decomposed)
    assert load(f"folder:{tmp_path}/parts").test.classes == ("bar", composed)
    fill(tmp_path / "flat" / composed)
    fill(tmp_path / "flat" / decomposed)
    fill(tmp_path / "flat" / "bar")
    splits = load(f"folder:{tmp_path}/flat")
    assert splits.train.classes == ("bar", composed)
    assert sum(int((part.labels == 1).sum()) for part in splits) == 16


@pytest.mark.parametrize("name", [" ", "a\nb", "tab\t", "\u2028"])
def test_a_name_that_breaks_a_line_is_refused(name: str, tmp_path: Path) -> None:
    fill(tmp_path / "own" / name)
    fill(tmp_path / "own" / "other")
    with pytest.raises(DataError, match="folder:own has a class named"):
        load(f"folder:{tmp_path}/own")


@pytest.mark.parametrize("letters", [210, 70])
def test_a_long_folder_is_loaded_again(letters: int, tmp_path: Path) -> None:
    root = tmp_path / ("植" if letters == 70 else "p") / ("植" * 70 if letters == 70 else "p" * 210)
    fill(root / "a")
    fill(root / "b")
    first, second = (load(f"folder:{root}").train.fingerprint for _ in range(2))
    assert first == second
    assert len(list((tmp_path / "cache" / "images").iterdir())) == 1


def test_classes_of_one_name_are_told_apart_by_their_number() -> None:
    names, notes = class_names(["crane", "dog", "crane"], "birds")
    assert names == ("crane (0)", "dog", "crane (2)")
    assert notes == ("classes of one name told apart by their number: crane",)
    assert class_names(["a", "b"], "x") == (("a", "b"), ())
    with pytest.raises(DataError, match="several classes of one name"):
        class_names(["crane", "crane", "crane (0)"], "birds")


def test_what_is_left_out_is_counted_with_an_example() -> None:
    left_out = LeftOut()
    assert left_out.notes() == ()
    left_out.add("hidden files", "a/.x")
    left_out.add("hidden files", "a/.y")
    left_out.add("rows without image", "row 3 of caf\udce9")
    assert left_out.notes() == (
        "left out: hidden files 2 (a/.x, …), rows without image 1 (row 3 of caf\\xe9)",
    )


def test_shown_names_can_be_encoded() -> None:
    assert shown("a\udcff") == "a\\xff" and shown("é").encode() == b"\xc3\xa9"

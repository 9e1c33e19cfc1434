"""Parquet sources: real shards, Hugging Face's layout, split rules, errors that name the row."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cnn2gnn.data import DataError, load


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def write(file: Path, columns: dict[str, Any], metadata: dict[str, Any] | None = None) -> str:
    """Write a parquet file and return the name `load` knows it by."""
    table = pyarrow.table(columns)
    text = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(text), file)
    return f"parquet:{file}"


def images(count: int, first: int = 0) -> list[bytes]:
    return [png(value) for value in range(first, first + count)]


def values(part: Any) -> list[int]:
    """The grey value that marks each image."""
    return part.images[:, 0, 0, 0].tolist()


def test_real_images_keep_their_pixels(shared_data: Path, tmp_path: Path) -> None:
    table = pyarrow.parquet.read_table(shared_data / "cifar100-test.parquet")
    table = table.take(list(range(0, 10_000, 25)))  # sorted by class: four images of each
    split = pyarrow.array(["train", "train", "train", "test"] * 100)
    table = table.set_column(table.column_names.index("split"), "split", split)
    pyarrow.parquet.write_table(table, tmp_path / "slice.parquet")
    splits = load(f"parquet:{tmp_path}/slice.parquet")
    assert [len(part) for part in splits] == [270, 30, 100]
    assert len(splits.test.classes) == 100 and splits.test.classes[0] == "apple"
    assert splits.test.labels.tolist() == table["label"].to_pylist()[3::4]
    for row in (0, 99):
        encoded = table["image"][3 + 4 * row].as_py()
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(splits.test.images[row].permute(1, 2, 0), expected)


def test_the_split_column_decides(tmp_path: Path) -> None:
    names = ["train", "val", "test", "train"] * 3
    columns = {"image": images(12), "label": [0, 1] * 6, "split": names}
    splits = load(write(tmp_path / "test.parquet", columns))
    assert [len(part) for part in splits] == [6, 3, 3]
    assert values(splits.test) == [2, 6, 10] and values(splits.validation) == [1, 5, 9]


def test_without_a_split_column_the_file_names_decide(tmp_path: Path) -> None:
    for at, part in enumerate(("train-00000", "validation-00000", "test-00000")):
        write(tmp_path / f"{part}.parquet", {"image": images(4, 4 * at), "label": [0, 1] * 2})
    splits = load(f"parquet:{tmp_path}/*.parquet")
    assert [values(part) for part in splits] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert load(f"parquet:{tmp_path}").train.fingerprint == splits.train.fingerprint


@pytest.mark.parametrize(
    ("layout", "pattern"),
    [
        ("default/{}/0000.parquet", "**/*.parquet"),
        ("default/{}/0000.parquet", ""),
        ("default/{}/0000.parquet", "default/*/0000.parquet"),
        ("split={}/part-0.parquet", "*/*.parquet"),
        ("data/{}/a.parquet", "data"),
        ("{}-00000-of-00003.parquet", "*"),
        ("data/{}-00000-of-00001-a09b74b3ef9c3b56.parquet", ""),
        ("partial-{}/0000.parquet", ""),
        ("train_and_test/{}.parquet", ""),
        ("{}.PARQUET", ""),
    ],
)
def test_parts_are_told_by_folders_and_file_names(
    layout: str, pattern: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "train" / "test [1]"  # what lies above tells nothing
    for part, first in (("train", 0), ("test", 200)):
        file = root / layout.format(part)
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, {"image": images(20, first), "label": [0, 1] * 10})
    splits = load(f"parquet:{root}/{pattern}")
    assert values(splits.test) == list(range(200, 220)) and len(splits.train) == 18
    assert splits.train.notes == (
        "parts told by the names of files and folders: train 20, test 20",
    )
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]


def test_linked_files_are_told_by_the_name_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    for part, first in (("train", 0), ("test", 200)):  # as Hugging Face's own cache lies
        write(tmp_path / "blobs" / f"{first:x}", {"image": images(20, first), "label": [0, 1] * 10})
        (tmp_path / "snapshot" / f"{part}-0.parquet").symlink_to(tmp_path / "blobs" / f"{first:x}")
    assert values(load(f"parquet:{tmp_path}/snapshot").test) == list(range(200, 220))


def test_where_nothing_tells_a_part_is_said(tmp_path: Path) -> None:
    columns = {"image": images(20), "label": [0, 1] * 10}
    name = write(tmp_path / "photos.parquet", columns)
    assert load(name).train.notes == (
        "no column split and no name of a file or folder tells parts: all is train",
    )
    write(tmp_path / "photos-test.parquet", columns)
    write(tmp_path / "x.parquet", columns | {"split": ["val"] * 20})
    assert load(f"parquet:{tmp_path}").train.notes == (
        "parts told by the column split, by the names of files and folders, "
        "train where nothing does, as in photos.parquet: train 20, validation 20, test 20",
    )


def test_validation_as_test_and_classes_without_a_test_image_are_told(tmp_path: Path) -> None:
    columns = {"image": images(32), "label": [*range(5)] * 6 + [0, 1]}
    name = write(tmp_path / "x.parquet", columns | {"split": ["train"] * 30 + ["dev"] * 2})
    assert load(name).train.notes[1:] == (
        "no test part: the validation part is the test part",
        "no test image of '2', '3', '4': results say nothing of them",
    )
    columns["label"] = [*range(10)] * 3 + [0, 1]
    name = write(tmp_path / "y.parquet", columns | {"split": ["train"] * 30 + ["test"] * 2})
    assert load(name).train.notes[1:] == (
        "no test image of '2', '3', '4' and 5 more classes: results say nothing of them",
    )


def test_hidden_tables_are_left_out_and_told(tmp_path: Path) -> None:
    columns = {"image": images(20), "label": [0, 1] * 10}
    write(tmp_path / "photos.parquet", columns)
    (tmp_path / "._photos.parquet").write_bytes(b"left behind by a file manager")
    splits = load(f"parquet:{tmp_path}")
    assert splits.train.notes[0] == "left out: hidden files 1 (._photos.parquet)"


def test_rows_without_image_are_left_out_and_told_also_from_the_cache(tmp_path: Path) -> None:
    some: list[bytes | None] = [None, b"", *images(18, 2)]
    name = write(tmp_path / "x.parquet", {"image": some, "label": [5, 5] + [0, 1] * 9})
    for _ in range(2):
        splits = load(name)
        assert splits.train.classes == ("0", "1") and sum(map(len, splits)) == 18
        assert splits.train.notes[1] == "left out: rows without image 2 (row 0 of x.parquet, …)"
    for part in splits:
        assert part.labels.tolist() == [value % 2 for value in values(part)]


@pytest.mark.parametrize(
    "place", ["[2024] photos/a.parquet", "photos [2024].parquet", "a b/c.parquet", "é/ü.parquet"]
)
@pytest.mark.parametrize("whole", ["the file", "its folder", "a pattern"])
def test_a_path_that_exists_is_no_pattern(place: str, whole: str, tmp_path: Path) -> None:
    file = tmp_path / "x" / place
    file.parent.mkdir(parents=True)
    write(file, {"image": images(20), "label": [0, 1] * 10})
    pattern = {"the file": file, "its folder": file.parent, "a pattern": file.parent / "*.parquet"}
    assert sum(map(len, load(f"parquet:{pattern[whole]}"))) == 20


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    name = write(tmp_path / "x.parquet", {"image": images(20), "label": [0, 1] * 10})
    odd = os.fsencode(tmp_path) + b"/caf\xe9.parquet"
    os.rename(tmp_path / "x.parquet", odd)
    with pytest.raises(DataError, match="no parquet file matches"):
        load(name)
    splits = load("parquet:" + os.fsdecode(odd))
    assert splits.train.name == "parquet:caf\\xe9.parquet" and sum(map(len, splits)) == 20


STRUCT = pyarrow.struct([("bytes", pyarrow.large_binary()), ("path", pyarrow.large_string())])
VIEWS = pyarrow.struct([("bytes", pyarrow.binary_view()), ("path", pyarrow.string_view())])


@pytest.mark.parametrize("kind", ["binary", "large_binary", "binary_view", "dictionary", "structs"])
def test_images_of_every_type_of_bytes(kind: str, tmp_path: Path) -> None:
    plain = images(20)
    structs = [{"bytes": image, "path": None} for image in plain]
    arrays = {
        "dictionary": lambda: [pyarrow.array(plain).dictionary_encode()],
        "structs": lambda: [pyarrow.array(structs, STRUCT), pyarrow.array(structs, VIEWS)],
    }
    typed = arrays.get(kind, lambda: [pyarrow.array(plain, getattr(pyarrow, kind)())])
    for at, array in enumerate(typed()):
        name = write(tmp_path / f"{at}.parquet", {"image": array, "label": [0, 1] * 10})
        found = sorted(value for part in load(name) for value in values(part))
        assert found == list(range(20))


@pytest.mark.parametrize(
    "labels",
    [
        pyarrow.array(["fox", "ant"] * 10, pyarrow.large_string()),
        pyarrow.array(["fox", "ant"] * 10, pyarrow.string_view()),
        pyarrow.array(["fox", "ant"] * 10).dictionary_encode(),
        pyarrow.array([1, 0] * 10, pyarrow.uint8()).dictionary_encode(),
        pyarrow.array([True, False] * 10),
        pyarrow.chunked_array([["fox", "ant"] * 5, ["fox", "ant"] * 5]),
    ],
)
def test_labels_of_every_type(labels: Any, tmp_path: Path) -> None:
    splits = load(write(tmp_path / "x.parquet", {"image": images(20), "label": labels}))
    for part in splits:
        assert part.labels.tolist() == [1 - value % 2 for value in values(part)]


def test_two_classes_of_one_name(tmp_path: Path) -> None:
    metadata = {"dataset": {"classes": ["crane", "dog", "crane"]}}
    name = write(tmp_path / "x.parquet", {"image": images(21), "label": [0, 1, 2] * 7}, metadata)
    splits = load(name)
    assert splits.train.classes == ("crane (0)", "dog", "crane (2)")
    assert "one name told apart by their number: crane" in splits.train.notes[1]
    labels = ["crane", "dog", "crane"] * 7
    name = write(tmp_path / "y.parquet", {"image": images(21), "label": labels}, metadata)
    with pytest.raises(DataError, match="label='crane' may be either of two classes"):
        load(name)


@pytest.mark.parametrize(("labels", "kind"), [(["a", "b"], "str"), ([True, False], "bool")])
def test_labels_of_two_types_do_not_mix(labels: list[Any], kind: str, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": images(4), "label": labels * 2})
    write(tmp_path / "b.parquet", {"image": images(4), "label": [0, 1] * 2})
    places = rf"{kind} \(row 3 of .*a\.parquet\) and int \(row 3 of .*b\.parquet\)"
    with pytest.raises(DataError, match=f"label_column='label' must hold one type .* {places}"):
        load(f"parquet:{tmp_path}")


@pytest.mark.parametrize(
    ("labels", "split", "message"),
    [
        ([0] * 8, ["train"] * 8, "x.parquet has images of one class only, '0': two are needed"),
        ([0, 1] * 3 + [2, 3], ["train"] * 6 + ["test"] * 2, "is of the class '2' and of 1 more"),
    ],
)
def test_labels_that_serve_no_classifier_are_refused_before_an_image_is_decoded(
    labels: list[int], split: list[str], message: str, tmp_path: Path
) -> None:
    columns = {"image": [b"no image"] * 8, "label": labels, "split": split}
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "x.parquet", columns))


def test_a_lone_validation_part_is_the_test_part(tmp_path: Path) -> None:
    columns = {"image": images(20), "label": [0, 1] * 10, "split": ["train"] * 14 + ["val"] * 6}
    splits = load(write(tmp_path / "x.parquet", columns))
    assert values(splits.test) == list(range(14, 20))
    assert [len(part) for part in splits] == [13, 1, 6]


def test_hugging_face_layout(tmp_path: Path) -> None:
    (tmp_path / "beside.png").write_bytes(png(19))
    structs = [{"bytes": image, "path": None} for image in images(19)]
    structs.append({"bytes": None, "path": "beside.png"})
    features = {"fine": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    metadata = {"huggingface": {"info": {"features": features}}}
    columns = {"img": structs, "fine": [0, 1] * 10}
    name = write(tmp_path / "data.parquet", columns, metadata)
    splits = load(name, label_column="fine")
    assert splits.train.classes == ("cat", "dog")
    assert sorted(sum((values(part) for part in splits), [])) == list(range(20))
    assert splits.test.labels.tolist() == [value % 2 for value in values(splits.test)]


@pytest.mark.parametrize(
    ("labels", "metadata", "classes"),
    [
        ([7, 3] * 8, None, ("3", "7")),
        (["fox", "ant"] * 8, None, ("ant", "fox")),
        (pyarrow.array(["fox", "ant"] * 8).dictionary_encode(), None, ("ant", "fox")),
        ([1, 0] * 8, {"dataset": {"classes": ["fox", "ant"]}}, ("fox", "ant")),
        (["ant", "fox"] * 8, {"dataset": {"classes": ["fox", "ant"]}}, ("fox", "ant")),
        ([1, 0] * 8, {"dataset": ["no", "object"]}, ("0", "1")),
    ],
)
def test_class_names(
    tmp_path: Path, labels: list[Any], metadata: dict[str, Any] | None, classes: tuple[str, ...]
) -> None:
    name = write(tmp_path / "x.parquet", {"image": images(16), "label": labels}, metadata)
    splits = load(name)
    assert splits.train.classes == classes
    for part in splits:
        assert part.labels.tolist() == [1 - value % 2 for value in values(part)]


NO_IMAGES, NO_LABELS = pyarrow.array([], pyarrow.binary()), pyarrow.array([], pyarrow.int32())
GOOD = {"image": images(8), "label": [0, 1] * 4}


@pytest.mark.parametrize(
    ("columns", "metadata", "message"),
    [
        ({"image": images(8), "y": [0] * 8}, None, "label_column='label' is not in .*: image, y"),
        ({"note": ["a"] * 8, "label": [0] * 8}, None, "no column `image` .*: note, label"),
        (
            {"image": images(7) + [b"wav"], "label": [0, 1] * 4},
            None,
            "row 7 of .* or no image of a known",
        ),
        ({"image": images(7) + [png(0)[:-30]], "label": [0, 1] * 4}, None, "row 7 of .* is broken"),
        ({"image": images(8), "label": [0] * 7 + [None]}, None, "label=None in row 7 of"),
        ({"image": images(8), "label": [0.5] * 8}, None, "must hold integers or text, not double"),
        (GOOD | {"split": ["train"] * 7 + ["holdout"]}, None, "split='holdout' in .* must be one"),
        (GOOD | {"split": ["test"] * 8}, None, "no training images; its parts: test"),
        (GOOD, {"dataset": {"classes": ["one"]}}, "label=1 in row 1 of .* none of the classes"),
        ({"image": NO_IMAGES, "label": NO_LABELS}, None, "parquet:x.parquet holds no images"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, columns: dict[str, Any], metadata: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "x.parquet", columns, metadata))


def test_an_unreadable_or_missing_file_is_named(tmp_path: Path) -> None:
    name = write(tmp_path / "x.parquet", GOOD)
    content = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as parquet"):
        load(name)
    with pytest.raises(DataError, match=r"no parquet file matches .*gone-\*\.parquet"):
        load(f"parquet:{tmp_path}/gone-*.parquet")


def test_files_that_name_different_classes_do_not_mix(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", GOOD, {"dataset": {"classes": [name, "z"]}})
    with pytest.raises(DataError, match=r"a\.parquet and .*b\.parquet name different classes"):
        load(f"parquet:{tmp_path}/*.parquet")


def test_a_column_split_of_lists_is_no_part(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"] * 8, "label": [0, 1] * 8, "split": [[0]] * 16}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"split='\[0\]' in .*t\.parquet must be one of train"):
        load(f"text:{tmp_path}/t.parquet")


def test_a_column_that_is_not_utf8_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xf2hC,label\na,0\nb,1\n")
    with pytest.raises(DataError, match=r"t\.csv cannot be read as csv: 'utf-8' codec"):
        load(f"text:{tmp_path}/t.csv")

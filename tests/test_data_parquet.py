"""Parquet sources: real shards, Hugging Face's layout, split rules, errors that name the row."""

from __future__ import annotations

import io
import json
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
        ({"text": ["a"] * 8, "label": [0] * 8}, None, "no column `image` .*: text, label"),
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

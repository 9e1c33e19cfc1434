"""Decoded once: the file on disk is used while it is whole and its source is unchanged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cnn2gnn.data import DataError, Item, Splits, load, store
from cnn2gnn.registry import MODALITIES


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes, eight images each; the cache beside it."""
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))
    for at in range(16):
        folder = tmp_path / "pictures" / "ab"[at % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), at).save(folder / f"{at}.png")
    return tmp_path / "pictures"


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each decoding."""
    seen: list[int] = []
    image = MODALITIES["image"]

    def counted(items: Sequence[Item], size: int | None, title: str) -> torch.Tensor:
        seen.append(len(items))
        return image.decode(items, size, title)

    monkeypatch.setitem(MODALITIES._entries, "image", replace(image, decode=counted))
    return seen


def kept(pictures: Path) -> list[Path]:
    return sorted((pictures.parent / "cache").rglob("*.safetensors"))


def prints(splits: Splits) -> list[str]:
    return [part.fingerprint for part in splits]


def test_a_second_load_decodes_nothing(pictures: Path, decodings: list[int]) -> None:
    first, second = (load(f"folder:{pictures}") for _ in range(2))
    assert decodings == [16] and prints(first) == prints(second)
    load(f"folder:{pictures}", split_seed=3, train_images=2, validation=0.3)
    assert decodings == [16] and len(kept(pictures)) == 1


def test_another_size_or_a_changed_source_is_decoded_anew(
    pictures: Path, decodings: list[int]
) -> None:
    load(f"folder:{pictures}")
    load(f"folder:{pictures}", image_size=2)
    file = pictures / "a" / "0.png"
    os.utime(file, ns=(1, 1))
    load(f"folder:{pictures}")
    file.unlink()
    load(f"folder:{pictures}")
    assert decodings == [16, 16, 16, 15]


def edit_a_label(root: Path) -> None:
    text = (root / "train.csv").read_text()
    (root / "train.csv").write_text(text.replace("0.png,a", "0.png,b"))


def replace_an_image(root: Path) -> None:
    Image.new("L", (4, 4), 99).save(root / "images" / "0.png")


def replace_an_image_and_set_its_time_back(root: Path) -> None:
    file = root / "images" / "0.png"
    before, size = file.stat().st_mtime_ns, file.stat().st_size
    content = bytearray(file.read_bytes())
    Image.new("L", (4, 4), 99).save(file)
    content = bytearray(file.read_bytes()).ljust(size, b"\0")[:size]
    file.write_bytes(content)
    os.utime(file, ns=(before, before))


def move_a_row_to_the_test_part(root: Path) -> None:
    rows = (root / "train.csv").read_text().splitlines(keepends=True)
    (root / "train.csv").write_text("".join(rows[:-1]))
    (root / "test.csv").write_text((root / "test.csv").read_text() + rows[-1])


@pytest.mark.parametrize(
    "change",
    [
        edit_a_label,
        replace_an_image,
        replace_an_image_and_set_its_time_back,
        move_a_row_to_the_test_part,
    ],
)
def test_what_decides_the_result_is_noticed(
    change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "mini-imagenet"
    (root / "images").mkdir(parents=True)
    for at in range(16):
        Image.new("L", (4, 4), at).save(root / "images" / f"{at}.png")
    rows = [f"{at}.png,{'ab'[at % 2]}" for at in range(16)]
    (root / "train.csv").write_text("\n".join(["filename,label", *rows[:12]]) + "\n")
    (root / "test.csv").write_text("\n".join(["filename,label", *rows[12:]]) + "\n")
    before = prints(load("mini-imagenet", data_dir=tmp_path))
    assert prints(load("mini-imagenet", data_dir=tmp_path)) == before
    change(root)
    assert prints(load("mini-imagenet", data_dir=tmp_path)) != before


def test_an_image_that_a_table_names_by_path_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[int]
) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))
    for at in range(16):
        Image.new("L", (4, 4), at).save(tmp_path / f"{at}.png")
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = pyarrow.array([{"bytes": None, "path": f"{at}.png"} for at in range(16)], kind)
    table = pyarrow.table({"image": images, "label": [0, 1] * 8})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    before = [prints(load(f"parquet:{tmp_path}/a.parquet")) for _ in range(2)]
    assert before[0] == before[1] and decodings == [16]
    Image.new("L", (4, 4), 222).save(tmp_path / "5.png")
    after = [prints(load(f"parquet:{tmp_path}/a.parquet")) for _ in range(2)]
    assert after[0] == after[1] != before[0] and decodings == [16, 16]
    (tmp_path / "5.png").unlink()
    with pytest.raises(DataError, match=r"5\.png cannot be read: No such file"):
        load(f"parquet:{tmp_path}/a.parquet")


def test_another_pillow_decodes_anew(
    pictures: Path, decodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(f"folder:{pictures}")
    monkeypatch.setattr("cnn2gnn.data.store.version", lambda library: "0.0")
    load(f"folder:{pictures}")
    assert decodings == [16, 16]


def test_a_link_that_leads_elsewhere_is_noticed(pictures: Path, decodings: list[int]) -> None:
    elsewhere = pictures.parent / "elsewhere.png"
    Image.new("L", (4, 4), 77).save(elsewhere)
    (pictures / "a" / "x.png").symlink_to(pictures / "a" / "0.png")
    first = load(f"folder:{pictures}")
    (pictures / "a" / "x.png").unlink()
    (pictures / "a" / "x.png").symlink_to(elsewhere)
    assert prints(load(f"folder:{pictures}")) != prints(first) and decodings == [17, 17]


def flip_a_pixel(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace_by_another_kind(file: Path) -> None:
    save_file({"weights": torch.zeros(3)}, file)


def drop_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    save_file({"images": tensors["images"]}, file, {"json": "{}"})


@pytest.mark.parametrize(
    "damage", [flip_a_pixel, truncate, empty, replace_by_another_kind, drop_a_tensor]
)
def test_a_damaged_file_is_noticed_and_rebuilt(
    damage: object, pictures: Path, decodings: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    before = prints(load(f"folder:{pictures}"))
    damage(kept(pictures)[0])  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        assert prints(load(f"folder:{pictures}")) == before
    assert "decoding folder:pictures again" in caplog.text
    assert prints(load(f"folder:{pictures}")) == before
    assert decodings == [16, 16]


def test_a_full_disk_costs_only_the_cache(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save_tensors", full)
    with caplog.at_level(logging.WARNING):
        assert len(load(f"folder:{pictures}").test) == 4
    assert "are not kept" in caplog.text and "No space left" in caplog.text


def test_without_a_home_or_with_one_that_may_not_be_written_data_still_load(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures.parent / "file").write_text("no folder")
    monkeypatch.setenv("CNN2GNN_CACHE", str(pictures.parent / "file" / "cache"))
    assert len(load(f"folder:{pictures}").test) == 4 and "are not kept" in caplog.text
    caplog.clear()
    monkeypatch.delenv("CNN2GNN_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # no entry in passwd
    assert len(load(f"folder:{pictures}").test) == 4
    assert "CNN2GNN_CACHE may name a folder" in caplog.text


def test_nothing_half_written_stays(pictures: Path) -> None:
    load(f"folder:{pictures}")
    assert [file.suffix for file in (pictures.parent / "cache" / "images").iterdir()] == [
        ".safetensors"
    ]


def test_without_the_variable_the_cache_lies_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNN2GNN_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_folder() == Path("/home/someone/.cache/cnn2gnn")

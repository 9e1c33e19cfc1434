"""Decoded once: the file on disk is used while it is whole and its source is unchanged."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cnn2gnn.data import Item, Splits, load, store
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


def test_nothing_half_written_stays(pictures: Path) -> None:
    load(f"folder:{pictures}")
    assert [file.suffix for file in (pictures.parent / "cache" / "images").iterdir()] == [
        ".safetensors"
    ]


def test_without_the_variable_the_cache_lies_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNN2GNN_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert store.cache_folder() == Path("/home/someone/.cache/cnn2gnn")

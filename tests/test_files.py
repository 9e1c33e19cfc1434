"""Atomic files: whole or absent, and damage is named."""

from __future__ import annotations

import errno
import os
import platform
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnn2gnn.base.files import (
    BrokenFileError,
    load_state,
    load_tensors,
    read_json,
    replacing,
    save_tensors,
    sweep,
    write_json,
)
from cnn2gnn.runs.epochs import EpochLog


def test_tensors_and_metadata_return(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"x": torch.arange(6).reshape(2, 3).T}, {"epoch": 3})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert tensors["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert metadata == {"epoch": 3}


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    x = torch.arange(4)
    save_tensors(tmp_path / "a.safetensors", {"x": x, "same": x, "part": x[1:]})
    assert load_tensors(tmp_path / "a.safetensors")[0]["part"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrokenFileError, match=r"a\.safetensors is damaged .* delete it"):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.safetensors"):
        load_tensors(tmp_path / "b.safetensors")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("version", ["this", "older"])
def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path, version: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    here = temporary.parent.name.removeprefix(".a.json.").rsplit("-", 2)[0]
    there, container = "another-host", f"{platform.node()}-00000000"
    assert here.startswith(f"{platform.node()}-")
    ours, dead, other, elsewhere, namesake, abandoned = (
        tmp_path / name
        for name in (
            f".a.json.{here}-{os.getppid()}-00",
            f".a.json.{here}-{ended.pid}-00",
            f".b.json.{here}-{ended.pid}-00",
            f".a.json.{there}-{ended.pid}-00",  # its number says nothing on this machine
            f".a.json.{container}-{ended.pid}-00",  # nor in a container of this name
            f".a.json.{there}-{ended.pid}-01",
        )
    )
    for path in (ours, dead, other, elsewhere, namesake, abandoned):
        if version == "this":
            path.mkdir()
            path = path / "whole"
        path.write_text("half of the n")
    os.utime(abandoned, (0, 0))
    write_json(tmp_path / "a.json", {"new": 1})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a.json", ours.name, other.name, elsewhere.name, namesake.name}


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, swap = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)
        if done[-1] == "folder":
            raise OSError(errno.EINVAL, "this volume cannot")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("name"), swap(a, b)))
    write_json(tmp_path / "a.json", {"a": 1})
    assert done == ["file", "name", "folder"] and (tmp_path / "a.json").exists()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_are_as_readable_as_the_umask_says(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {})
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    finally:
        os.umask(before)
    for name in ("a.json", "a.safetensors"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_long_name_is_written(tmp_path: Path) -> None:
    write_json(tmp_path / ("ü" * 120 + ".json"), {"a": 1})
    assert [len(path.name) for path in tmp_path.iterdir()] == [125]


def test_a_state_of_another_shape_is_one_line(tmp_path: Path) -> None:
    state = nn.Linear(3, 4).state_dict()
    with pytest.raises(ValueError, match=r"^w\.safetensors does not fit.*\(4, 3\).*\(2, 3\)") as e:
        load_state(nn.Linear(3, 2), state, "w.safetensors")
    assert "\n" not in str(e.value)
    with pytest.raises(ValueError, match="bias is missing"):
        load_state(nn.Linear(3, 4), {"weight": state["weight"]}, "w")
    with pytest.raises(ValueError, match="more is unknown"):
        load_state(nn.Linear(3, 4), {**state, "more": state["bias"]}, "w")


@settings(max_examples=150)
@given(bit=st.integers(min_value=0), seed=st.integers(0, 3))
def test_any_flipped_bit_is_found_or_means_nothing(bit: int, seed: int) -> None:
    """Of weights, facts and epochs: an error that names the file, or what was written."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "w": torch.randn(3, 2, generator=generator).to(torch.bfloat16),
        "n": torch.arange(4),
        "e": torch.empty(0),
    }
    facts = {"accuracy": 0.97, "names": ["a", "b"], "seed": seed}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_tensors(folder / "w.safetensors", tensors, facts)
        write_json(folder / "metrics.json", facts)
        log = EpochLog(folder, "student")
        log({"epoch": 0, "loss": 0.5})
        log({"epoch": 1, "loss": 0.25})
        for name, read in READERS.items():
            path = folder / name
            expected, content = read(path), bytearray(path.read_bytes())
            at = bit % (8 * len(content))
            content[at // 8] ^= 1 << at % 8
            path.write_bytes(content)
            try:
                found = read(path)
            except BrokenFileError as error:
                assert str(path) in str(error) and "delete it" in str(error)
                continue
            # a flipped bit in the checksum's own name leaves it and the content
            assert kept(found, expected), (name, at)


READERS: dict[str, Callable[[Path], Any]] = {
    "w.safetensors": load_tensors,
    "metrics.json": read_json,
    "metrics.jsonl": lambda path: EpochLog.read(path.parent),
}


def kept(found: Any, expected: Any) -> bool:
    """Whether all that was written is there, to the bit."""
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return all(name in found and kept(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(kept, found, expected))
    return bool(found == expected)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", [b"", b"\x00\xff garbage", b"[]", b"\n"])
def test_emptied_or_replaced_files_are_named(tmp_path: Path, name: str, damage: bytes) -> None:
    (tmp_path / name).write_bytes(damage)
    with pytest.raises(BrokenFileError, match=rf"{name} is damaged .*delete it"):
        READERS[name](tmp_path / name)


def test_a_log_that_lost_its_last_epoch_is_named(tmp_path: Path) -> None:
    for epoch in range(3):
        EpochLog(tmp_path, "student")({"epoch": epoch, "loss": 1 / (epoch + 1)})
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(BrokenFileError, match="does not have the checksum"):
        EpochLog.read(tmp_path)


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"accuracy": 0.9}')
    (tmp_path / "metrics.jsonl").write_text('{"stage": "student", "epoch": 0}\n')
    safetensors.torch.save_file(
        {"w": torch.ones(2)}, tmp_path / "w.safetensors", {"json": '{"epoch": 3}'}
    )
    assert read_json(tmp_path / "metrics.json") == {"accuracy": 0.9}
    assert EpochLog.read(tmp_path) == [{"stage": "student", "epoch": 0}]
    tensors, facts = load_tensors(tmp_path / "w.safetensors")
    assert tensors["w"].tolist() == [1, 1] and facts == {"epoch": 3}


def test_an_opened_folder_is_swept_of_what_dead_writers_left(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from cnn2gnn.base.files import replacing
        with replacing(sys.argv[1]) as path:
            path.write_text("half of the n")
            path.with_name(".tmp").write_text("half of what a library writes first")
            os.kill(os.getpid(), 9)
    """
    path = tmp_path / "snapshots" / "epoch-000.json"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    (left,) = path.parent.iterdir()
    with replacing(path) as ours:  # another file that nobody will write again
        ours.write_text("{}")
        left.mkdir()
        (left / "whole").write_text("")
        sweep(tmp_path)
        assert ours.exists() and not left.exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["snapshots", "epoch-000.json"]

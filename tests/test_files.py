"""Atomic files: whole or absent, and damage is named."""

from __future__ import annotations

import errno
import os
import platform
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cnn2gnn.base.files import (
    BrokenFileError,
    load_state,
    load_tensors,
    read_json,
    replacing,
    save_tensors,
    write_json,
)


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


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    here = temporary.name.removeprefix(".a.json.").rsplit("-", 2)[0]
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

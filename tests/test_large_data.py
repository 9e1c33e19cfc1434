"""Data that do not fit in memory: rows that are read when they are asked for, and a whole run."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnn2gnn.base import disk
from cnn2gnn.data import ImageSet, channel_statistics, load
from cnn2gnn.data.rows import Rows, part_of


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    """Every tensor counts as too large for memory."""
    monkeypatch.setenv("CNN2GNN_IN_MEMORY", "0")
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def pair(count=40):
    """Rows, and the plain tensor they stand for."""
    base = torch.arange(60 * 2 * 3 * 3).reshape(60, 2, 3, 3).to(torch.uint8)
    chosen = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:count]
    return Rows(base, chosen), base[chosen]


READS = {
    "an index": lambda t: t[3],
    "a negative index": lambda t: t[-1],
    "one number": lambda t: t[5, 1, 2, 0],
    "a list": lambda t: t[[4, 4, 0]],
    "indices": lambda t: t[torch.tensor([7, 1, 7])],
    "a mask": lambda t: t[torch.arange(40) % 3 == 0],
    "a slice": lambda t: t[5:30:4],
    "nothing": lambda t: t[:0],
    "a slice of channels": lambda t: t[:, 1:],
    "indices and channels": lambda t: t[torch.tensor([3, 2]), 1],
    "a new dimension": lambda t: t[None],
    "floats": lambda t: t.float() / 255,
    "vectors": lambda t: t.flatten(1),
    "a sum": lambda t: t.sum((0, 2, 3)),
    "an array": lambda t: torch.from_numpy(t.numpy()),
    "a loop": lambda t: torch.stack(list(t)),
    "both": lambda t: torch.cat([t, t]),
    "parts": lambda t: torch.cat([part.float() for part in t.split(7)]),
    "parts of channels": lambda t: t.split(1, 1)[1],
    "another type": lambda t: t.to(torch.int64),
    "a copy": copy.deepcopy,
    "a pickle": lambda t: pickle.loads(pickle.dumps(t)),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("inference", [False, True])
def test_rows_read_as_the_tensor_they_stand_for(name, inference, on_disk):
    rows, plain = pair()
    with torch.inference_mode(inference):
        found, expected = READS[name](rows), READS[name](plain)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert torch.equal(found, expected)


def test_rows_look_like_a_tensor_and_cannot_be_written():
    rows, plain = pair()
    for name in ("shape", "dtype", "device", "ndim", "nbytes"):
        assert getattr(rows, name) == getattr(plain, name)
    assert len(rows) == 40 and not rows.is_floating_point()
    with pytest.raises(TypeError, match="read-only"):
        rows[0] = 1


def test_only_what_would_be_large_is_not_copied(monkeypatch):
    base = torch.zeros(64, 16, 1024, dtype=torch.uint8)  # 16 KiB a row
    monkeypatch.setenv("CNN2GNN_IN_MEMORY", "0.5")  # 32 rows
    small, large = part_of(base, torch.arange(32)), part_of(base, torch.arange(33))
    assert type(small) is torch.Tensor and type(large) is Rows
    assert type(large[:32]) is torch.Tensor and type(part_of(large, torch.arange(33))) is Rows


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.booleans())
def test_parts_are_collected_as_cat_does_wherever_they_lie(sizes, large):
    parts = [torch.rand(size, 3, 2).bfloat16() for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNN2GNN_IN_MEMORY", "0" if large else "1")
        found = disk.collected(iter(parts), sum(sizes))
    assert found.equal(torch.cat(parts)) and found.is_contiguous()
    with pytest.raises(ValueError, match=f"parts of {sum(sizes)} rows are no {sum(sizes) + 1}"):
        disk.collected(iter(parts), sum(sizes) + 1)


def test_what_lies_on_disk_has_no_name_and_is_no_memory_of_the_process(on_disk):
    before = _anonymous()
    tensor = disk.empty((64, 2**20), torch.uint8).fill_(1)
    assert _anonymous() - before < 8 * 2**20
    assert tensor.sum() == 64 * 2**20
    assert list((disk.cache_folder() / "scratch").iterdir()) == []


def test_a_disk_that_may_not_be_written_costs_memory_and_is_told(on_disk, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert disk.empty((3, 2), torch.float32).shape == (3, 2)
    assert "held in memory, for not on disk" in caplog.text


@pytest.mark.parametrize("told", ["much", "-1", "nan"])
def test_a_limit_that_is_none_is_one_clear_error(told, monkeypatch):
    monkeypatch.setenv("CNN2GNN_IN_MEMORY", told)
    with pytest.raises(ValueError, match=f"CNN2GNN_IN_MEMORY='{told}' must be a number of MB"):
        disk.is_large(1)


def test_grey_and_coloured_images_are_the_same_set_on_disk_and_in_memory(
    on_disk, tmp_path, monkeypatch
):
    for at in range(300):  # the first chunk is grey, the second is not
        folder = tmp_path / "pictures" / "ab"[at >= 150]
        folder.mkdir(parents=True, exist_ok=True)
        mode, colour = ("RGB", (at % 256, 7, 9)) if at > 290 else ("L", at % 256)
        Image.new(mode, (6, 6), colour).save(folder / f"{at:03}.png")
    large = load(f"folder:{tmp_path / 'pictures'}")
    again = load(f"folder:{tmp_path / 'pictures'}")
    monkeypatch.delenv("CNN2GNN_IN_MEMORY")
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "other"))
    small = load(f"folder:{tmp_path / 'pictures'}")
    for one, other, plain in zip(large, again, small, strict=True):
        assert type(one.images) is Rows and type(plain.images) is torch.Tensor
        assert one.channels == 3 and one.images.equal(plain.images)
        assert one.fingerprint == other.fingerprint == plain.fingerprint
        told = torch.stack(channel_statistics(one.images))
        assert told.equal(torch.stack(channel_statistics(plain.images)))
        view = torch.tensor([5, 0, 3])
        assert one.view(view, 3, "crop-flip").equal(plain.view(view, 3, "crop-flip"))
        assert one.subset([2, 1]).images.equal(plain.images[[2, 1]])
        assert isinstance(one.to("cpu"), ImageSet) and one.preview(1).size == (6, 6)


def _anonymous() -> int:
    """Memory of this process that no file backs, in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not tell")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


# Everything that touches the data, in a process of its own: decoded, taught, distilled, evaluated.
WHOLE_RUN = """
import json, sys, threading, time
import torch
from torch import nn
from cnn2gnn import Config, distil

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])

def small(out):
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(256, out))
    return network

def run(name):
    torch.manual_seed(0)
    config = Config.from_parameters(
        dataset=f"parquet:{sys.argv[1]}/{name}.parquet", run=name, runs_dir=sys.argv[1] + "/runs",
        augmentation="crop-flip", epochs=1, graph_epochs=1, views=1, graph_views=1, k=5,
        batch_size=250, graph_batch_size=500, eval_batch_size=500, eval_repeats=1, baselines="",
        device="cpu", precision="32-true",
    )
    return distil(config, small(2), stem=small(16))

run("warm")  # libraries have taken their memory
base, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
metrics = run("large").metrics()
done = True
thread.join()
print(json.dumps([peak - base, metrics["student"]["accuracy"]["inductive"]]))
"""
LIMIT = 160 * 2**20  # bytes of memory that a run may take beside the libraries
IMAGES, SIDE = 27_500, 64  # decoded, twice as much


@pytest.mark.timeout(900)  # a busy machine is not a failure
def test_a_run_on_twice_the_memory_that_it_may_take_stays_within(tmp_path):
    _anonymous()  # or skip
    assert IMAGES * 3 * SIDE * SIDE > 2 * LIMIT
    pictures = []
    for at in range(100):
        pixels = np.full((SIDE, SIDE, 3), 2 * at, np.uint8)
        pixels[: SIDE // 2, :, at % 2] = 255
        Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
        pictures.append(buffer.getvalue())
    for name, count in (("warm", 1000), ("large", IMAGES)):
        content = [pictures[at % 100] for at in range(count)]
        table = pyarrow.table({"image": content, "label": [at % 2 for at in range(count)]})
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    more = {"CNN2GNN_CACHE": str(tmp_path / "cache"), "CNN2GNN_IN_MEMORY": "1"}
    more["MALLOC_MMAP_THRESHOLD_"] = str(2**20)  # what is freed goes back to the system at once
    command = [sys.executable, "-c", WHOLE_RUN, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    peak, accuracy = json.loads(done.stdout.splitlines()[-1])
    assert accuracy > 0.9
    assert peak < LIMIT, f"{peak / 2**20:.0f} MB"

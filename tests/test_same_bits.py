"""Same seed, same machine, same threads: two processes train to the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import small_config

from cnn2gnn.runs import load_run

FILES = ("student.safetensors", "bank.safetensors", "nodes.safetensors")


def test_two_full_runs_give_the_same_bits(tmp_path: Path) -> None:
    """`deterministic` changes none: everything that a run does has a deterministic way."""
    for name in ("one", "two"):
        few = {"train_images": 200, "teacher_epochs": 1, "epochs": 2, "graph_epochs": 2}
        config = small_config(tmp_path / name, run="r", baselines="twin", **few)
        parameters = config.parameters() | {"deterministic": name == "two"}
        command = [sys.executable, "-m", "cnn2gnn.distillation", json.dumps(parameters)]
        subprocess.run(command, check=True, timeout=250)
    one, two = (load_run("r", tmp_path / name) for name in ("one", "two"))
    twins = (run.stage_folder("twin") / "student.safetensors" for run in (one, two))
    assert next(twins).read_bytes() == next(twins).read_bytes()
    for name in FILES:
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes(), name
    assert one.metrics()["student"]["accuracy"] == two.metrics()["student"]["accuracy"]

"""Starting a run again: from the same notebook, in several processes, with the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import small_config

from cnn2gnn.config import Config
from cnn2gnn.data import ImageSet, Splits
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation.protocols import no_graph
from cnn2gnn.runs import Run

SCRIPT = """
import json, sys
from cnn2gnn.config import Config
from cnn2gnn.distillation.distil import distil
distil(Config.from_parameters(json.loads(sys.argv[1])))
"""


def noise(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3, ("a", "b", "c"), "noise")


def tiny(folder: Path, **more: object) -> Config:
    return small_config(folder, teacher_epochs=1, epochs=1, **more)


def test_models_loaded_again_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colour convolutions round differently in another memory layout; the cache would notice."""
    splits = Splits(noise(64, 0), noise(20, 1), noise(20, 2))
    monkeypatch.setattr("cnn2gnn.distillation.session.load_splits", lambda _: splits)
    config = tiny(tmp_path, teacher_batch_size=32, batch_size=32)
    trained, again = Session.start(config), Session.start(config)  # a cell may be run twice
    with torch.no_grad():
        fresh, loaded = (s.teacher(splits.test.images) for s in (trained, again))
    assert torch.equal(fresh, loaded)
    students = trained.student(), again.student()
    assert students[0] is not students[1]
    own = [no_graph(student, splits.test.images).logits for student in students]
    assert torch.equal(own[0], own[1])


def test_two_processes_share_one_training(tmp_path: Path) -> None:
    config = tiny(tmp_path, run="two", devices=2, train_images=200, baselines="twin,undistilled")
    script = tmp_path / "run.py"  # the second rank starts the same script
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), json.dumps(config.parameters())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "two")
    passes = {stage: 0 for stage in dict.fromkeys(row["stage"] for row in run.history())}
    for row in run.history():
        passes[row["stage"]] += 1
    first, then = config.training.epochs, config.training.graph_epochs
    assert passes == {
        "student": first,
        "student-graph": then,
        "twin-graph": then,
        "undistilled": first,
        "undistilled-graph": then,
    }
    assert run.metrics()["baselines"]["twin"]["accuracy"] > 0.1
    assert len(list((tmp_path / "teachers").glob("*/cache/*"))) == 1  # one teacher for both

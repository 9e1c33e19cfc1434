"""Files that are whole and not what they were: another run's, or written anew by somebody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_config

from cnn2gnn.base import checksums
from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors, write_json
from cnn2gnn.base.shapes import misfit
from cnn2gnn.data.numbers import as_float32
from cnn2gnn.distillation.distil import distil
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.predictor import Predictor
from cnn2gnn.runs import Run


@pytest.fixture(scope="module")
def other(small_run: Run) -> Run:
    """A run like the small one, in all but its seed."""
    return distil(small_config(small_run.folder.parent, run="other", seed=1))


@pytest.fixture
def copied(small_run: Run, tmp_path: Path) -> Path:
    shutil.copytree(small_run.folder, tmp_path / "small")
    return tmp_path / "small"


@pytest.mark.parametrize("name", ["student", "bank", "nodes", "snapshots/epoch-001"])
def test_a_file_of_another_run_is_named(copied: Path, other: Run, name: str) -> None:
    shutil.copy(other.folder / f"{name}.safetensors", copied / f"{name}.safetensors")
    with pytest.raises(BrokenFileError, match=f"{name}.safetensors is damaged .it is another one"):
        run = Run.open(copied)
        RunNodes.load(run)
        run.snapshots()


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl"])
def test_results_belong_to_parameters_and_epochs(copied: Path, other: Run, name: str) -> None:
    shutil.copy(other.folder / name, copied / name)
    with pytest.raises(BrokenFileError, match=f"{name} is not the one that the results in .* belo"):
        Run.open(copied).metrics()


def test_a_run_that_told_no_checksums_is_read_as_before(copied: Path) -> None:
    metrics = Run.open(copied).metrics()
    del metrics["files"]
    write_json(copied / "metrics.json", metrics)
    assert len(RunNodes.load(copied).logits)


@pytest.mark.parametrize(
    "where, value, told",
    [
        (("student", "accuracy", "inductive"), "x", "student.accuracy.inductive='x' is of another"),
        (("images",), [1], "images is no object"),
        (("teacher", "name"), ..., "teacher.name is missing"),
        (("seed",), True, "seed=True is of another type"),
    ],
)
def test_a_field_of_the_results_is_named(copied: Path, where, value, told) -> None:
    metrics = holder = Run.open(copied).metrics()
    for step in where[:-1]:
        holder = holder[step]
    holder[where[-1]] = value
    if value is ...:
        del holder[where[-1]]
    write_json(copied / "metrics.json", metrics)
    with pytest.raises(BrokenFileError, match=f"metrics.json is damaged .{told}"):
        Predictor.load(copied)


def test_rows_of_epochs_have_a_stage_and_a_number(copied: Path) -> None:
    rows = [{"stage": "student", "epoch": "1"}]
    rows[0][checksums.NAME] = checksums.of_json(rows)
    (copied / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(BrokenFileError, match=r"metrics.jsonl is damaged .\[0\].epoch='1' is of"):
        Run.open(copied).history()


@pytest.mark.parametrize(
    "change",
    [
        {"bank.keys": None}, {"bank.labels": torch.zeros(3, 1)}, {"more.keys": torch.ones(1)},
        {"bank.probabilities": torch.full((200, 10), torch.nan)},
        {"student.network.layer2.bias": torch.full((10,), torch.inf)},
        {"student.network.layer2.bias": torch.ones(10, dtype=torch.int64)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_predictor_of_odd_tensors_is_refused(small_run: Run, tmp_path: Path, change) -> None:
    file = tmp_path / "small.predictor"
    Predictor.load(small_run).save(file)
    tensors, facts = load_tensors(file)
    kept = {
        name: tensor.clone() for name, tensor in (tensors | change).items() if tensor is not None
    }
    save_tensors(file, kept, facts)
    with pytest.raises(ValueError, match=r"small\.predictor"):
        Predictor.load(file)


@pytest.mark.parametrize(
    "name, value", [("classes", ["a"]), ("classes", 3), ("modality", "x"), ("hidden", 10**30)]
)
def test_a_predictor_of_odd_facts_is_refused(small_run: Run, tmp_path: Path, name, value) -> None:
    file = tmp_path / "small.predictor"
    Predictor.load(small_run).save(file)
    tensors, facts = load_tensors(file)
    held = {"classes": facts, "modality": facts["student"], "hidden": facts["student"]["config"]}
    held[name][name] = value
    save_tensors(file, {n: t.clone() for n, t in tensors.items()}, facts)
    with pytest.raises(ValueError, match=r"small\.predictor holds no [a-z]+: ") as refused:
        Predictor.load(file)
    assert "\n" not in str(refused.value)


def test_a_shape_says_where_content_is_otherwise() -> None:
    shape = {"a": int, "b?": [str | None], "*": {"c": float}}
    assert misfit({"a": 1, "b": ["x", None], "other": {"c": 0.5, "more": 1}}, shape) == ""
    assert misfit({"a": 1, "b": ["x", 2]}, shape) == "b[1]=2 is of another type"
    assert misfit({"a": 1, "other": {}}, shape) == "other.c is missing"
    assert misfit([], shape) == "it is no object"


@pytest.mark.parametrize(
    "values", [1j * np.ones(2), ["a"], [[1], [1, 2]], [{}], [np.datetime64(0, "s")]]
)
def test_what_is_no_real_number_is_refused(values) -> None:
    with pytest.raises(ValueError):
        as_float32(values)
    assert as_float32(torch.ones(2, dtype=torch.bfloat16)).tolist() == [1, 1]
    assert np.isinf(as_float32([1e300])).all()

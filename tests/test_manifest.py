"""A run is bound to what made it, and says so."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import small_config
from PIL import Image

from cnn2gnn import distil, load_run, manifest
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.files import BrokenFileError
from cnn2gnn.report.results import Results, configurations
from cnn2gnn.runs import Run, load_splits, teacher_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, 60 dark and 60 bright images."""
    folder = tmp_path_factory.mktemp("photos")
    for name, at in (("dark", 20), ("bright", 150)):
        for index in range(60):
            add(folder, name, at, index)
    return folder


def add(folder: Path, name: str, at: int, index: int) -> None:
    pixels = np.random.default_rng(index + at).integers(at, at + 60, (8, 8, 3), dtype=np.uint8)
    (folder / name).mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name / f"{index:03}.png")


def config_of(photos: Path, runs: Path, **more: Any) -> Config:
    return small_config(
        runs, dataset=f"folder:{photos}", run="x", teacher_epochs=1, epochs=1, k=5, **more
    )


@pytest.fixture
def finished(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Path]:
    """A finished run on a copy of the photos that a test may change, and that copy."""
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    return distil(config_of(copy, tmp_path / "runs")), copy


def test_other_images_are_never_taken_for_those_of_the_run(finished: tuple[Run, Path]) -> None:
    run, photos = finished
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    add(photos, "dark", 20, 60)
    look: list[Any] = [
        lambda: distil(run.config),
        lambda: load_run(run.folder).load_splits(),
        lambda: RunNodes.load(run.folder),
        lambda: Results.read(run.folder).splits,
    ]
    for way in look:
        with pytest.raises(DataError, match="data of run 'x' are no longer those .* images were"):
            way()
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    (photos / "dark" / "060.png").unlink()
    add(photos, "amber", 90, 0)  # comes first: every label moves
    add(photos, "amber", 90, 1)
    add(photos, "amber", 90, 2)
    with pytest.raises(DataError, match=r"classes were \['bright', 'dark'\], are \['amber'"):
        distil(run.config)


def test_a_copied_run_knows_its_teacher_and_no_other(finished: tuple[Run, Path]) -> None:
    run, _ = finished
    elsewhere = run.folder.parent.with_name("elsewhere")
    shutil.copytree(run.folder.parent, elsewhere)
    nodes = RunNodes.load(elsewhere / "x")
    assert nodes.teacher is not None
    assert nodes.teacher.fingerprint() == run.manifest["teacher"]

    other = replace(run.config, teacher=replace(run.config.teacher, teacher_seed=7))
    Session.start(replace(other, runtime=replace(other.runtime, run="y", runs_dir=str(elsewhere))))
    swapped, mine = (
        elsewhere / "teachers" / teacher_folder(c, run.load_splits()).name / "teacher.safetensors"
        for c in (other, run.config)
    )
    shutil.copy(swapped, mine)
    with pytest.raises(ValueError, match=r"is not the teacher of run .*: \w{16} instead of \w{16}"):
        _ = RunNodes.load(elsewhere / "x").teacher
    here = replace(run.config.runtime, runs_dir=str(elsewhere))
    with pytest.raises(ConfigError, match=r"run 'x' was taught by teacher \w{16}, this one is"):
        Session.start(replace(run.config, runtime=here))


def test_precision_is_bound_as_resolved(finished: tuple[Run, Path]) -> None:
    run, _ = finished
    assert run.manifest["hardware"] == {"precision": "32-true", "device": "cpu", "world_size": 1}
    same = replace(run.config, runtime=replace(run.config.runtime, precision="32-true"))
    assert distil(same).folder == run.folder, "auto has become 32-true"
    other = replace(run.config, runtime=replace(run.config.runtime, precision="bf16-mixed"))
    with pytest.raises(ConfigError, match="precision was '32-true', is 'bf16-mixed'"):
        Session.start(other)
    splits = run.load_splits()
    assert teacher_folder(other, splits) != teacher_folder(run.config, splits)


def test_what_may_differ_is_told_in_one_line(
    finished: tuple[Run, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = finished
    stages = run.manifest["stages"]
    assert list(stages) == ["student"] and stages["student"]["versions"]["torch"]
    path = run.folder / manifest.FILE
    content = json.loads(path.read_text())
    content["versions"]["torch"], content["hardware"]["world_size"] = "1.0.0", 2
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        distil(run.config)
    (message,) = [r.getMessage() for r in caplog.records if "goes on where" in r.getMessage()]
    assert "torch was 1.0.0, is 2" in message and "world_size was 2, is 1" in message
    assert "student" in load_run(run.folder).manifest["stages"]


@pytest.mark.parametrize(
    "content, message",
    [('{"parameters": {', "is damaged"), ("[]", "data, hardware"), ("{}", "older version")],
)
def test_a_damaged_manifest_is_one_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / manifest.FILE).write_text(content)
    with pytest.raises(BrokenFileError, match=message):
        load_run(tmp_path)


def test_runs_on_other_images_are_not_averaged(finished: tuple[Run, Path]) -> None:
    run, photos = finished
    first = Results.read(run.folder)
    add(photos, "dark", 20, 60)
    config = replace(run.config, runtime=replace(run.config.runtime, run="y", seed=1))
    second = Results.read(distil(config).folder)
    with pytest.raises(DataError, match=r"runs x and y have the same parameters but other \w+ im"):
        configurations([first, second])


@pytest.mark.parametrize(
    "more, message",
    [
        ({"train_images": 6}, r"k=5 needs at least k \+ 2 = 7 nodes, but the bank .* has 6; lower"),
        ({"scope": "batch", "validation": 0.05}, "a batch of validation images has 4"),
    ],
)
def test_too_few_nodes_are_found_before_anything_is_trained(
    photos: Path, tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        distil(config_of(photos, tmp_path, **more))
    assert list(tmp_path.iterdir()) == [], "nothing stands in the way of the next try"


def test_snapshots_show_every_class_of_sorted_images(finished: tuple[Run, Path]) -> None:
    (_, first), *_ = finished[0].snapshots()
    validation = load_splits(finished[0].config.data).validation.labels
    assert first["labels"].bincount().tolist() == validation.bincount().tolist()
    assert set(first["neighbour_labels"].flatten().tolist()) <= {0, 1}

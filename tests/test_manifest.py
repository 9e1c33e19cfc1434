"""A run is bound to what made it, and says so."""

from __future__ import annotations

import errno
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import small_config
from PIL import Image

import cnn2gnn
from cnn2gnn import distil, load_run
from cnn2gnn.base.files import BrokenFileError, read_json, write_json
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError
from cnn2gnn.distillation.loop import NotFiniteError
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation import coordinates
from cnn2gnn.evaluation.nodes import RunNodes
from cnn2gnn.report.origin import differing
from cnn2gnn.report.results import Results, configurations
from cnn2gnn.runs import Run, load_splits, manifest
from cnn2gnn.runs.environment import in_words
from cnn2gnn.runs.hardware import resolve_precision
from cnn2gnn.runs.teachers import teacher_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, 60 dark and 60 bright images."""
    folder = tmp_path_factory.mktemp("photos")
    for name, at in (("dark", 20), ("bright", 150)):
        for index in range(60):
            add(folder, name, at, index)
    return folder


def moved(config: Config, **more: Any) -> Config:
    """The same with other parameters of its runtime."""
    return replace(config, runtime=replace(config.runtime, **more))


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

    here = moved(run.config, runs_dir=str(elsewhere))
    assert distil(here).manifest["teacher"] == run.manifest["teacher"], "it goes on over there"
    other = moved(replace(here, teacher=replace(here.teacher, teacher_seed=7)), run="y")
    Session.start(other)
    there, mine = (elsewhere / "teachers" / folder_of(c).name for c in (other, run.config))
    for name in ("teacher.safetensors", "teacher.json"):
        shutil.copy(there / name, mine)
        with pytest.raises(ValueError, match=r"is not the teacher of run .*: \w{16} instead of"):
            _ = RunNodes.load(elsewhere / "x").teacher
        told = {
            "teacher.safetensors": r"not the teacher that was trained there: .* \w{16} instead of",
            "teacher.json": r"run 'x' was taught by teacher \w{16}, this one is \w{16}",
        }
        with pytest.raises(ValueError, match=told[name]):
            Session.start(here)


def folder_of(config: Config) -> Path:
    return teacher_folder(config, load_splits(config.data))


def test_precision_is_bound_as_resolved(finished: tuple[Run, Path]) -> None:
    run, _ = finished
    resolved = resolve_precision("cpu")
    assert run.manifest["hardware"] == {"precision": resolved, "device": "cpu", "world_size": 1}
    same = replace(run.config, runtime=replace(run.config.runtime, precision=resolved))
    assert distil(same).folder == run.folder, f"auto has become {resolved}"
    other = replace(run.config, runtime=replace(run.config.runtime, precision="16-mixed"))
    with pytest.raises(ConfigError, match=f"precision was '{resolved}', is '16-mixed'"):
        Session.start(other)
    splits = run.load_splits()
    assert teacher_folder(other, splits) != teacher_folder(run.config, splits)


def test_what_may_differ_is_told_in_one_line(
    finished: tuple[Run, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run, _ = finished
    assert list(run.manifest["stages"]) == ["student", "student-graph", "evaluation"]
    path = run.folder / manifest.FILE
    content = read_json(path)
    content["hardware"]["world_size"] = 2
    content["stages"]["student"]["versions"]["torch"] = "1.0.0"
    write_json(path, content)

    def told() -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            distil(run.config)
        (message,) = [r.getMessage() for r in caplog.records if "goes on" in r.getMessage()]
        return message

    first, second = told(), told()
    assert "world_size was 2, is 1 (at its last start)" in first
    assert all("torch was 1.0.0, is 2" in message for message in (first, second))
    assert "(in stage student)" in second and "world_size" not in second, "once is enough"


def test_the_commit_of_a_checkout_is_part_of_what_made_a_run(finished: tuple[Run, Path]) -> None:
    run, _ = finished
    root = Path(cnn2gnn.__file__).parents[1]
    in_checkout = (root / ".git").exists()
    assert (run.manifest["git_commit"] is not None) == in_checkout


def test_a_renamed_run_is_the_same_run(finished: tuple[Run, Path]) -> None:
    run, _ = finished
    before = (run.folder / "student.safetensors").read_bytes()
    run.unlock()
    run.folder.rename(run.folder.with_name("z"))
    again = distil(moved(run.config, run="z"))
    assert (again.folder / "student.safetensors").read_bytes() == before


def test_a_run_that_has_learned_nothing_does_not_stand_in_the_way(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFiniteError):
        distil(config_of(photos, tmp_path, teacher_learning_rate=1e9, teacher_batch_size=8))
    with pytest.raises(NotFiniteError):  # the teacher is trained by now, and known to the run
        distil(config_of(photos, tmp_path, learning_rate=1e30, gradient_clip=0.0, batch_size=8))
    run = distil(config_of(photos, tmp_path))
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.5
    with pytest.raises(ConfigError, match=r"exists with other parameters \(k was 5, is 4\)"):
        distil(replace(run.config, student=replace(run.config.student, k=4)))


def test_a_run_of_a_version_that_knew_fewer_parameters_goes_on(
    finished: tuple[Run, Path],
) -> None:
    run, _ = finished
    run.unlock()
    content = manifest.read(run.folder)
    older = {n: v for n, v in content["parameters"].items() if n not in ("layer", "stage_two")}
    manifest.write(run.folder, {**content, "parameters": older})
    distil(run.config).unlock()
    with pytest.raises(ConfigError, match=r"\(layer was 'mean', is 'gcn'\)"):
        distil(replace(run.config, student=replace(run.config.student, layer="gcn")))


def test_what_another_process_has_made_before_the_lock_was_ours_counts(
    finished: tuple[Run, Path],
) -> None:
    run, _ = finished
    config = moved(replace(run.config, student=replace(run.config.student, k=4)), run="w")
    late = Run.create(config, run.load_splits())
    distil(moved(run.config, run="w")).unlock()
    with pytest.raises(ConfigError, match="k was 5, is 4"):
        late.lock()


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"parameters": {', "is damaged"),
        ("[]", "is damaged .it holds no object.; start the run under another name"),
        ("{}", "of an older version: parameters is missing; start the run under another name"),
        ('{"parameters": {}, "own": {}, "data": {"classes": []}}', ": data.train images is mis"),
        ('{"parameters": {}, "own": {}, "data": 3}', ": data is no object"),
    ],
)
def test_a_damaged_or_older_manifest_is_one_error(
    tmp_path: Path, content: str, message: str
) -> None:
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


def test_a_report_shows_what_differs_and_where_it_was_measured(
    finished: tuple[Run, Path],
) -> None:
    run, _ = finished
    other = distil(moved(run.config, run="y", seed=1))
    for made_by in other.manifest["stages"].values():
        made_by["git_commit"] = "0123456789ab"
    other.manifest["stages"]["student"]["versions"]["torch"] = "1.0.0"
    other.save()
    results = [Results.read(folder) for folder in (run.folder, other.folder)]
    (exhibit,) = differing(results)
    table = exhibit.content
    assert isinstance(table, pd.DataFrame)
    assert table.loc["seed"].tolist() == ["0", "1"]
    assert table.loc["commit", "y"] == "0123456789ab" != table.loc["commit", "x"]
    said = r"1\.0\.0 \(student\), 2\.\S+ \(student-graph, …"
    assert re.fullmatch(said, table.loc["torch", "y"])
    assert not {"k", "run", "precision", "train images"} & {*table.index}
    assert set(exhibit.every_number["source"]) == {f"runs/{name}/config.json" for name in "xy"}
    assert differing(results[:1]) == []
    assert [e.content.index.tolist() for e in differing(results[1:])] == [["torch"]]  # type: ignore[union-attr]
    measured = run.metrics()["measured"]
    assert f"{measured['threads']} threads" in in_words(measured)
    assert in_words(measured).endswith(measured["when"][:10])


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


def test_a_run_on_a_share_that_is_only_read_has_its_map(
    finished: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    nodes = RunNodes.load(finished[0])
    monkeypatch.setattr(coordinates, "save_tensors", refuse)
    monkeypatch.setattr(coordinates, "umap", coordinates.pca)  # UMAP compiles for seconds
    with caplog.at_level(logging.WARNING):
        assert coordinates.obtain_umap(nodes).shape == (nodes.rows, 2)
    assert "is not kept: [Errno 30] Read-only file system" in caplog.text

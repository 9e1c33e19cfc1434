"""Comparisons with real runs, each in a process of its own: failing alone, stopped, going on."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import submitit

from cnn2gnn import cli
from cnn2gnn.base import modules
from cnn2gnn.base.values import ConfigError
from cnn2gnn.compare import Comparison, Grid
from cnn2gnn.compare.cluster import Cluster
from cnn2gnn.compare.estimate import Seconds
from cnn2gnn.report.results import Results
from cnn2gnn.report.size_measures import training_seconds
from cnn2gnn.runs import Run

TINY: dict[str, Any] = {
    "train_images": 60,
    "stem": "linear",
    "k": 5,
    "views": 1,
    "teacher_epochs": 1,
    "epochs": 2,
    "graph_epochs": 2,
    "graph_batch_size": 50,
    "eval_repeats": 1,
    "eval_batch_size": 100,
    "baselines": "twin",
    "device": "cpu",
}
MINE = """
from cnn2gnn.distillation.losses import response_kd
from cnn2gnn.registry import LOSSES

def mine(student_logits, teacher_logits, labels, *, temperature, weight):
    {body}

LOSSES.register("mine", mine)
"""
BROKEN = "raise RuntimeError('no loss today')"
SOUND = "return response_kd(student_logits, teacher_logits, labels, weight=weight)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a module that registers a broken loss, here and in the processes of cells."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "my_losses.py").write_text(MINE.format(body=BROKEN))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        yield folder
    sys.modules.pop("my_losses", None)


@pytest.fixture(scope="module")
def broken(place: Path) -> Comparison:
    """A comparison of which one cell has failed."""
    comparison = comparison_in(place, loss=["kd", "mine"])
    comparison.run(jobs=2)
    return comparison


def test_what_a_notebook_has_imported_is_imported_by_every_process(place: Path) -> None:
    modules.import_modules(["my_losses"])
    grid = Grid("n", TINY | {"loss": "mine"}, str(place / "runs"))
    assert Comparison(grid, place / "reports" / "n").modules == ["my_losses"]


def comparison_in(place: Path, **values: Any) -> Comparison:
    grid = Grid("c", TINY | values, str(place / "runs"))
    return Comparison(grid, place / "reports" / "c", ["my_losses"])


def test_a_cell_fails_alone_and_says_why(broken: Comparison) -> None:
    assert [cell.name for cell in broken.finished] == ["c-loss=kd,seed=0"]
    (error,) = broken.failed.values()
    assert "no loss today" in error and "c-loss=mine,seed=0.log" in error
    page = broken.write().read_text()
    assert "no loss today" in page and "loss=kd" in page


def test_results_are_tidy_and_bound_to_their_runs(broken: Comparison) -> None:
    broken.write()
    found = pd.read_parquet(broken.folder / "results.parquet")
    run = Run.open(broken.finished[0].folder)
    metrics = run.metrics()
    student = found[(found["model"] == "student") & (found["protocol"] == "inductive")]
    values = student.set_index("metric")["value"]
    assert values["accuracy"] == metrics["student"]["accuracy"]["inductive"]
    assert values["images_per_second"] == metrics["student"]["images_per_second"]["inductive"]
    assert set(found["teacher_fingerprint"]) == {run.manifest["teacher"]}
    assert set(found["loss"]) == {"kd"} and set(found["seed"]) == {0}
    twin = found[(found["model"] == "twin") & (found["metric"] == "accuracy")]
    assert twin["value"].item() == metrics["baselines"]["twin"]["accuracy"]
    seconds = found[found["metric"] == "training_seconds"].set_index("model")["value"]
    rows = [row for row in run.history() if row["stage"].startswith("student")]
    assert seconds["student"] == pytest.approx(sum(row["seconds"] for row in rows))


def test_seconds_that_are_forgotten_are_not_known(broken: Comparison, tmp_path: Path) -> None:
    """As after a damaged metrics.jsonl, which one is told to delete."""
    shutil.copytree(broken.finished[0].folder, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    result = Results.read(tmp_path / "run")
    assert math.isnan(training_seconds(result, "student"))
    assert math.isnan(training_seconds(result, "twin"))


def test_a_gain_is_that_of_the_images_the_twin_saw(broken: Comparison) -> None:
    result = Results.read(broken.finished[0].folder)
    labels = result.tensors["labels"]
    right = {n: (result.tensors[n].argmax(1) == labels) for n in ("logits", "twin_logits")}
    twin = result.metrics["baselines"]["twin"]["accuracy"]
    assert right["twin_logits"].double().mean().item() == pytest.approx(twin)
    points = 100 * (right["logits"].double() - right["twin_logits"].double()).mean().item()
    assert broken.table()["gain over twin"].item().startswith(f"{points:+.2f} [")


def test_the_next_start_runs_what_failed_and_nothing_else(broken: Comparison, place: Path) -> None:
    done = broken.finished[0].folder / "metrics.json"
    before = done.stat().st_mtime_ns
    (place / "my_losses.py").write_text(MINE.format(body=SOUND))
    broken.run()
    assert broken.failed == {} and len(broken.finished) == 2
    assert done.stat().st_mtime_ns == before
    # the same function by another name: the same run
    accuracies = [Run.open(c.folder).metrics()["student"]["accuracy"] for c in broken.finished]
    assert accuracies[0] == accuracies[1]
    tables = broken.write().parent / "tables"
    assert not (tables / "failed.csv").exists(), "it tells of an earlier start"
    differences = pd.read_csv(tables / "differences.csv")
    assert differences[["points", "low", "high"]].to_numpy().tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            {"epochs": 99},
            r"run 'c-loss=kd,seed=0' exists .*\(epochs was 2, is 99\); choose another",
        ),
        ({"precision": "16-mixed"}, "precision was '.*', is '16-mixed'"),
    ],
)
def test_a_finished_cell_of_other_parameters_is_refused(
    broken: Comparison, place: Path, other: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        comparison_in(place, loss=["kd", "mine"], **other)


def test_so_is_one_that_was_stopped_but_none_that_has_learned_nothing(
    broken: Comparison, place: Path
) -> None:
    folder = place / "runs" / "stopped-seed=0"
    shutil.copytree(broken.finished[0].folder, folder)
    (folder / "metrics.json").unlink()
    grid = Grid("stopped", TINY | {"epochs": 99}, str(place / "runs"))
    with pytest.raises(ConfigError, match="epochs was 2, is 99"):
        Comparison(grid, place / "reports" / "stopped")
    for path in folder.iterdir():
        if path.name != "config.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert len(Comparison(grid, place / "reports" / "stopped").missing) == 1


def test_configurations_tested_on_other_images_are_not_paired(place: Path) -> None:
    grid = Grid("sizes", TINY | {"image_size": [8, 6]}, str(place / "others"))
    comparison = Comparison(grid, place / "reports" / "sizes")
    comparison.run()
    assert comparison.failed == {}
    page = comparison.write()
    assert "Left out, since tested on other samples: image_size=6." in page.read_text()
    tables = page.parent / "tables"
    assert not (tables / "differences.csv").exists()
    assert len(pd.read_csv(tables / "gains.csv")) == len(comparison.table()) == 2


def test_killed_it_leaves_nothing_running_and_goes_on(broken: Comparison, place: Path) -> None:
    values = [f"--{n.replace('_', '-')}={v}" for n, v in TINY.items()]
    command = [sys.executable, "-m", "cnn2gnn", "compare", "killed", *values]
    with subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL) as process:
        epochs = place / "runs" / "killed-seed=0" / "metrics.jsonl"
        wait_for(epochs.exists)
        cells = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert cells
    _, alive = psutil.wait_procs(cells, timeout=60)
    assert alive == []
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    there, here = (
        Results.read(folder).tensors["logits"].numpy()
        for folder in (place / "runs" / "killed-seed=0", broken.finished[0].folder)
    )
    np.testing.assert_array_equal(there, here)


def wait_for(happened: Any) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened in two minutes")


def test_nothing_to_report_is_said(place: Path) -> None:
    grid = Grid("nothing", TINY, str(place / "runs"))
    comparison = Comparison(grid, place / "reports" / "nothing")
    with pytest.raises(FileNotFoundError, match="no cell of nothing has finished"):
        comparison.write()
    with pytest.raises(ConfigError, match="jobs=0 must be at least 1"):
        comparison.run(jobs=0)


def test_a_name_belongs_to_its_parameters_but_may_get_more_values(
    broken: Comparison, place: Path
) -> None:
    kept = (broken.folder / "comparison.toml").read_text()
    message = r"comparison 'c' exists with other parameters, of which this one lacks .*seed=0"
    with pytest.raises(ConfigError, match=message):
        comparison_in(place, loss=["dkd"], k=[3, 4])
    assert (broken.folder / "comparison.toml").read_text() == kept
    assert len(comparison_in(place, loss=["kd", "mine", "dkd"]).cells) > len(broken.cells)
    told_elsewhere = comparison_in(place, loss=["kd", "mine"], logger="tensorboard")
    assert len(told_elsewhere.cells) == 2


def test_a_module_that_cannot_be_imported_is_named(place: Path) -> None:
    grid = Grid("c", TINY, str(place / "runs"))
    with pytest.raises(ConfigError, match="import='not_there'"):
        Comparison(grid, place / "reports", ["not_there"])


def test_the_plan_tells_the_time_by_runs_that_are_like_it(broken: Comparison) -> None:
    runs_dir = broken.grid.runs_dir
    runs = [Run.open(path.parent) for path in Path(runs_dir).glob("*/config.json")]
    rows = [row for run in runs for row in run.history()]
    first, second = (
        np.median([r["seconds"] for r in rows if r["stage"].endswith("-graph") == graph])
        for graph in (False, True)
    )
    values = TINY | {"loss": "kd", "epochs": 20, "graph_epochs": 7}  # of student and twin
    plan = Seconds(runs_dir)
    (known,) = plan.of(Grid("p", values, runs_dir).cells())
    assert known == pytest.approx(20 * first + 2 * 7 * second)
    (unknown,) = plan.of(Grid("p", values | {"stem": "conv-base"}, runs_dir).cells())
    assert unknown is None


def test_an_estimate_passes_over_what_is_damaged(broken: Comparison, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(broken.grid.runs_dir, runs, ignore=shutil.ignore_patterns("*.safetensors"))
    cell = Grid("p", TINY | {"loss": "kd", "seed": 1}, str(runs)).cells()
    before = Seconds(runs).of(cell)
    for name in ("a-run", "teachers/a-teacher"):
        (runs / name).mkdir()
        (runs / name / "metrics.jsonl").write_text("{")
    (whole,) = (f.parent for f in runs.glob("*loss=kd*/config.json"))
    shutil.copy(whole / "config.json", runs / "a-run")
    (runs / "teachers" / "a-teacher" / "teacher.json").write_text('{"fingerprint": "a"}')
    (runs / "teachers" / "another").mkdir()
    (runs / "teachers" / "another" / "teacher.json").write_text("{")
    assert Seconds(runs).of(cell) == before != [None]


def test_damaged_results_are_one_line(
    broken: Comparison, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(broken.finished[0].folder, Path("runs/d-seed=0"))
    Path("runs/d-seed=0/metrics.json").write_text("{")
    given = [f"--{n.replace('_', '-')}={v}" for n, v in TINY.items()]
    assert cli.main(["compare", "d", *given, "--loss", "kd"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cnn2gnn: ") and "metrics.json is damaged" in said


def test_a_teacher_that_cells_share_counts_once(broken: Comparison) -> None:
    runs_dir = broken.grid.runs_dir
    grid = Grid("p", TINY | {"teacher_epochs": 5, "seed": [1, 2]}, runs_dir)
    first, second = Seconds(runs_dir).of(grid.cells())
    assert first is not None and second is not None and first > second


def test_a_stage_one_that_cells_share_counts_once(broken: Comparison) -> None:
    runs_dir = broken.grid.runs_dir
    alike = Grid("p", TINY | {"loss": "kd", "epochs": 20, "k": [4, 5, 6]}, runs_dir).cells()
    other = Grid("p", TINY | {"loss": "kd", "epochs": 20, "hidden": [8, 9]}, runs_dir).cells()
    first, second, third = Seconds(runs_dir).of(alike)
    assert first is not None and second is not None
    assert second == third < first
    assert [*Seconds(runs_dir).of(other)] == [first, first]  # of another width


def test_a_teacher_that_came_with_the_data_takes_no_time(broken: Comparison) -> None:
    values = TINY | {"loss": "kd", "teacher": "given", "teacher_epochs": 5}
    (known,) = Seconds(broken.grid.runs_dir).of(Grid("p", values, broken.grid.runs_dir).cells())
    assert known is not None


def test_the_command_line(broken: Comparison, place: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(place)
    given = [f"--{n.replace('_', '-')}={v}" for n, v in TINY.items()]
    assert cli.main(["compare", "c", *given, "--loss", "kd", "dkd-not", "--dry-run"]) == 2
    assert "loss='dkd-not' must be one of" in capsys.readouterr().err
    assert cli.main(["compare", "c", *given, "--dataset", "digts", "--dry-run"]) == 2
    assert "unknown data set 'digts': did you mean 'digits'" in capsys.readouterr().err
    again = ["compare", "c", *given, "--import", "my_losses", "--loss", "kd", "mine"]
    assert cli.main([*again, "--dry-run"]) == 0
    assert "done  c-loss=kd,seed=0" in capsys.readouterr().out
    assert cli.main(again) == 0  # nothing is left to run
    out = capsys.readouterr().out
    assert "loss=mine" in out and "report: reports/c/report.html" in out
    (place / "g.toml").write_text("k = 5\n")
    assert cli.main(["compare", "g.toml", "--epochs", "3"]) == 2
    assert "g.toml holds the grid: epochs cannot be added" in capsys.readouterr().err
    assert cli.main(["compare", "not-there.toml"]) == 2
    assert cli.main(["compare", "c", "--k", "0"]) == 2


def test_cells_run_as_jobs_of_a_cluster(place: Path, broken: Comparison) -> None:
    """By submitit's executor for one machine: one is well, one fails alone."""
    (place / "my_losses.py").write_text(MINE.format(body=BROKEN))
    grid = Grid("jobs", TINY | {"loss": ["kd", "mine"]}, broken.grid.runs_dir)
    comparison = Comparison(grid, place / "reports" / "jobs", ["my_losses"])
    comparison.run_on("local", timeout_min=10)
    assert [cell.varied["loss"] for cell in comparison.finished] == ["kd"]
    (error,) = comparison.failed.values()
    assert "fails: no loss today (all of it: " in error


def test_a_job_that_takes_too_long_says_so(place: Path, broken: Comparison) -> None:
    cluster = Cluster(place / "late", "local", {"timeout_min": 1})
    cluster._executor._executor.parameters["signal_delay_s"] = 58  # ends it after two seconds
    errors: list[str | None] = []
    cells = Grid("late", TINY | {"epochs": 3}, broken.grid.runs_dir).cells()
    cluster.run(cells, lambda _, error: errors.append(error))
    assert errors[0] is not None and len(errors) == 1
    assert errors[0].startswith("timed out: --cluster-option timeout_min=… gives it more minutes (")


def test_a_scheduler_is_told_how_long_a_job_may_take(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    with pytest.raises(ConfigError, match="cluster='slurm' needs the minutes that a job may take"):
        Cluster(tmp_path, "slurm", {"slurm_partition": "gpu"})
    Cluster(tmp_path, "slurm", {"slurm_partition": "gpu", "timeout_min": 600})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cluster", "slurm"], "cluster='slurm'"),  # there is none here
        (["--cluster", "local", "--cluster-option", "wrong=1"], "wrong"),
        (["--cluster", "local", "--cluster-option", "wrong=1", "--dry-run"], "wrong"),
        (["--cluster", "slurm", "--dry-run"], "cluster='slurm'"),
        (["--cluster", "local", "--cluster-option", "mem_gb=much"], "mem_gb"),
        (["--cluster", "local", "--cluster-option", "wrong"], "must be NAME=VALUE"),
        (["--cluster-option", "timeout_min=1", "--dry-run"], "'timeout_min=1' needs --cluster"),
        (["--cluster", "local", "--jobs", "1", "--dry-run"], "jobs=1 cannot go with --cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_said(
    tmp_path: Path, monkeypatch, capsys, options: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", "c", *options]) == 2
    assert says in capsys.readouterr().err

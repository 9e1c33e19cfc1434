"""The plan of the long comparison: a shortened one, on a CPU, stopped and continued."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_plan.py"
GRID = """
dataset = "digits"
train_images = 60
stem = "linear"
k = 5
teacher_epochs = 1
epochs = 1
graph_epochs = 1
views = 1
baselines = ""
loss = ["kd", "dist"]
"""


@pytest.fixture
def plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """The script as a function of its arguments; returns its exit code and what it prints.

    Its steps are processes; the script itself need not be one.
    """
    spec = importlib.util.spec_from_file_location("gpu_plan", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        return script.main(), capsys.readouterr().out

    return called


def test_the_plan_is_listed(plan: Any) -> None:
    code, listed = plan()
    assert code == 0
    assert listed.startswith("timeout 600 ") and "compare" in listed
    assert "0 of 36 cells finished; about" in listed


def test_a_step_that_is_stopped_is_continued_by_the_next(plan: Any, tmp_path: Path) -> None:
    grid = tmp_path / "short.toml"
    grid.write_text(GRID)
    code, stopped = plan("--step", "--seconds", "3", "--grid", str(grid))
    assert code == 3 and "run another step" in stopped
    code, ended = plan("--step", "--jobs", "2", "--grid", str(grid))
    assert code == 0 and "2 of 2 cells finished: done" in ended
    assert (tmp_path / "reports" / "short" / "results.parquet").is_file()

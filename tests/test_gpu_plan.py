"""The plan of the long comparison: a shortened one, on a CPU, stopped and continued."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_plan.py"
GRID = """
dataset = "digits"
train_images = 200
stem = "conv-tiny"
k = 5
teacher_epochs = 1
epochs = 1
graph_epochs = 1
views = 1
baselines = ""
loss = ["kd", "dist"]
"""


def plan(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )


def test_the_plan_is_listed(tmp_path: Path) -> None:
    listed = plan(tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("timeout 600 ") and "compare" in listed.stdout
    assert "0 of 36 cells finished; about" in listed.stdout


def test_a_step_that_is_stopped_is_continued_by_the_next(tmp_path: Path) -> None:
    grid = tmp_path / "short.toml"
    grid.write_text(GRID)
    stopped = plan(tmp_path, "--step", "--seconds", "3", "--grid", str(grid))
    assert stopped.returncode == 3 and "run another step" in stopped.stdout, stopped.stderr
    ended = plan(tmp_path, "--step", "--jobs", "2", "--grid", str(grid))
    assert ended.returncode == 0 and "2 of 2 cells finished: done" in ended.stdout, ended.stderr
    assert (tmp_path / "reports" / "short" / "results.parquet").is_file()

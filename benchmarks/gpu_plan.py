"""The long comparison of losses (240 epochs, as the papers train), in steps of ten GPU minutes.

Each step is the same command: `cnn2gnn compare` goes on where the last step was stopped, at the
last epoch of each training. Without `--step` the plan and what is left of it are printed.

    python benchmarks/gpu_plan.py
    python benchmarks/gpu_plan.py --step             # again and again, until it says: done
    python benchmarks/gpu_plan.py --step --seconds 120 --jobs 2

Three cells at a time: on one H200, three students of conv-base took 3.0 to 3.5 s an epoch side by
side, and fourteen took 12 to 23 s each, for processes share a GPU by taking turns.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from cnn2gnn.compare import Comparison, Grid

# He et al.'s ResNet-56 teaches small CNNs of another kind: the rows that KD, DKD, DIST and KD+LS
# print for ResNet-32x4 and ShuffleNetV2, MobileNetV2 are of the same kind, not of the same teacher.
VALUES = {
    "dataset": "cifar100",
    "download": True,
    "teacher": "resnet56",
    "teacher_epochs": 240,
    "teacher_batch_size": 128,
    "epochs": 240,
    "batch_size": 128,
    "baselines": "twin",
    "stem": ["conv-base", "shufflenet-v2", "mobilenet-v2"],
    "loss": ["kd", "dkd", "dist", "kd-ls"],
    "seed": [0, 1, 2],
}
# Seconds an epoch of 45,000 images, bf16, H200 (teacher alone, three students side by side).
TEACHER_SECONDS, STUDENT_SECONDS = 6.1, 3.5


def main() -> int:
    """List the plan, or run one step of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", action="store_true", help="run one step")
    parser.add_argument("--seconds", type=int, default=600, help="of a step (default: 600)")
    parser.add_argument("--jobs", type=int, default=3, help="cells at a time (default: 3)")
    parser.add_argument("--grid", type=Path, help="a grid of your own in place of the plan's")
    options = parser.parse_args()
    grid = Grid("gpu-plan", VALUES) if options.grid is None else Grid.read(options.grid)
    comparison = Comparison(grid, Path("reports", grid.name))
    command = every_step(comparison, options.jobs)
    if options.step:
        return run(comparison, command, options.seconds)
    print(told(comparison, command, options.seconds, options.jobs))
    return 0


def every_step(comparison: Comparison, jobs: int) -> list[str]:
    """Return the command of every step; the grid is kept beside the results."""
    file = comparison.folder / f"{comparison.grid.name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    comparison.grid.save(file)
    return [sys.executable, "-m", "cnn2gnn", "compare", str(file), "--jobs", str(jobs)]


def told(comparison: Comparison, command: list[str], seconds: int, jobs: int) -> str:
    """Return the plan in words."""
    left = len(comparison.missing)
    config = comparison.cells[0].config
    teaching = config.teacher.teacher_epochs * TEACHER_SECONDS
    learning = left * config.training.epochs * STUDENT_SECONDS / jobs
    steps = -(-(teaching + learning) // seconds) if left else 0
    return (
        f"timeout {seconds} {shlex.join(command)}\n"
        f"{comparison!r}; about {steps:.0f} steps of {seconds} s on one H200, the teacher's "
        f"{teaching / 60:.0f} minutes and stage one counted"
    )


def run(comparison: Comparison, command: list[str], seconds: int) -> int:
    """Run one step; 0 if the plan is done, 3 if there is more to do, else what the command said."""
    try:
        code = subprocess.run(command, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        code = 3  # the cells ended with their parent, and will go on
    left = len(comparison.missing)
    print(f"{comparison!r}: " + ("done" if not left else "run another step"))
    return 0 if not left else code


if __name__ == "__main__":
    sys.exit(main())

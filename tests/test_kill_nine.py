"""`kill -9` in the middle of a run, in short: `kill_nine.py --kills 50` is the long form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_killed_run_ends_with_the_same_bits_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/unbreakable/kill_nine.py", "--kills", "4", "--no-report"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost: 0 of 4" in done.stdout
    assert done.stdout.count("same bits, nothing left") == 4
    assert " 1 left" in done.stdout, "no kill left a temporary file: the sweep was not tried"

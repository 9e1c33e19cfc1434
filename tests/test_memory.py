"""Memory that arrays give back and take again."""

import os
import subprocess
import sys

import pytest

from cnn2gnn.base.memory import keep_freed_memory

STEPS = """
import resource, sys
import numpy
from cnn2gnn.base.memory import keep_freed_memory

assert sys.argv[1] == "given back" or keep_freed_memory()
def step():
    return sum(each[-1] for each in [numpy.ones(7 << 19) for _ in range(8)])  # 28 MiB each
for _ in range(2):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    """Pages that the system fills with zeros in five steps of 224 MiB, 4 KiB each."""
    command, untold = [sys.executable, "-c", STEPS, way], {**os.environ}
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        untold.pop(name, None)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=untold)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_a_step_takes_the_memory_of_the_last_one() -> None:
    assert faults("kept") < faults("given back") / 10


def test_what_the_environment_says_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
    assert not keep_freed_memory()

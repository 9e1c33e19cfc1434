"""The page of benchmarks is made from what is kept, and the arithmetic of its figures is right."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_page_is_that_of_the_kept_results() -> None:
    page = module("page").page()
    assert (BENCHMARKS / "README.md").read_text(encoding="utf-8") == page
    measured = re.findall(r"^`python benchmarks/(\w+)\.py", page, re.MULTILINE)
    named = re.search(r"^BENCHMARKS := (.*)$", (BENCHMARKS.parent / "Makefile").read_text(), re.M)
    assert named is not None
    # one asks for images that may have to be fetched, and for an hour: not part of `make bench`
    assert sorted(measured) == sorted([*named[1].split(), "whole_training"])


def test_every_script_finds_what_it_imports() -> None:
    """`--help` of each, in one process: what a script imports from the next may have moved."""
    scripts = sorted(map(str, BENCHMARKS.rglob("*.py")))
    code = f"""
import os, runpy, sys
for script in {scripts}:
    sys.argv, sys.path[0] = [script, "--help"], os.path.dirname(script)
    try:
        runpy.run_path(script, run_name="__main__" if "argparse" in open(script).read() else "x")
    except SystemExit as end:
        assert not end.code, script
    except ImportError as error:  # a peer that is not installed
        assert error.name in ("torchdistill", "faiss", "entmax", "torch_geometric"), script
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ratios_are_taken_within_a_round() -> None:
    beside = module("side_by_side")
    times = {"ours": [1.0, 2.0, 4.0, 4.0], "theirs": [2.0, 6.0, 16.0, 20.0]}
    assert beside.ratios(times, "theirs", "ours") == [2, 3, 4, 5]
    assert beside.against(times, "ours", unit=0.001) == [
        ["ours", "3,000 (1,750 to 4,000)", "1 (1 to 1)"],
        ["theirs", "11,000 (5,000 to 17,000)", "3.5 (2.75 to 4.25)"],
    ]
    assert beside.spread([0.0012345]) == "0.00123"


def test_ways_take_turns() -> None:
    calls: list[str] = []
    ways = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    times = module("side_by_side").in_turns(ways, 2)
    assert calls == list("ababab")  # the first round warms up
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}


def test_torchdistill_distils_what_we_distil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loop and the plain one reach the same loss: the comparison compares the same work."""
    pytest.importorskip("torchdistill")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    code = """
import torch, distillation, peers
config = distillation.configuration("resnet20")
images = distillation.noise(128, 0)
teacher = distillation.new_teacher(config, images).eval().requires_grad_(False)
batch = next(iter(peers.loader(images)))
ours = peers.kd(peers.OnFloats(distillation.new_student(config, images)).eval()(batch[0]),
                teacher.network(batch[0]), batch[1])
box = peers.TorchDistill(distillation.new_student(config, images), teacher, images).box
box.student_model.eval()
torch.testing.assert_close(box.forward_process(*batch, {}), ours, rtol=1e-4, atol=1e-4)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=BENCHMARKS, timeout=120)

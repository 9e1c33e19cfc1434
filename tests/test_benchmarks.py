"""The page of benchmarks is made from what is kept, and the arithmetic of its figures is right."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PEERS = {"torchdistill", "entmax", "torch_geometric", "faiss"}  # may be missing


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


def test_every_script_finds_what_it_takes_from_the_others() -> None:
    """Read, not run: what one script imports from the next may have moved."""
    scripts = {path.stem: ast.parse(path.read_text()) for path in BENCHMARKS.rglob("*.py")}
    taken = [
        (name, node.module, alias.name)
        for name, tree in scripts.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    ours = [(name, module, what) for name, module, what in taken if module in scripts]
    assert ("soak", "explorer", "interactions") in ours
    for name, module, what in ours:
        assert what in _named(scripts[module]), f"{name}.py: {module} has no {what}"
    known = {*sys.stdlib_module_names, *packages_distributions(), "cnn2gnn", "surfaces", *scripts}
    assert not {module.split(".")[0] for _, module, _ in taken} - known - PEERS


def _named(tree: ast.Module) -> set[str]:
    """What a script defines, or imports itself."""
    names = {getattr(node, "name", "") for node in tree.body}
    assigned = (t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets)
    parts = (e for target in assigned for e in ast.walk(target) if isinstance(e, ast.Name))
    return names | {part.id for part in parts}


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

"""Nothing imports upwards, and a small import stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnn2gnn"
# from the ground up; what stands in one line knows only what is below it, and itself
LAYERS = [
    {"base", "registry"},
    {"config"},
    {"data"},
    {"graph"},
    {"models", "drawing"},
    {"runs"},
    {"evaluation"},
    {"distillation", "export"},
    {"explore", "report", "predictor"},
    {"classifier", "compare"},
    {"notebooks"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}


def imports() -> Iterator[tuple[str, str, str]]:
    """Every import within the package: file, its room, and the room it takes something from."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text())):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in named:
                root, *rooms = name.split(".")
                if root == "cnn2gnn" and rooms:
                    yield str(inside), inside.parts[0].removesuffix(".py"), rooms[0]


def test_nothing_imports_upwards() -> None:
    found = list(imports())
    assert len(found) > 100
    wrong = [
        f"{file} imports {there}"
        for file, here, there in found
        if here != there and RANK[there] >= RANK[here]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "absent", "seconds"),
    [
        ("cnn2gnn", {"torch", "numpy", "matplotlib", "networkx", "pandas"}, 0.3),
        ("cnn2gnn.config", {"torch", "numpy", "matplotlib", "networkx", "pandas"}, 0.3),
        ("cnn2gnn.models.student", {"matplotlib", "networkx", "pandas", "ipywidgets"}, 60),
        ("cnn2gnn.distillation.distil", {"matplotlib", "ipywidgets", "papermill"}, 60),
    ],
)
def test_an_import_brings_along_no_more_than_it_needs(
    module: str, absent: set[str], seconds: float
) -> None:
    code = f"import sys, time; s = time.process_time(); import {module}\n"
    code += f"print(time.process_time() - s, *({absent} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    took, *too_much = done.stdout.split()
    assert too_much == []
    assert float(took) < seconds

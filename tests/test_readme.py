"""The README runs as shown and lists every parameter."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from cnn2gnn.compare import Grid
from cnn2gnn.config import Config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def parameter_rows() -> list[str]:
    """One table row per parameter, in the order of the configuration."""
    return [
        f"| `{item.name}` | `{item.default!r}` | {item.metadata['help']} |"
        for group in fields(Config)
        for item in fields(type(getattr(Config(), group.name)))
    ]


EXAMPLE, PARTS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def told_by(code: str, folder: Path) -> str:
    """What Python prints when it runs `code` in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs_as_shown(tmp_path: Path) -> None:
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 10
    predicted, header, *edges = told_by(EXAMPLE, tmp_path).splitlines()
    assert (tmp_path / "runs" / "readme" / "metrics.json").exists()
    assert re.fullmatch(r"\[('\d' ?){5}\]", predicted)
    assert header.split() == ["image", "rank", "node", "label", "weight", "distance"]
    assert re.match(r"0\s+0\s+1\s", edges[0])


def test_parts_of_ones_own_run_as_shown(tmp_path: Path) -> None:
    (tmp_path / "my_parts.py").write_text(PARTS, encoding="utf-8")
    short = (
        "train_images=200, teacher_epochs=1, epochs=1, graph_epochs=1, views=1, graph_views=1, "
        "graph_batch_size=100, baselines='', precision='32-true'"
    )
    code = f"""
import my_parts
from cnn2gnn import distil, load_run
distil(dataset="digits", run="named", stem="rows", loss="regression", logger="said", {short})
stem = my_parts.Rows(1, 8)
distil(dataset="digits", run="handed", stem=stem, loss=my_parts.regression, {short})
print(load_run("named").load_student().stem_name)
print(load_run("handed", stem=stem).load_student().stem_name)
"""
    *epochs, named, handed = told_by(code, tmp_path).splitlines()
    stages = ["teacher", "student", "student-graph"]
    assert [line.split()[:3] for line in epochs] == [["named", stage, "0"] for stage in stages]
    assert (named, handed) == ("rows", "Rows")


def test_the_table_lists_every_parameter() -> None:
    listed = [line for line in README.splitlines() if re.match(r"\| `[a-z_]+` \| `", line)]
    assert listed == parameter_rows()


def test_the_measured_tables_are_those_of_the_committed_results() -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "reports" / "tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.with_tables(README) == README
    for table in tables.tables().values():
        rows = table.splitlines()[2:]
        assert len(rows) >= 4 and all(row in README for row in rows)


def test_files_it_names_exist() -> None:
    names = re.findall(r"\]\(([^)#:]+)\)", README)
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_its_comparisons_are_told_apart() -> None:
    grids = re.findall(r"cnn2gnn compare (reports/\S+\.toml)", README)
    names = {Grid.read(ROOT / grid).name for grid in grids}
    assert len(names) == len(set(grids)) >= 10


def test_papermill_is_told_where_to_write() -> None:
    """In a terminal it asks for that; in a pipe it would write to it."""
    for command in re.findall(r"^papermill (.*)$", README, re.MULTILINE):
        assert re.match(r"notebooks/\w+\.ipynb \w+\.ipynb\b", command), command

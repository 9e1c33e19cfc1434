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


def test_the_python_example_runs_as_shown(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "readme" / "metrics.json").exists()
    predicted, header, *edges = done.stdout.splitlines()
    assert re.fullmatch(r"\[('\d' ?){5}\]", predicted)
    assert header.split() == ["image", "rank", "node", "label", "weight", "distance"]
    assert re.match(r"0\s+0\s+1\s", edges[0])


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

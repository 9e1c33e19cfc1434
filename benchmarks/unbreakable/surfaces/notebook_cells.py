"""The notebooks' parameters, as papermill injects them, and the command line's options.

The first cells are executed as they stand, up to the first thing that takes long; a few cases go
through papermill itself, in a process and a kernel of their own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
from hypothesis import strategies as st
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from cnn2gnn import cli, notebooks
from cnn2gnn.base.signs import visible
from surfaces.outcomes import Kind, Told
from surfaces.parameters import FIELDS, NOT_FINITE, misspelt, of_another_type, outside

# where each notebook begins what takes long
LONG = (
    "cnn2gnn.runs.load_splits", "cnn2gnn.load_data", "cnn2gnn.report.Report.build",
    "cnn2gnn.distillation.obtain.obtain_run", "cnn2gnn.compare.Comparison.run",
    "cnn2gnn.distillation.session.Session.start",
)  # fmt: skip
# wrong values of the parameters that are a notebook's own: of another type, and out of range
OWN: dict[str, tuple[list[Any], list[Any]]] = {
    "compare": ([3, True, ["x"]], ["", "../x", "teachers", "a/b", "\x1b[2J"]),
    "runs": (["x", 3, {"a": 1}, [3], [None]], [["../x"], ["a", ""], ["teachers"]]),
    "reports_dir": ([3, None, ["x"]], []),
    "late": (["2", 1.5, None, True], [0, -1]),
    "images_per_class": ([5, "5", [1.5], ["5"], [True]], [[0], [5, -1], []]),
    "noise": ([0.1, "0.1", ["0.1"], [None]], [[0.0], [0.1, 2.0], [-0.5], []]),
    "label_shares": ([0.05, [None], {"a": 1}], [[0.0], [1.0], [5], []]),
    "seeds": ([1.0, "1", None], [0, -3]),
    "name": ([3, None], ["", "a/b", ".."]),
    "values": ([3, "k=5", [{"k": 5}]], [{"k": 0}, {"kk": 5}, {"k": []}, {"run": "x"}, {"k": "5"}]),
    "jobs": (["1", 1.5], [0, -1]),
    "speech": ([3, None], []),
    "bands": ([32.0, "32"], [3, 0, -1]),
    "texts": ([3, None], []),
    "epochs": ([8.0, "8"], [0, -1]),
    "teacher_epochs": ([8.0, "8"], [0, -1]),
}
_INJECTED = (st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))


class Reached(Exception):
    """The notebook has taken its parameters: what comes now takes long."""


@dataclass(frozen=True)
class Given:
    """What is given to a notebook."""

    notebook: str
    name: str
    value: Any


@cache
def uses(notebook: str) -> tuple[str, ...]:
    """The parameters that a notebook has."""
    return tuple(notebooks.parameters_of(notebooks.find(notebook)))


def is_own(notebook: str, name: str) -> bool:
    """Whether it declares the parameter itself."""
    return name in OWN and (name not in FIELDS or notebook.startswith("07"))


def wrong_types() -> st.SearchStrategy[Given]:
    """Each parameter of each notebook, of another type."""
    own, shared = _pairs()
    listed = [Given(n, p, value) for n, p in own for value in OWN[p][0]]
    values = st.one_of(*_INJECTED, st.sampled_from(NOT_FINITE))
    drawn = st.builds(lambda pair, value: Given(*pair, value), st.sampled_from(shared), values)
    wrong = drawn.filter(lambda given: of_another_type(given.name, given.value))
    return st.one_of(st.sampled_from(listed), wrong)


def out_of_range() -> st.SearchStrategy[Given]:
    """Each parameter of each notebook, of its type, but not allowed."""
    own, shared = _pairs()
    listed = [Given(n, p, value) for n, p in own for value in OWN[p][1]]
    return st.sampled_from(listed + [Given(n, p, v) for n, p in shared for v in outside(p)])


def misspellings() -> st.SearchStrategy[Given]:
    """Each parameter of each notebook, misspelt as a name that Python can take."""
    own, shared = _pairs()
    names = [(n, wrong) for n, p in own + shared for wrong in misspelt(p) if wrong.isidentifier()]
    return st.sampled_from([Given(n, w, 1) for n, w in names if w not in uses(n) and len(w) > 1])


def anything() -> st.SearchStrategy[Given]:
    """Each parameter of each notebook, with any value."""
    own, shared = _pairs()
    pairs = st.sampled_from(own + shared)
    return st.builds(lambda pair, value: Given(*pair, value), pairs, st.one_of(*_INJECTED))


def _pairs() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Notebooks with each of their own parameters, and with each that they share with runs."""
    names = [path.stem for path in sorted(notebooks.folder().glob("*.ipynb"))]
    pairs = [(notebook, name) for notebook in names for name in uses(notebook)]
    own = [pair for pair in pairs if is_own(*pair)]
    return own, [pair for pair in pairs if not is_own(*pair)]


@contextlib.contextmanager
def elsewhere() -> Iterator[Path]:
    """Work in an empty folder; what is refused has left nothing in it."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="notebook-") as place:
        os.chdir(place)
        try:
            yield Path(place)
        except (ValueError, OSError) as error:
            assert not [*Path(place).rglob("*")], f"left behind after {error}"
            raise
        finally:
            os.chdir(here)


def first_cells(given: Given) -> None:
    """Execute a notebook with what papermill injects, up to what takes long."""
    content = load_notebook_node(str(notebooks.find(given.notebook)))
    injected = parameterize_notebook(content, {given.name: given.value})
    namespace: dict[str, Any] = {"__name__": "__main__", "display": lambda *shown: None}
    with contextlib.ExitStack() as stack:
        stack.enter_context(elsewhere())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        for name in LONG:
            stack.enter_context(mock.patch(name, side_effect=Reached))
        stack.enter_context(contextlib.suppress(Reached))
        for cell in injected.cells:
            if cell.cell_type == "code":
                source = re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE)
                exec(compile(source, given.notebook, "exec"), namespace)
        raise AssertionError("the notebook has come to its end")


def through_papermill(given: Given) -> None:
    """Let papermill run the notebook: it fails in its first cells, and leaves its output alone."""
    with tempfile.TemporaryDirectory(prefix="papermill-") as place:
        command = [sys.executable, "-m", "papermill", str(notebooks.find(given.notebook))]
        command += ["out.ipynb", "--no-progress-bar", "-y", json.dumps({given.name: given.value})]
        environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=300
        )
        left = sorted(path.name for path in Path(place).rglob("*"))
        assert left == ["out.ipynb"], f"left behind: {left}"
        assert done.returncode != 0, "papermill says that all is well"
        cells = nbformat.read(Path(place, "out.ipynb"), as_version=4).cells
        executed = [cell for cell in cells if cell.get("execution_count")]
        errors = [o for cell in executed for o in cell.outputs if o.output_type == "error"]
        assert len(executed) <= 5 and len(errors) == 1, "not in the first cells"
        assert errors[0].ename == "ConfigError", errors[0].ename
        raise Told(errors[0].evalue)


@dataclass(frozen=True)
class Command:
    """A line of the command line."""

    words: tuple[str, ...]

    @property
    def told(self) -> list[str]:
        """What a refusal may name: a word, an option or its parameter."""
        words = [word.partition("=")[0] for word in self.words[1:]]
        plain = [word.lstrip("-").replace("-", "_") for word in words]
        told = [word for word in (*self.words[1:], *words, *plain) if word]
        told = [shown for word in told for shown in (visible(word), repr(word)[1:-1])]
        return [*told, "COMMAND", "--search", "config.json", "name=''", "runs=''"]


def commands() -> st.SearchStrategy[Command]:
    """Commands with an option of any value, misspelt options, odd names."""
    texts = st.one_of(
        st.sampled_from(["0", "-1", "x", "1e9", "nan", "", "../x", "a b", "\x1b[2J", "teachers"]),
        st.integers().map(str), st.text(st.characters(exclude_categories=("Cs",)), max_size=6),
    )  # fmt: skip
    flags = st.sampled_from(["--" + name.replace("_", "-") for name in FIELDS])
    wrong = st.sampled_from(["--" + each.replace("_", "-") for n in FIELDS for each in misspelt(n)])
    option = st.builds(lambda flag, value: f"{flag}={value}", flags | wrong, texts)
    run = st.builds(lambda *options: ("run", *options), option) | st.builds(
        lambda a, b: ("run", a, b), option, option
    )
    one = st.sampled_from(["report", "export", "card", "data", "compare", "sweep", "no such"])
    named = st.builds(lambda command, name: (command, name), one, texts)
    more = st.builds(lambda pair, option: (*pair, option), named, option)
    return st.one_of(run, run, named, more).map(Command)


def call(given: Command) -> None:
    """Call the command line; what it refuses, it refuses in one line with exit code 2."""
    said = io.StringIO()
    words = [*given.words, *(["--dry-run"] if given.words[0] == "compare" else [])]
    with contextlib.ExitStack() as stack:
        stack.enter_context(elsewhere())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.enter_context(mock.patch("cnn2gnn.cli.commands._execute", return_value=0))
        stack.enter_context(mock.patch("cnn2gnn.compare.sweep.Sweep.run", side_effect=Reached))
        stack.enter_context(contextlib.suppress(Reached))
        try:
            code = cli.main(words)
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        if code == 0:
            return
        assert code == 2, f"exit code {code}: {said.getvalue()}"
        line = said.getvalue().strip()
        assert line.startswith("cnn2gnn: ") and "\x1b" not in line, line
        raise Told(line)


def names_of(given: Given) -> tuple[str, ...]:
    """What a refusal must hold: the parameter, or the name that is none."""
    held = [*given.value] if isinstance(given.value, dict) else []
    inside = [told for name in held for told in (f"{name}=", f"parameter {name!r}", f"{name} ")]
    return (f"{given.name}=", f"{given.name}[", f"parameter {given.name!r}", *inside)


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    for name, cases, refused in (
        ("wrong type", wrong_types(), True),
        ("out of range", out_of_range(), True),
        ("misspelt", misspellings(), True),
        ("any value", anything(), False),
    ):
        yield Kind("notebooks", name, cases, first_cells, names_of, refused, share=0.5)
    wrong = st.one_of(wrong_types(), out_of_range(), misspellings())
    # what YAML takes as it stands
    plain = wrong.filter(lambda given: re.fullmatch(r"[^\\N]*", json.dumps(given.value)))
    yield Kind("notebooks", "by papermill", plain, through_papermill, names_of, True, share=0.02)
    yield Kind("command line", "any option", commands(), call, lambda given: given.told)

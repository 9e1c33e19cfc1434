"""The notebook runner, with real kernels."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image
from test_texts import texts

from cnn2gnn import notebooks
from cnn2gnn.config import Config, ConfigError, DataConfig, TeacherConfig
from cnn2gnn.runs import Run

PACKAGED = sorted(notebooks.folder().glob("*.ipynb"))

# the parameters of the configuration that each notebook uses, and those that are its own
USES = {
    "01_teacher": {
        *(field.name for group in (DataConfig, TeacherConfig) for field in fields(group)),
        *("run", "runs_dir", "device", "devices", "num_nodes", "precision", "logger"),
    },
    "02_distill": {*Config().parameters()},
    "03_explore": {"run", "runs_dir"},
    "04_report": {"run", "runs_dir"},
    "05_without_retraining": {
        *(field.name for field in fields(DataConfig)),
        *("teacher", "stem", "k", "local_scaling", "epochs", "batch_size", "learning_rate"),
        *("run", "runs_dir", "seed", "device", "precision"),
    },
    "06_compare": {"runs_dir"},
    "07_beyond_images": {"runs_dir", "seed", "device", "precision"},
}
OWN: dict[str, set[str]] = {
    "01_teacher": set(),
    "02_distill": set(),
    "03_explore": {"compare"},
    "04_report": {"runs", "reports_dir"},
    "05_without_retraining": {"late", "images_per_class", "noise", "label_shares", "seeds"},
    "06_compare": {"name", "values", "jobs", "reports_dir"},
    "07_beyond_images": {"speech", "bands", "texts", "epochs", "teacher_epochs"},
}


def write(path: Path, *sources: str, parameters: str = "epochs: int = 3  # passes") -> Path:
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [first, *map(nbformat.v4.new_code_cell, sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.parametrize(
    "source",
    [
        "from ipywidgets import Output\nwith Output():\n    1 / 0",
        "from ipywidgets import Output\nout = Output()\n@out.capture()\ndef f(): 1 / 0\nf()",
        "from ipywidgets import interact\ninteract(lambda x: 1 / 0, x=1);",
        "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()\nt.join()",
        "import logging\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('oops')",
    ],
    ids=["with-output", "captured", "interact", "thread", "logged"],
)
def test_an_error_that_did_not_stop_the_notebook_fails_the_run(tmp_path, source):
    notebook, output = write(tmp_path / "n.ipynb", source), tmp_path / "out" / "n.ipynb"
    with pytest.raises(
        notebooks.NotebookError, match="^n: hidden in .*ZeroDivisionError: division"
    ):
        notebooks.execute(notebook, output=output)
    assert output.exists()  # papermill saw nothing wrong


def test_widgets_without_errors_pass(tmp_path):
    source = "from ipywidgets import Output, interact\nwith Output():\n    print('fine')"
    notebook = write(tmp_path / "n.ipynb", source, "interact(lambda x: x, x=1);")
    assert notebooks.hidden_errors(notebooks.execute(notebook)) == []


def test_what_tagged_cells_put_out_is_for_the_console(tmp_path):
    notebook = write(tmp_path / "n.ipynb", "print('aside')", "print('table')", "{'gain': 3}")
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells[2:]:
        cell.metadata["tags"] = ["result"]
    nbformat.write(content, notebook)
    assert notebooks.results(notebooks.execute(notebook)) == ["table", "{'gain': 3}"]


def test_parameters_arrive_with_their_types_and_the_rest_keep_their_defaults(tmp_path):
    names = "epochs: int = 3\nrate: float = 0.1\nname: str = 'a'\nk: int = 5"
    check = "assert (epochs, rate, name, k) == (7, 0.25, 'b', 5), (epochs, rate, name, k)"
    notebook = write(tmp_path / "n.ipynb", check, parameters=names)
    executed = notebooks.execute(notebook, {"epochs": 7, "rate": 0.25, "name": "b"})
    assert executed.metadata.papermill.exception is None
    with pytest.raises(notebooks.NotebookError, match="AssertionError"):
        notebooks.execute(notebook, {"epochs": 8})


def test_a_misspelt_parameter_is_refused_before_anything_is_written(tmp_path):
    notebook = write(tmp_path / "n.ipynb", parameters="epochs: int = 3\nk: int = 5")
    with pytest.raises(ConfigError, match="no parameter 'epoch'; allowed are epochs, k$"):
        notebooks.execute(notebook, {"epoch": 7}, tmp_path / "out" / "n.ipynb")
    assert not (tmp_path / "out").exists()


def test_a_failing_cell_gives_one_line_and_leaves_the_traceback_in_the_output(tmp_path):
    notebook = write(tmp_path / "n.ipynb", "raise ValueError('k=9\\nis too large')")
    output = tmp_path / "out.ipynb"
    with pytest.raises(notebooks.NotebookError, match="^n: ValueError: k=9 is too large$"):
        notebooks.execute(notebook, output=output)
    assert "Traceback" in output.read_text()


def test_a_killed_kernel_is_an_error(tmp_path):
    notebook = write(
        tmp_path / "n.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    with pytest.raises(notebooks.NotebookError, match="the kernel died"):
        notebooks.execute(notebook)


def test_a_notebook_is_found_by_number_or_name():
    path = notebooks.folder() / "02_distill.ipynb"
    assert notebooks.find("02") == notebooks.find("02_distill") == path
    with pytest.raises(ConfigError, match="notebooks='2' must be one of 01_teacher, 02_distill"):
        notebooks.find("2")


@pytest.mark.parametrize(
    "student",
    [
        {"graph": "softmax", "layer": "gcn", "heads": 2},
        {"graph": "fixed", "layer": "attention"},
        {"graph": "random", "scope": "batch"},
    ],
    ids=lambda given: "-".join(map(str, given.values())),
)
def test_notebook_02_holds_for_other_students(tmp_path, student):
    """Its assertions are of what it shows; they must not be true of the default alone."""
    short = dict.fromkeys(("teacher_epochs", "epochs", "graph_epochs", "eval_repeats"), 1)
    small = {"train_images": 200, "k": 5, "stem": "conv-tiny", "baselines": "twin"}
    here = {"runs_dir": str(tmp_path), "run": "other"}
    notebooks.execute(notebooks.find("02"), {**short, **small, **here, **student})
    assert Run.open(tmp_path / "other").metrics()["student"]


def test_notebook_05_refuses_a_teacher_of_other_data_before_it_trains(tmp_path):
    texts().to_csv(tmp_path / "t.csv", index=False)
    data = {"dataset": f"text:{tmp_path}/t.csv", "stem": "ngrams", "label_shares": [0.2]}
    said = "ConfigError: teacher='resnet20' is not for text: choose text-cnn"
    with pytest.raises(notebooks.NotebookError, match=said):
        notebooks.execute(notebooks.find("05"), {**data, "runs_dir": str(tmp_path / "runs")})
    assert not (tmp_path / "runs").exists()


def test_notebook_05_leaves_out_late_classes_where_there_are_two(tmp_path):
    generator = np.random.default_rng(0)
    for level, name in ((60, "dark"), (190, "bright")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(40):
            pixels = (level + generator.integers(-40, 40, (8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    small = {"stem": "conv-tiny", "k": 3, "epochs": 1, "noise": [0.2], "label_shares": [0.3]}
    given = {"dataset": f"folder:{tmp_path / 'data'}", "runs_dir": str(tmp_path / "runs"), **small}
    executed = notebooks.execute(notebooks.find("05"), given)
    said = [
        out["text"] for cell in executed.cells for out in cell.get("outputs", ()) if "text" in out
    ]
    assert any("left out" in text and "can come late: 2 classes" in text for text in said)
    assert any("20% flipped" in text for text in said)
    assert any("are told rightly" in text for text in said)


@pytest.mark.parametrize("left_out", ["## A class that", "## A label that", "## Few labels"])
def test_the_sections_of_notebook_05_need_nothing_of_each_other(left_out):
    """With two classes the first one is left out, for none can come late."""
    section, lines = "", []
    for cell in nbformat.read(notebooks.find("05"), as_version=4).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section = cell.source
        elif cell.cell_type == "code" and not section.startswith(left_out):
            lines.append(cell.source)
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F821", "-"]
    done = subprocess.run(ruff, input="\n".join(lines), text=True, capture_output=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("notebook", PACKAGED, ids=lambda path: path.stem)
def test_papermill_understands_every_parameter_of_our_notebooks(notebook):
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(tagged) == 1
    statements = ast.parse(tagged[0].source).body
    annotated = [s.target.id for s in statements if isinstance(s, ast.AnnAssign)]
    assert len(annotated) == len(statements)
    seen = papermill.inspect_notebook(notebook)
    assert sorted(seen) == sorted(annotated)
    defaults = {name: ast.literal_eval(entry["default"]) for name, entry in seen.items()}
    shared = {n: v for n, v in Config().parameters().items() if n in USES[notebook.stem]}
    assert {n: v for n, v in defaults.items() if n not in OWN[notebook.stem]} == shared
    assert OWN[notebook.stem] <= set(defaults)


@pytest.mark.parametrize("name", ["01_teacher", "02_distill", "05_without_retraining"])
def test_a_parameters_cell_is_the_configuration_written_out(name):
    """Means and choices too. In a process of its own, where nobody has registered more choices."""
    wanted = (
        "from cnn2gnn.notebooks.parameters import parameters_cell\n"
        f"print(parameters_cell({USES[name]}))"
    )
    written = subprocess.run([sys.executable, "-c", wanted], capture_output=True, check=True)
    cells = nbformat.read(notebooks.find(name), as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
    shared, _, _ = cell.source.partition("\n\n# --- This notebook")
    assert shared == written.stdout.decode().strip()


def test_braces_in_paths_stand_for_themselves(tmp_path):
    folder = tmp_path / "{run} {0}"
    folder.mkdir()
    notebook = write(folder / "a{b.ipynb", "assert epochs == 7")
    notebooks.execute(notebook, {"epochs": 7}, folder / "{epochs}" / "out}.ipynb")
    assert (folder / "{epochs}" / "out}.ipynb").is_file()


@pytest.mark.parametrize("variable", ["JUPYTER_PATH", "JUPYTER_DATA_DIR"])
def test_the_kernel_is_this_python_whatever_kernelspec_comes_first(tmp_path, monkeypatch, variable):
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    other = {"argv": ["/no/such/python"], "display_name": "other", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(other))
    monkeypatch.setenv(variable, str(tmp_path / "jupyter"))
    check = f"import sys\nassert sys.executable == {sys.executable!r}, sys.executable"
    notebooks.execute(write(tmp_path / "n.ipynb", check))


def test_notebooks_are_handed_out_and_none_is_written_over(tmp_path):
    first = notebooks.copy(tmp_path / "mine")
    assert [path.name for path in first] == [path.name for path in PACKAGED]
    assert all(first.values())
    changed = tmp_path / "mine" / "02_distill.ipynb"
    changed.write_text("mine")
    again = notebooks.copy(tmp_path / "mine")
    assert [path for path, same in again.items() if not same] == [changed]
    assert changed.read_text() == "mine"


def reader() -> list[str]:
    """What a command is run by that may write only where permissions let it, root or not."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and nothing here takes that from it")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def test_a_run_that_is_only_read_is_explored(small_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "shared" / "small"
    shutil.copytree(small_run.folder, folder, ignore=shutil.ignore_patterns("exports"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for path in (*before, folder, folder.parent):
        path.chmod(path.stat().st_mode & ~0o222)
    code = f"""if True:
        import os
        from cnn2gnn import notebooks
        assert not os.access({str(folder)!r}, os.W_OK)
        given = {{"run": "small", "runs_dir": {str(folder.parent)!r}}}
        notebooks.execute(notebooks.find("03"), given)
    """
    (tmp_path / "mine").mkdir()
    try:
        done = subprocess.run(
            [*reader(), sys.executable, "-c", code],
            cwd=tmp_path / "mine", capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(notebooks.folder().parent)},
        )  # fmt: skip
    finally:  # so that pytest can clear it away
        for path in (folder.parent, folder, *before):
            path.chmod(path.stat().st_mode | 0o200)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    written = {path.name for path in (tmp_path / "mine" / "exports").iterdir()}
    assert written == {"mistakes.csv", "mistakes.graphml"}

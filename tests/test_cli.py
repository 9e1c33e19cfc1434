"""The command line, driving real kernels on small notebooks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_notebooks_runner import write

import cnn2gnn
from cnn2gnn import cli
from cnn2gnn.base.files import read_json
from cnn2gnn.config import Config
from cnn2gnn.runs import Run

PARAMETERS = "dataset: str = 'digits'\nrun: str = 'demo'\nk: int = 20\ndownload: bool = False"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder, and a folder of notebooks for the command to find."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr("cnn2gnn.notebooks.runner.folder", lambda: tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())  # `--import` looks in the current folder
    return tmp_path


@pytest.fixture
def own(workplace, small_run, registries):
    """A run whose loss a module registers, beside the module: its name."""
    module = "losses_of_a_user"
    source = "from cnn2gnn.registry import DATASETS, LOSSES\n"
    source += "LOSSES.register('mine', LOSSES['kd'])\n"
    source += "DATASETS.register('my-digits', 'cnn2gnn.data.bundled:digits_source')\n"
    (workplace / f"{module}.py").write_text(source)
    folder = workplace / "runs" / "a"
    shutil.copytree(small_run.folder, folder)
    for name, changes in {
        "config.json": {"parameters": {"loss": "mine"}},
        "metrics.json": {},
    }.items():
        content = read_json(folder / name)
        for group, values in changes.items():
            content[group] |= values
        (folder / name).write_text(json.dumps(content | {"files": {}, "made_from": {}}))
    yield module
    sys.modules.pop(module, None)


def errors(capsys) -> str:
    """The one line on standard error."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("cnn2gnn: "), text
    return text


def test_every_parameter_of_the_configuration_is_a_documented_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["run", "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    for name in Config().parameters():
        assert f"--{name.replace('_', '-')} " in text or f"--{name.replace('_', '-')}," in text
    assert "examples:" in text


def test_run_gives_each_notebook_its_parameters_typed_and_writes_it_to_the_reports(
    workplace, capsys
):
    check = "assert (dataset, run, k, download) == ('digits', 'mine', 5, True)"
    write(workplace / "notebooks" / "01_a.ipynb", check, parameters=PARAMETERS)
    write(
        workplace / "notebooks" / "02_b.ipynb",
        "assert run == 'mine'",
        parameters="# which\nrun: str = ''",
    )
    arguments = "run --dataset digits --run mine --k 5 --download --notebooks 01,02_b".split()
    assert cli.main(arguments) == 0
    assert sorted(p.name for p in (workplace / "reports/mine").iterdir()) == [
        "01_a.ipynb",
        "02_b.ipynb",
    ]
    assert "reports/mine" in capsys.readouterr().out


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"cnn2gnn {cnn2gnn.__version__}\n"


@pytest.mark.parametrize(
    ("graph", "expected"), [("adaptive", ["01", "02", "03", "04"]), ("none", ["01", "02", "04"])]
)
def test_without_a_graph_nothing_is_explored(workplace, graph, expected):
    for name in ("01", "02", "03", "04"):
        names = PARAMETERS + "\ngraph: str = 'adaptive'"
        write(workplace / "notebooks" / f"{name}_a.ipynb", parameters=names)
    assert cli.main(["run", "--graph", graph]) == 0
    assert sorted(p.name[:2] for p in (workplace / "reports/demo").iterdir()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --epoch 3", "unknown parameter 'epoch': did you mean 'epochs'?"),
        ("run --epochs many", "argument --epochs: invalid int value: 'many'"),
        ("run --epochs 0", "epochs=0 must be at least 1"),
        ("run --graph knn", "graph='knn' must be one of adaptive, none"),
        ("run --notebooks 09", "notebooks='09' must be one of 01_a"),
        ("run --epochs 3 --notebooks 01", "no notebook of 01_a has 'epochs'"),
        ("data", "the following arguments are required: NAME"),
        ("data digits --epochs 3", "unknown argument --epochs"),
        ("data digits --validation 0.9", "validation=0.9 must be from 0.01 to 0.5"),
        ("data folder:none --out sheet.xyz", "out='sheet.xyz' must end in one of ."),
        ("data folder:none --out sheet", "out='sheet' must end in one of ."),
        ("data digits --out not/there.png", "out='not/there.png': there is no folder 'not'"),
        ("compare c --runs-dir a b --k 5", "runs_dir=a b must be one folder"),
        ("data folder:none", "none"),
        ("data digits --import=", "import='' must name a module"),
        ("data digits --import .mine", "import='.mine' must name a module"),
        ("run --import not_there", "import='not_there': No module named 'not_there'"),
        ("report nothing", "no run in runs/nothing"),
        ("report a b a", "runs=['a', 'b', 'a'] must name each run only once"),
        ("run --hidden 1", "hidden=1 must be at least 8"),
        ("report", "the following arguments are required: RUN"),
        ("plot", "invalid choice: 'plot'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(workplace, capsys, arguments, message):
    write(workplace / "notebooks" / "01_a.ipynb", parameters=PARAMETERS)
    try:
        code = cli.main(arguments.split())
    except SystemExit as stopped:  # argparse's own errors
        code = stopped.code
    assert code == 2
    assert message in errors(capsys)
    assert [path.name for path in workplace.iterdir()] == ["notebooks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--heads 2 --graph random", "heads=2 needs a graph that goes by distances between keys"),
        ("--teacher text-cnn", "teacher='text-cnn' is not for image: choose"),
        ("--train-images 30 --k 29", "k=29 needs at least k + 2 = 31 nodes"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_teacher_is_trained(
    workplace, capsys, arguments, message
):
    names = "".join(f"\n{name} = None" for name in ("heads", "graph", "teacher", "train_images"))
    write(workplace / "notebooks" / "01_a.ipynb", parameters=PARAMETERS + names)
    assert cli.main(["run", *arguments.split(), "--notebooks", "01"]) == 2
    assert message in errors(capsys)
    assert [path.name for path in workplace.iterdir()] == ["notebooks"]


def test_the_teacher_is_given_to_each_notebook_that_trains_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teachers = {}

    def execute(path, given, *_, **__):
        teachers[path.stem[:2]] = given["teacher"]
        return SimpleNamespace(cells=[])

    monkeypatch.setattr("cnn2gnn.notebooks.execute", execute)
    assert cli.main(["run", "--teacher", "resnet56", "--notebooks", "01,02,05"]) == 0
    assert teachers == dict.fromkeys(("01", "02", "05"), "resnet56")


def test_report_gives_its_runs_to_notebook_04(workplace, monkeypatch):
    opened = []
    finished = SimpleNamespace(metrics=lambda: {})
    monkeypatch.setattr(Run, "open", lambda folder: opened.append(str(folder)) or finished)
    check = "assert (runs, runs_dir) == (['a', 'b'], 'results')"
    names = "runs: list = None\nruns_dir: str = 'runs'"
    write(workplace / "notebooks" / "04_report.ipynb", check, parameters=names)
    assert cli.main(["report", "a", "b", "--runs-dir", "results"]) == 0
    assert (workplace / "reports/a-b/04_report.ipynb").exists()
    assert opened == ["results/a", "results/b"]


def test_a_damaged_run_is_one_line_too(workplace, capsys):
    (workplace / "runs" / "a").mkdir(parents=True)
    (workplace / "runs" / "a" / "config.json").write_text("{")
    assert cli.main(["report", "a"]) == 2
    assert "runs/a/config.json is damaged" in errors(capsys)


def test_damaged_results_are_one_line_too(workplace, capsys, small_run):
    shutil.copytree(small_run.folder, workplace / "runs" / "a")
    (workplace / "runs" / "a" / "metrics.json").write_text("{")
    for command in ("report", "card", "export"):
        assert cli.main([command, "a"]) == 2
        assert "a/metrics.json is damaged" in errors(capsys)


def test_damaged_data_are_one_line_too(workplace, capsys):
    (workplace / "t.csv").write_text("text,text,label\na,b,c\n")
    assert cli.main(["data", "text:t.csv"]) == 2
    assert "t.csv has 2 columns 'text'" in errors(capsys)


@pytest.mark.parametrize("command", ["report a", "card a", "export a", "data my-digits"])
def test_things_of_ones_own_are_imported_by_every_command(workplace, capsys, own, command):
    check = "from cnn2gnn.runs import Run\nassert Run.open('runs/a').config.training.loss == 'mine'"
    names = "runs: list = None\nruns_dir: str = 'runs'"
    write(workplace / "notebooks" / "04_report.ipynb", check, parameters=names)
    assert cli.main(command.split()) == 2
    assert "mine" in errors(capsys) or command.startswith("data")
    assert cli.main([*command.split(), "--import", own]) == 0


def test_the_kernels_of_a_run_import_them_too(workplace, own):
    check = "from cnn2gnn.registry import LOSSES\nassert loss in LOSSES"
    names = "loss: str = 'kd'\nrun: str = 'demo'"
    source = write(workplace / "notebooks" / "01_a.ipynb", check, parameters=names)
    before = source.read_bytes()
    asked = ["run", "--notebooks", "01", "--loss", "mine"]
    assert cli.main([*asked, "--import", own]) == 0
    shown = nbformat.read(workplace / "reports/demo/01_a.ipynb", as_version=4).cells[0].source
    assert f"import_modules(['{own}'])" in shown and source.read_bytes() == before


def test_a_failing_notebook_stops_the_run_and_says_where_to_look(workplace, capsys):
    write(workplace / "notebooks" / "01_a.ipynb", "raise ValueError('no such folder')")
    write(workplace / "notebooks" / "02_b.ipynb", parameters=PARAMETERS)
    assert cli.main(["run", "--notebooks", "01,02"]) == 1
    said = errors(capsys)
    assert "01_a: ValueError: no such folder (all of it: reports/demo/01_a.ipynb)" in said
    assert not (workplace / "reports/demo/02_b.ipynb").exists()


def test_input_that_only_the_notebook_can_judge_is_bad_input_too(workplace, capsys):
    cell = "from cnn2gnn.data import load\nload('digit')"
    write(workplace / "notebooks" / "01_a.ipynb", cell, parameters=PARAMETERS)
    assert cli.main(["run", "--notebooks", "01"]) == 2
    assert "01_a: DataError: unknown data set 'digit': did you mean 'digits'?" in errors(capsys)


def test_ctrl_c_ends_the_kernel_and_says_how_to_go_on(workplace):
    cell = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
    write(workplace / "notebooks" / "01_a.ipynb", cell, parameters=PARAMETERS)
    code = (
        "import pathlib, signal, sys\n"
        "from cnn2gnn import cli\nfrom cnn2gnn.notebooks import runner\n"
        # whoever starts the tests in the background has them ignore it
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runner.folder = lambda: pathlib.Path('notebooks');"
        "sys.exit(cli.main(['run', '--notebooks', '01']))"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        pid = workplace / "pid"
        while not (pid.exists() and pid.read_text()):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "cnn2gnn: interrupted; started again, the run continues at its last checkpoint\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_results_of_the_run_are_printed_and_sorted_is_called_an_audit(workplace, capsys):
    accuracy = {
        "no_graph": 0.91,
        "batch": {"mean": 0.92, "std": 0.0, "repeats": 5, "batch_size": 500},
        "inductive": 0.94,
        "sorted": 0.97,
    }
    student = {"parameters": 100_000, "bank_megabytes": 1.0, "accuracy": accuracy}
    teacher = {"parameters": 270_000, "accuracy": 0.95}
    metrics = {"images": {"test": 10_000}, "teacher": teacher, "student": student}
    (workplace / "runs" / "demo").mkdir(parents=True)
    path = workplace / "runs" / "demo" / "metrics.json"
    path.write_text(json.dumps({**metrics, "baselines": {}}))
    write(workplace / "notebooks" / "01_a.ipynb", parameters=PARAMETERS)
    assert cli.main(["run", "--notebooks", "01"]) == 0
    said = capsys.readouterr().out
    assert "94.00" in said and "sorted is an audit" in said
    assert said.endswith("run:    runs/demo\nreport: reports/demo\n")


def test_data_counts_every_class_and_draws_a_sheet(workplace, capsys):
    assert cli.main(["data", "digits", "--out", "digits.png"]) == 0
    said = capsys.readouterr().out
    assert "digits: 10 classes, 1x8x8" in said
    counts = [int(word) for word in said.split("all")[1].split()[:3]]
    assert sum(counts) == 1797
    assert (workplace / "digits.png").read_bytes().startswith(b"\x89PNG")


def test_data_says_once_what_is_left_out(workplace):
    for name in "ab":
        (workplace / "pets" / name).mkdir(parents=True)
        for at in range(8):
            Image.new("L", (4, 4), at).save(workplace / "pets" / name / f"{at}.png")
    (workplace / "pets" / "notes.txt").write_text("pets")
    command = [sys.executable, "-m", "cnn2gnn", "data", "folder:pets"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "\nleft out: files of unknown suffix 1 (notes.txt)\n" in done.stdout
    assert "left out" not in done.stderr


def test_data_names_what_it_does_not_know(workplace, capsys):
    assert cli.main(["data", "digit"]) == 2
    assert "digit" in errors(capsys)


def test_a_folder_that_is_no_utf8_is_listed(tmp_path, capsys):
    for name in (b"caf\xe9", b"all"):
        folder = os.path.join(os.fsencode(tmp_path), b"photos", name)
        os.makedirs(folder)
        for index in range(20):
            pixels = np.full((8, 8), 10 * index, np.uint8)
            Image.fromarray(pixels).save(Path(os.fsdecode(folder)) / f"{index}.png")
    out = tmp_path / "sheet.png"
    assert cli.main(["data", f"folder:{tmp_path / 'photos'}", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert r"caf\xe9" in shown
    assert len([line for line in shown.splitlines() if line.startswith("all ")]) == 2
    assert out.is_file()

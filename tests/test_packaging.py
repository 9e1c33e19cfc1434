"""One list of dependencies, and nothing that contradicts it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import cnn2gnn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings along there

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {  # a group may take in another one: cnn2gnn[sweep]
    group: [r for r in map(Requirement, texts) if r.name != PROJECT["name"]]
    for group, texts in PROJECT["optional-dependencies"].items()
}
TEST = EXTRAS.pop("test")
OPTIONAL = [requirement for group in EXTRAS.values() for requirement in group]


def imported(folder: Path) -> set[str]:
    """The top-level modules that the files of a folder import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    own = {"cnn2gnn", *(path.stem for path in folder.rglob("*.py"))}
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - own


def declared(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


@pytest.mark.parametrize("requirement", RUNTIME + OPTIONAL + TEST, ids=lambda r: r.name)
def test_every_dependency_has_a_lower_bound_that_this_environment_meets(requirement):
    assert [specifier.operator for specifier in requirement.specifier] == [">="]
    assert requirement.specifier.contains(version(requirement.name), prereleases=True)


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("cnn2gnn", declared(RUNTIME + OPTIONAL) | {"torch-geometric"}),
        ("tests", declared(RUNTIME + OPTIONAL + TEST)),
    ],
)
def test_what_is_imported_is_declared(folder, allowed):
    # SparseGraph.pyg() needs PyTorch Geometric only for those who have it.
    known = packages_distributions()
    # Parts of what is declared: of matplotlib, jinja2, papermill, pytest, jupyterlab, onnxscript.
    alongside = {"cycler", "markupsafe", "yaml", "tomli", "tomllib", "packaging"}
    alongside |= {"traitlets", "IPython", "ipykernel", "jupyter_client", "jupyter_server", "zmq"}
    alongside |= {"mistune", "onnx_ir"}
    alongside |= {"fuzz", "surfaces"}  # of benchmarks/unbreakable, on pytest's path
    missing = {
        name
        for name in imported(ROOT / folder) - alongside
        if not {canonicalize_name(d) for d in known.get(name, [name])} & allowed
    }
    assert not missing


def test_conda_gives_the_python_and_pip_the_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    python = next(Requirement(text) for text in conda if text.startswith("python"))
    assert python.specifier == SpecifierSet(PROJECT["requires-python"])
    assert [Requirement(text).name for text in conda] == ["python", "pip"]
    assert pip == {"pip": ["-e .[test]"]}
    assert environment["name"] == PROJECT["name"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make dist` builds: the wheel from the sdist, so that the sdist lacks nothing."""
    folder = tmp_path_factory.mktemp("dist")
    recipe = make(ROOT, "--dry-run", "dist").splitlines()[-1].split()
    command = [sys.executable, *recipe[1:], "--outdir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=250)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (built,) = dist.glob("*.whl")
    return built


def test_a_release_has_one_version_everywhere(dist, wheel):
    said = cnn2gnn.__version__
    assert {path.name for path in dist.iterdir()} == {wheel.name, f"cnn2gnn-{said}.tar.gz"}
    assert wheel.name == f"cnn2gnn-{said}-py3-none-any.whl"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (said, PROJECT["license"])
    newest, *released = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest == "Unreleased" and released[:1] in ([], [said])


def test_the_sdist_has_what_a_packager_needs(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {Path(name).relative_to(archive.name.removesuffix(".tar.gz")).as_posix()
                 for name in file.getnames()}  # fmt: skip
    wanted = {"pyproject.toml", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"}
    assert wanted <= names and not any(name.startswith(("runs/", "reports/")) for name in names)
    assert {f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")} <= names


def test_the_wheel_carries_the_notebooks_and_the_type_marker(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in names if name.startswith("cnn2gnn/notebooks/shipped/")}
    lying = {f"cnn2gnn/notebooks/shipped/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert packed == lying != set()
    assert "cnn2gnn/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"cnn2gnn"}


@pytest.mark.timeout(600)
def test_an_installed_wheel_works_far_from_any_checkout(wheel, tmp_path):
    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "JUPYTER_CONFIG_DIR": str(tmp_path)}

    def python(*arguments: object) -> str:
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel)
    where = "import cnn2gnn.notebooks as n; print(cnn2gnn.__version__, n.__file__, n.folder())"
    said, module, folder = python("-c", f"import cnn2gnn; {where}").split()
    assert wheel.name.startswith(f"cnn2gnn-{said}-")
    room = site / "cnn2gnn" / "notebooks"
    assert (Path(module), Path(folder)) == (room / "__init__.py", room / "shipped")

    usage = python("-m", "cnn2gnn", "--help")
    commands = re.findall(r"^    (\w+)", usage, re.MULTILINE)
    assert {"run", "notebooks", "lab"} <= {*commands}
    python("-m", "cnn2gnn", "notebooks", "mine")
    written, ours = ({p.name: p.read_bytes() for p in place.glob("*.ipynb")}
                     for place in (away / "mine", ROOT / "notebooks"))  # fmt: skip
    assert written == ours
    lengths = "--epochs 1 --graph-epochs 1 --teacher-epochs 1 --views 1 --train-images 300"
    small = ("--baselines=", "--stem=conv-tiny", *lengths.split())
    python("-m", "cnn2gnn", "run", "--run", "away", "--notebooks", "02", *small)
    made = json.loads((away / "runs" / "away" / "config.json").read_text())
    assert made["stages"]["evaluation"]["git_commit"] is None  # not this checkout: the wheel
    assert (away / "runs" / "away" / "metrics.json").exists()
    # the server would go on until it is stopped: it is asked for its version alone
    *paths, lab = python("-m", "cnn2gnn", "lab", "theirs", "--version").split()
    assert paths == [f"theirs/{name}" for name in sorted(ours)] and lab == version("jupyterlab")


def make(folder: Path, *arguments: str) -> str:
    """What make prints, as if this were not itself inside a `make test`."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=outside, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_make_help_lists_every_target():
    targets = [line.split()[1] for line in make(ROOT).splitlines()]
    assert targets == ["help", "demo", "test", "lab", "bench", "dist", "clean"]


def test_a_second_make_installs_nothing_unless_the_dependencies_changed(tmp_path):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    assert "pip install" in make(tmp_path, "--dry-run", "demo")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for stamp in ("bin/python", ".installed"):
        (tmp_path / ".venv" / stamp).touch()
    again = make(tmp_path, "--dry-run", "demo")
    assert "pip install" not in again
    assert again.splitlines()[-1].startswith(".venv/bin/cnn2gnn run --dataset digits --run demo")
    later = time.time() + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    assert "pip install" in make(tmp_path, "--dry-run", "demo")

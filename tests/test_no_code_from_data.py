"""The package runs no code that comes with data: no pickle, no `eval`, nothing unpacked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cnn2gnn"
# what runs code that a file holds, or writes where a file says
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "tarfile", "xmlrpc", "runpy"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    *("os.system", "os.popen", "joblib.load", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "torch.jit.load", "pickle.load"),
    *("pandas.eval", "pd.eval"),
}


def violations(source: str) -> Iterator[str]:
    """What in a file's source would run, or unpack, what data say."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (f"imports {name}" for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            yield from _called(node)


def _called(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in CALLS or name in METHODS or name.endswith((".extractall", ".read_pickle")):
        yield f"calls {name}"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle") != "False":
        yield f"calls {name} without allow_pickle=False"
    if name == "torch.load" and given.get("weights_only") != "True":
        yield "calls torch.load without weights_only=True"
    if given.get("shell", "False") != "False":
        yield f"gives {name} to a shell"


def test_the_package_runs_no_code_from_data() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    found = [
        f"{path.relative_to(PACKAGE)} {what}"
        for path in files
        for what in violations(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from tarfile import open",
        "eval(text)",
        "torch.load(path)",
        "np.load(path)",
        "archive.extractall(folder)",
        "subprocess.run(line, shell=True)",
        "yaml.load(text)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    assert len(list(violations(source))) == 1


def test_a_model_may_be_put_into_evaluation_mode() -> None:
    assert not list(violations("model.eval(); torch.load(path, weights_only=True)"))

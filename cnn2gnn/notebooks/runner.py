"""Run the project's notebooks by papermill, and let no error in them pass unseen.

papermill alone only warns of a parameter that the notebook does not have, and does not look at the
errors that ipywidgets catches: `with Output():`, `@output.capture()` and `interact` print them into
a widget and go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from cnn2gnn.config import ConfigError
from cnn2gnn.notebooks.kernel import OwnKernelManager

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
TRACEBACK = "Traceback (most recent call last)"
ANSI_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(RuntimeError):
    """A notebook failed: in a cell, or in an error that a widget had hidden.

    Attributes:
        bad_input: a parameter or the data was refused; the notebook itself is not at fault.
    """

    def __init__(self, message: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.bad_input = bad_input


def folder() -> Path:
    """Where the notebooks lie: beside the package in a checkout, inside it in a wheel."""
    room = Path(__file__).parent
    inside = room / "shipped"
    return inside if inside.is_dir() else room.parents[1] / "notebooks"


def find(name: str) -> Path:
    """Return the notebook called `name`, by its number or its name: `02` or `02_distill`.

    Raises:
        ConfigError: none, or more than one, is called so.
    """
    known = {path.stem: path for path in sorted(folder().glob("*.ipynb"))}
    found = [stem for stem in known if name in (stem, stem.split("_")[0])]
    if len(found) != 1:
        raise ConfigError(f"notebooks={name!r} must be one of {', '.join(known)} or its number")
    return known[found[0]]


def parameters_of(notebook: Path) -> dict[str, str]:
    """Return what a notebook's `parameters` cell assigns: names, and defaults as source text."""
    found = papermill.inspect_notebook(_literal(notebook))
    return {name: entry["default"] for name, entry in found.items()}


def copy(target: Path) -> dict[Path, bool]:
    """Write the notebooks into a folder; what lies there already is never written over.

    Returns:
        For each notebook its path in the folder, and whether it is now this version's.
    """
    target.mkdir(parents=True, exist_ok=True)
    same = {}
    for source in sorted(folder().glob("*.ipynb")):
        path, content = target / source.name, source.read_bytes()
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            pass
        same[path] = path.read_bytes() == content
    return same


def execute(
    notebook: Path,
    given: Mapping[str, Any] | None = None,
    output: Path | None = None,
    *,
    modules: Sequence[str] = (),
    progress: bool = False,
) -> NotebookNode:
    """Run a notebook in a kernel of this Python, in the current folder.

    Args:
        notebook: the `.ipynb` file; it is not changed.
        given: values for names of its `parameters` cell; the others keep their defaults.
        output: where the executed notebook is written, also when it fails. None: nowhere.
        modules: what the kernel imports first, in a cell that the executed notebook shows.
        progress: show a bar of cells on standard error.

    Raises:
        ConfigError: a given name is not in the parameters cell. No kernel is started.
        NotebookError: a cell failed, a widget hid an error, or the kernel died.
    """
    given, allowed = dict(given or {}), parameters_of(notebook)
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise ConfigError(
            f"notebook {notebook.stem} has no parameter {', '.join(map(repr, unknown))}; "
            f"allowed are {', '.join(allowed)}"
        )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _importing(notebook, modules) as path:
            executed = papermill.execute_notebook(
                _literal(path),
                None if output is None else _literal(output),
                parameters=given,
                kernel_name=NATIVE_KERNEL_NAME,
                kernel_manager_class=OwnKernelManager,
                progress_bar={"desc": notebook.stem} if progress else False,
                # The kernel's log would go to our standard error; failures come back as outputs.
                extra_arguments=["--log-level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        message = f"{notebook.stem}: {_one_line(error.ename, error.evalue)}"
        bad_input = error.ename in ("ConfigError", "DataError")
        raise NotebookError(message, bad_input=bad_input) from error
    except DeadKernelError as error:
        raise NotebookError(f"{notebook.stem}: the kernel died, perhaps out of memory") from error
    hidden = hidden_errors(executed)
    if hidden:
        more = f" (and {len(hidden) - 1} more)" if len(hidden) > 1 else ""
        raise NotebookError(f"{notebook.stem}: hidden in an output: {hidden[0]}{more}")
    return executed


def results(executed: NotebookNode) -> list[str]:
    """Return what the cells tagged `result` put out, as text, for readers of the console."""
    cells = [cell for cell in executed.cells if "result" in cell.metadata.get("tags", ())]
    outputs = [output for cell in cells for output in cell.outputs]
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return [text.rstrip() for text in texts if text]


@contextmanager
def _importing(notebook: Path, modules: Sequence[str]) -> Iterator[Path]:
    """Yield a notebook that imports modules in a cell before its first one: a copy, if it must."""
    if not modules:
        yield notebook
        return
    content = nbformat.read(notebook, as_version=4)
    source = (
        "from cnn2gnn.base.modules import import_modules\n\n"
        f"import_modules({list(modules)!r})  # of your own, named by --import"
    )
    content.cells.insert(0, nbformat.v4.new_code_cell(source))
    with TemporaryDirectory() as folder:
        copied = Path(folder, notebook.name)
        nbformat.write(content, copied)
        yield copied


def _literal(path: Path) -> str:
    """The path for papermill, which formats the ones it is given: braces stand for themselves."""
    return str(path).replace("{", "{{").replace("}", "}}")


def hidden_errors(executed: NotebookNode) -> list[str]:
    """Return the errors of an executed notebook that did not stop it, one line each.

    Looked at are the outputs of cells and of `Output` widgets: errors, and tracebacks on standard
    error, where threads and loggers leave theirs.
    """
    return [text for output in _outputs(executed) for text in _errors(output)]


def _outputs(executed: NotebookNode) -> Iterator[Mapping[str, Any]]:
    for cell in executed.cells:
        yield from cell.get("outputs", ())
    widgets = executed.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for model in widgets.values():
        if model["model_name"] == "OutputModel":
            yield from model["state"].get("outputs", ())


def _errors(output: Mapping[str, Any]) -> Iterator[str]:
    if output["output_type"] == "error":
        yield _one_line(output["ename"], output["evalue"])
    elif output["output_type"] == "stream" and output["name"] == "stderr":
        if TRACEBACK in output["text"]:
            yield ANSI_COLOURS.sub("", output["text"]).strip().splitlines()[-1]


def _one_line(name: str, message: str) -> str:
    return f"{name}: {' '.join(ANSI_COLOURS.sub('', message).split())}"

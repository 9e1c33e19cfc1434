"""The source of a function as a notebook shows it: the very lines that run."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown


Shown = Callable[..., Any] | property | cached_property[Any]


def show_source(*functions: Shown) -> Markdown:
    """The source of functions, methods and properties, and where each stands, in colour.

    Raises:
        OSError: the source of one is not to be had.
    """
    from IPython.display import Markdown  # as slow to import as what it is shown in

    blocks = [f"# {place_of(f)}\n{source_of(f)}" for f in functions]
    return Markdown("\n\n".join(f"```python\n{block}\n```" for block in blocks))


def place_of(function: Shown) -> str:
    """Where a function stands: its file within the package, and its name there."""
    plain = _plain(function)
    return f"{plain.__module__.replace('.', '/')}.py, {plain.__qualname__}"


def source_of(function: Shown) -> str:
    """The source of a function without indentation, decorators and docstring.

    Raises:
        OSError: it is not to be had, as of what is written in C.
    """
    function = _plain(function)
    source = textwrap.dedent(inspect.getsource(function))
    lines, (node,) = source.splitlines(), ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    first, docstring = node.body[0], ast.get_docstring(node)
    if docstring is not None:
        assert first.end_lineno is not None
        del lines[first.lineno - 1 : first.end_lineno]
    return "\n".join(lines[node.lineno - 1 :]).rstrip()


def _plain(function: Shown) -> Callable[..., Any]:
    """The function behind a property."""
    if isinstance(function, cached_property):
        return function.func
    if isinstance(function, property):
        assert function.fget is not None
        return function.fget
    return function

"""What a cell has shown is closed when the cell runs again: else each run would add to the memory.

A front end that runs a cell again throws away what it shows, but the kernel keeps every widget, and
IPython's `Out` every result, until it ends.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from functools import cache
from typing import Protocol

from anywidget._file_contents import FileContents
from IPython import get_ipython
from ipywidgets import Widget

_SCRIPTS = ("_esm", "_css")  # of anywidget
# cell → the message that ran it, and what it has shown
_SHOWN: dict[str, tuple[str, list[Closable]]] = {}


class Closable(Protocol):
    """What can be closed, once nobody sees it any more."""

    def close(self) -> None:
        """Let go of widgets and data."""


def shown_here(thing: Closable) -> None:
    """Remember that the running cell shows `thing`; close what its earlier run has shown.

    A front end that does not number its cells (JupyterLab, Notebook 7 and VS Code do) is left as it
    is.
    """
    shell = get_ipython()
    parent = shell.get_parent() if shell is not None and hasattr(shell, "get_parent") else {}
    cell, message = parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id")
    if cell is None:
        return
    before, things = _SHOWN.get(cell, (message, []))
    if before != message:
        for old in things:
            old.close()
        things = []
    _SHOWN[cell] = (message, [*things, thing])


def close_widgets(root: Widget) -> None:
    """Close a widget and all that lies in it, layouts and styles too.

    anywidget would reload a script that its developer changes, and for that keeps every widget of a
    class, with all its data, as long as the class: nobody changes scripts here.
    """
    for widget in [*_inside(root, set())]:
        widget.close()
        scripts = (vars(kind).get(name) for kind in type(widget).__mro__ for name in _SCRIPTS)
        for script in scripts:
            if isinstance(script, FileContents):
                script.changed.disconnect()


def _inside(widget: Widget, seen: set[int]) -> Iterator[Widget]:
    if id(widget) in seen:
        return
    seen.add(id(widget))
    for value in widget.trait_values().values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, Widget):
                yield from _inside(part, seen)
    yield widget


def freeze() -> None:
    """Keep the collector away from what is there: modules and widgets, which are in use.

    A full collection that walks through them all would halt some click for half a second. What was
    closed since the last call is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    _unfreeze_at_exit()


@cache
def _unfreeze_at_exit() -> None:
    """At the end everything is cleared away as ever."""
    atexit.register(gc.unfreeze)

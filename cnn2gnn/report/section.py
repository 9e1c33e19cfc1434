"""The pieces of a report: exhibits under headings, each with the files that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from cnn2gnn.report.results import Results

NODES_FILE = "nodes.safetensors"
BANK_FILE = "bank.safetensors"
STUDENT_FILE = "student.safetensors"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table.

    Attributes:
        name: of its files; caption: what it shows; source: the files that its numbers are from.
        content: the figure, or the table as people read it.
        numbers: of a table, unrounded, one row a measurement; None: `content` itself.
    """

    name: str
    caption: str
    source: str
    content: Figure | pd.DataFrame
    numbers: pd.DataFrame | None = None


@dataclass(frozen=True)
class Section:
    """Exhibits under one heading; shows itself in a notebook."""

    title: str
    text: str
    exhibits: tuple[Exhibit, ...]

    def _repr_html_(self) -> str:
        from cnn2gnn.report.page import render_section

        return render_section(self)


def sources(results: Sequence[Results], *files: str) -> str:
    """Name the same files of several runs."""
    return "; ".join(result.source(*files) for result in results)

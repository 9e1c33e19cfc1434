"""The pieces of a report: exhibits under headings, each with the files that it was made from."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from cnn2gnn.drawing.style import drawn
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

    @property
    def is_figure(self) -> bool:
        """Whether this is a figure, not a table."""
        return isinstance(self.content, Figure)

    @property
    def table(self) -> pd.DataFrame:
        """The table as people read it; the index is its first column, under a heading as well."""
        assert isinstance(self.content, pd.DataFrame)
        index = self.content.index.name or "model"
        return self.content.rename_axis(columns=None, index=index).reset_index()

    @property
    def every_number(self) -> pd.DataFrame:
        """Of a table, what it was made from: one row a measurement."""
        return self.table if self.numbers is None else self.numbers

    @property
    def data_uri(self) -> str:
        """The figure as an address that needs no file."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"

    @cached_property
    def svg(self) -> bytes:
        """The figure, drawn once for file, page and notebook."""
        assert isinstance(self.content, Figure)
        return drawn(self.content, "svg")


@dataclass(frozen=True)
class Section:
    """Exhibits under one heading."""

    title: str
    text: str
    exhibits: tuple[Exhibit, ...]


def sources(results: Sequence[Results], *files: str) -> str:
    """Name the same files of several runs, as a shell would: `runs/{a,b}/metrics.json`."""
    folders = {result.run.folder.parent.name for result in results}
    if len(results) == 1 or len(folders) > 1:
        return "; ".join(result.source(*files) for result in results)
    (folder,) = folders
    names = ",".join(result.name for result in results)
    return ", ".join(f"{folder}/{{{names}}}/{file}" for file in files)

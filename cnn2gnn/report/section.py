"""The pieces of a report: exhibits under headings, each with the files that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from cnn2gnn.report.results import Results
from cnn2gnn.report.style import drawn

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

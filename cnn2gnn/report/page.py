"""One page without any file beside it, and the files of its figures and tables."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cnn2gnn.files import replacing
from cnn2gnn.report.section import Exhibit, Section
from cnn2gnn.report.style import drawn

FORMATS = ("png", "svg", "pdf")
_FITTED = (
    r"\centering\footnotesize\setlength{\tabcolsep}{3pt}"
    r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
)


def write_figures(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every figure as png, svg and pdf."""
    for exhibit in exhibits:
        if isinstance(exhibit.content, Figure):
            for kind in FORMATS:
                with replacing(folder / f"{exhibit.name}.{kind}") as path:
                    path.write_bytes(exhibit.svg if kind == "svg" else drawn(exhibit.content, kind))


def write_tables(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every table: all its numbers as csv, and as people read it as tex.

    The tex needs the packages booktabs and graphicx; a table wider than the column is shrunk to it.
    """
    for exhibit in exhibits:
        if isinstance(exhibit.content, pd.DataFrame):
            numbers = exhibit.numbers if exhibit.numbers is not None else exhibit.content
            with replacing(folder / f"{exhibit.name}.csv") as path:
                numbers.to_csv(path, index=False)
            with replacing(folder / f"{exhibit.name}.tex") as path:
                path.write_text(_tex(exhibit), encoding="utf-8")


def _tex(exhibit: Exhibit) -> str:
    assert isinstance(exhibit.content, pd.DataFrame)
    # to_latex escapes cells and headings, but not captions
    caption = f"{exhibit.caption} Source: {exhibit.source}"
    for letter in "\\&%$#_{}~^":
        caption = caption.replace(letter, "\\" + letter if letter not in "\\~^" else " ")
    table = _flat(exhibit.content)
    tex = table.to_latex(
        index=False,
        caption=caption,
        label=f"tab:{exhibit.name}",
        escape=True,
        column_format="l" + "r" * (table.shape[1] - 1),
    )
    tex = tex.replace("\\begin{tabular}", f"{_FITTED}\n\\begin{{tabular}}")
    return tex.replace("\\end{tabular}", "\\end{tabular}}")


def render_page(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the whole report as one HTML page."""
    return _template("page.html.j2").render(title=title, facts=facts, sections=sections)


def render_section(section: Section) -> str:
    """Return one section as a piece of HTML."""
    return _template("section.html.j2").render(section=section)


def _template(name: str) -> Any:
    loader = PackageLoader("cnn2gnn.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters["svg"] = _image
    environment.filters["table"] = _table
    environment.tests["figure"] = lambda content: isinstance(content, Figure)
    return environment.get_template(name)


def _image(exhibit: Exhibit) -> str:
    data = base64.b64encode(exhibit.svg).decode()
    return f"data:image/svg+xml;base64,{data}"


def _table(table: pd.DataFrame) -> str:
    return _flat(table).to_html(index=False, border=0, classes="numbers")


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """The index as first column, so that its heading stands among the others."""
    return table.rename_axis(columns=None, index=table.index.name or "model").reset_index()

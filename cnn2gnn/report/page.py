"""One page without any file beside it, and the files of its figures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cnn2gnn.base.files import replacing
from cnn2gnn.drawing.style import drawn
from cnn2gnn.drawing.templating import render
from cnn2gnn.report.latex import latex_table
from cnn2gnn.report.section import Exhibit, Section

FORMATS = ("png", "svg", "pdf")
_PACKAGE = "cnn2gnn.report"


def write_figures(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every figure as png, svg and pdf."""
    for exhibit in exhibits:
        if isinstance(exhibit.content, Figure):
            for kind in FORMATS:
                with replacing(folder / f"{exhibit.name}.{kind}") as path:
                    path.write_bytes(exhibit.svg if kind == "svg" else drawn(exhibit.content, kind))


def write_tables(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every table: all its numbers as csv, and as people read it as tex; see `latex`."""
    for exhibit in exhibits:
        if not exhibit.is_figure:
            with replacing(folder / f"{exhibit.name}.csv") as path:
                exhibit.every_number.to_csv(path, index=False)
            caption = f"{exhibit.caption} Source: {exhibit.source}"
            tex = latex_table(exhibit.table, caption, f"tab:{exhibit.name}")
            with replacing(folder / f"{exhibit.name}.tex") as path:
                path.write_text(tex, encoding="utf-8")


def render_page(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the whole report as one HTML page."""
    return render(_PACKAGE, "page.html.j2", title=title, facts=facts, sections=sections)


def render_section(section: Section) -> str:
    """Return one section as a piece of HTML."""
    return render(_PACKAGE, "section.html.j2", section=section)

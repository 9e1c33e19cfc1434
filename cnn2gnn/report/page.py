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

FORMATS, TABLE_FORMATS = ("png", "svg", "pdf"), ("csv", "tex")
_PACKAGE = "cnn2gnn.report"


def write_figures(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every figure as png, svg and pdf; those that an earlier report had are removed."""
    figures = [exhibit for exhibit in exhibits if exhibit.is_figure]
    for exhibit in figures:
        assert isinstance(exhibit.content, Figure)
        for kind in FORMATS:
            with replacing(folder / f"{exhibit.name}.{kind}") as path:
                path.write_bytes(exhibit.svg if kind == "svg" else drawn(exhibit.content, kind))
    _remove_others(figures, folder, FORMATS)


def write_tables(exhibits: Sequence[Exhibit], folder: Path) -> None:
    """Write every table: all its numbers as csv, and as people read it as tex; see `latex`.

    Those that an earlier report had are removed.
    """
    tables = [exhibit for exhibit in exhibits if not exhibit.is_figure]
    for exhibit in tables:
        with replacing(folder / f"{exhibit.name}.csv") as path:
            exhibit.every_number.to_csv(path, index=False)
        caption = f"{exhibit.caption} Source: {exhibit.source}"
        tex = latex_table(exhibit.table, caption, f"tab:{exhibit.name}")
        with replacing(folder / f"{exhibit.name}.tex") as path:
            path.write_text(tex, encoding="utf-8")
    _remove_others(tables, folder, TABLE_FORMATS)


def _remove_others(exhibits: Sequence[Exhibit], folder: Path, kinds: Sequence[str]) -> None:
    """Remove what an earlier report left; a file of which there are not all kinds is no exhibit."""
    names = {exhibit.name for exhibit in exhibits}
    for path in list(folder.glob(f"*.{kinds[0]}")):
        files = [path.with_suffix(f".{kind}") for kind in kinds]
        if path.stem not in names and all(file.is_file() for file in files):
            for file in files:
                file.unlink()


def render_page(title: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the whole report as one HTML page."""
    return render(_PACKAGE, "page.html.j2", title=title, facts=facts, sections=sections)


def render_section(section: Section) -> str:
    """Return one section as a piece of HTML."""
    return render(_PACKAGE, "section.html.j2", section=section)

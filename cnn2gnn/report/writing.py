"""From runs to a folder of figures and tables and one page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from cnn2gnn.base.files import replacing
from cnn2gnn.report.accuracy_sections import comparison
from cnn2gnn.report.model_card import model_card
from cnn2gnn.report.page import render_page, render_section, write_figures, write_tables
from cnn2gnn.report.results import Results, configurations
from cnn2gnn.report.section import sources
from cnn2gnn.report.sections import Section, sections
from cnn2gnn.report.size_sections import front
from cnn2gnn.runs import Run


@dataclass(frozen=True)
class Report:
    """What is known of some runs; shows itself in a notebook.

    Runs that differ in their seeds alone are averaged; others have their sections one after the
    other, under names that tell in what they differ.
    """

    title: str
    facts: dict[str, str]
    sections: tuple[Section, ...]
    card: str | None = None  # of one run: its model card

    @classmethod
    def build(cls, runs: Sequence[Run | str | Path]) -> Report:
        """Read finished runs and compute everything; nothing is written but the run's UMAP.

        Args:
            runs: runs, their folders, or their names in `runs`.

        Raises:
            ValueError: there are no runs, or one is given twice.
            FileNotFoundError: there is no such run, or it has not finished.
        """
        results = [Results.read(run) for run in runs]
        folders = [result.run.folder.resolve() for result in results]
        if not results or len({*folders}) < len(folders):
            names = ", ".join(result.name for result in results)
            raise ValueError(f"runs=[{names}] must be at least one run, and each only once")
        groups = configurations(results)
        parts: list[Section] = [] if len(groups) == 1 else [comparison(groups)]
        for letter, (name, group) in zip(_letters(), groups.items(), strict=False):
            for section in sections(group):
                parts.append(section if not name else _named(section, name, letter))
        sized = {n: group for n, group in groups.items() if all(r.has_sizes for r in group)}
        if sized:
            parts.append(front(sized))
        title = "Report of " + ", ".join(result.name for result in results)
        card = model_card(results[0].run) if len(results) == 1 else None
        return cls(title, _facts(results), tuple(parts), card)

    def _repr_html_(self) -> str:
        return "".join(render_section(section) for section in self.sections)

    def write(self, out: str | Path) -> Path:
        """Write `figures/`, `tables/` and `report.html` into a folder; return the page's path.

        A report on one run has its `model-card.md` beside them.
        """
        out = Path(out)
        page = render_page(self.title, self.facts, self.sections)
        exhibits = [exhibit for section in self.sections for exhibit in section.exhibits]
        write_figures(exhibits, out / "figures")
        write_tables(exhibits, out / "tables")
        if self.card is not None:
            with replacing(out / "model-card.md") as path:
                path.write_text(self.card, encoding="utf-8")
        with replacing(out / "report.html") as path:
            path.write_text(page, encoding="utf-8")
        return out / "report.html"


def _letters() -> Iterator[str]:
    """a, b, …, z, aa, ab, …"""
    for length in count(1):
        yield from map("".join, product(ascii_lowercase, repeat=length))


def _named(section: Section, configuration: str, prefix: str) -> Section:
    """A section of one configuration among several."""
    exhibits = tuple(replace(e, name=f"{prefix}_{e.name}") for e in section.exhibits)
    return replace(section, title=f"{section.title}, {configuration}", exhibits=exhibits)


def _facts(results: Sequence[Results]) -> dict[str, str]:
    """What stands below the title, from `metrics.json` and `config.json`."""
    return {
        "data": _distinct(_data(r) for r in results),
        "runs": ", ".join(f"{r.name} (seed {r.seed})" for r in results),
        "protocol": _distinct(r.metrics["protocol"] for r in results),
        "made with": _distinct(_made_with(r.run.manifest) for r in results),
        "source": sources(results, "metrics.json", "config.json"),
    }


def _data(result: Results) -> str:
    counts = result.metrics["images"].items()
    images = ", ".join(f"{count:,} {name}" for name, count in counts)
    return f"{result.metrics['dataset']}, {len(result.classes)} classes; {images}"


def _made_with(manifest: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    commit = manifest["git_commit"]
    return f"{versions}, commit {commit}" if commit else versions


def _distinct(said: Iterable[str]) -> str:
    """What is said of several runs, each thing once."""
    return " | ".join(dict.fromkeys(said))

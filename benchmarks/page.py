"""Write `benchmarks/README.md` from what the benchmarks have kept in `benchmarks/results/`.

python benchmarks/page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INTRODUCTION = """\
# Benchmarks

Speed and memory beside the plain ways and beside peers. `make bench` measures all of it again and
writes this page (`python benchmarks/page.py` from `benchmarks/results/`), but for whole trainings,
which take an hour, and the graph of a million nodes, which has its index from the extra `large`.
The ways take turns in one process or, where memory is measured, in a process each; figures are
medians with quartiles over the rounds, ratios are taken within a round.
Nothing here is a test: other load changes it.
"""


def page() -> str:
    """Return the page: a section for each file, in the order of their names."""
    files = sorted((HERE / "results").glob("*.json"))
    sections = [_section(json.loads(path.read_text(encoding="utf-8"))) for path in files]
    return "\n".join([INTRODUCTION, *sections])


def _section(found: dict[str, Any]) -> str:
    rows = [found["head"], ["---"] * len(found["head"]), *found["rows"]]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "".join(f"\n{note}\n" for note in found["notes"])
    return f"## {found['title']}\n\n`{found['command']}` {found['where']}.\n\n{table}\n{notes}"


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")

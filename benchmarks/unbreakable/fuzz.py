"""Anything to every entrance of the kit: is it refused in one clear line, or taken for what it is?

python benchmarks/unbreakable/fuzz.py --tries 300 --seed 0

refused    one line of the kit's own, which names the parameter, the file or the value
survived   taken, and what came of it has the properties that it must have
lost       a crash, an error that does not tell where to look, a wrong result, something wrong
           that was taken, a temporary file left behind: must be 0
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pandas
from surfaces import (
    arrays,
    folders,
    graphs,
    losses,
    notebook_cells,
    parameters,
    predictors,
    runs,
    tables,
)
from surfaces.outcomes import Kind, Outcome, fuzz, short

WORDS = ("refused", "survived", "lost")


def kinds(folder: Path) -> Iterator[Kind]:
    """Every row of the table. Whatever is needed is made in `folder`."""
    yield from parameters.kinds()
    yield from notebook_cells.kinds()
    yield from folders.kinds()
    yield from tables.kinds()
    yield from arrays.kinds()
    yield from graphs.kinds()
    yield from losses.kinds()
    made = cache(lambda: runs.prepare(folder))  # when the first case of a run is tried
    yield from runs.kinds(made)
    yield from predictors.kinds(made)


def table(outcomes: dict[tuple[str, str], list[Outcome]]) -> pandas.DataFrame:
    """How many were tried, and what came of them; a row a kind."""
    counts = {
        row: [len(found), *(sum(o.word == word for o in found) for word in WORDS)]
        for row, found in outcomes.items()
    }
    return pandas.DataFrame.from_dict(counts, orient="index", columns=["tried", *WORDS]).set_axis(
        pandas.MultiIndex.from_tuples(counts, names=["surface", "kind of input"])
    )


def lost(outcomes: dict[tuple[str, str], list[Outcome]]) -> list[str]:
    """A line for each fault: the smallest case that shows it."""
    smallest: dict[tuple[str, str], Outcome] = {}
    for row, found in outcomes.items():
        for outcome in found:
            if outcome.word == "lost":
                fault = (", ".join(row), short(outcome.why)[:60])
                known = smallest.setdefault(fault, outcome)
                if len(repr(outcome.case)) < len(repr(known.case)):
                    smallest[fault] = outcome
    return [f"{row}: {short(o.why)} <- {short(o.case)}" for (row, _), o in smallest.items()]


def measure(rows: Sequence[Kind], tries: int, seed: int) -> dict[tuple[str, str], list[Outcome]]:
    """What came of `tries` cases of each kind."""
    return {(kind.surface, kind.name): fuzz(kind, tries, seed) for kind in rows}


def main() -> int:
    """Print the table, and a case of each fault; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=300, help="of each kind of input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--surface", help="only those whose name begins so")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        os.environ["CNN2GNN_CACHE"] = str(Path(place, "cache"))
        rows = [k for k in kinds(Path(place)) if k.surface.startswith(options.surface or "")]
        outcomes = measure(rows, options.tries, options.seed)
    found = table(outcomes)
    print(found.to_string(), found.sum().to_frame("all").T.to_string(), *lost(outcomes), sep="\n\n")
    return int(found["lost"].any())


if __name__ == "__main__":
    sys.exit(main())

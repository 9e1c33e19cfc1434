"""Ways of doing the same beside each other, in turns; what was found is kept for the page.

Other load on a machine meets all ways alike when they take turns. A ratio is therefore taken within
a round; its median is given with the quartiles over the rounds, and so is every other figure.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import quantiles

from cnn2gnn.base.files import write_json
from cnn2gnn.runs.environment import in_words, measured

RESULTS = Path(__file__).parent / "results"

Times = dict[str, list[float]]  # seconds of each way, a value a round


def in_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of every way in every round, by the wall clock, after one round that is not kept."""
    for way in ways.values():
        way()  # the first call allocates
    times: Times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(seconds(way))
    return times


def seconds(work: Callable[[], object]) -> float:
    """Wall clock of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratios(times: Times, way: str, ours: str) -> list[float]:
    """How many times longer than ours a way took, round by round."""
    return [other / own for other, own in zip(times[way], times[ours], strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median and quartiles, `3.1 (2.9 to 3.4)`; one value stands alone."""
    if len(values) == 1:
        return _rounded(values[0], digits)
    low, middle, high = (_rounded(v, digits) for v in quantiles(values, n=4, method="inclusive"))
    return f"{middle} ({low} to {high})"


def against(times: Times, ours: str, unit: float = 1.0) -> list[list[str]]:
    """A row a way: its name, its time in `unit` seconds, and how many times ours that is."""
    return [
        [way, spread([second / unit for second in taken]), spread(ratios(times, way, ours))]
        for way, taken in times.items()
    ]


def keep(
    name: str, title: str, head: Sequence[str], rows: Iterable[Sequence[object]], *notes: str
) -> None:
    """Print one table and keep it, with machine and command, as `results/NAME.json`."""
    found = {
        "title": title,
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "where": in_words(measured("cpu")),
        "head": list(head),
        "rows": [[str(cell) for cell in row] for row in rows],
        "notes": list(notes),
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", found)
    print(json.dumps(found, indent=1))


def _rounded(value: float, digits: int) -> str:
    """So many significant digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,.10g}"

"""Which runs a report is made from, and in what they were made differently."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cnn2gnn.report.results import Results
from cnn2gnn.report.section import Exhibit, Section, sources
from cnn2gnn.runs import manifest

# the ones that are shown
CHOICES = ("stem", "graph", "layer", "scope", "k", "epochs", "graph_epochs")
LONGEST = 40  # characters of a value; the csv has all of them


def origin(results: Sequence[Results]) -> Section:
    """Which runs these are, and on what they were made."""
    rows = [
        {
            "run": r.name,
            "dataset": r.metrics["dataset"],
            "teacher": r.metrics["teacher"]["name"],
            **{name: r.choices()[name] for name in CHOICES},
            "seed": r.seed,
            "source": r.source("metrics.json", "config.json"),
        }
        for r in results
    ]
    table = pd.DataFrame(rows)
    return Section(
        "Runs",
        results[0].metrics["protocol"].capitalize() + ".",
        (
            Exhibit(
                "runs",
                "The runs of this report.",
                sources(results, "metrics.json", "config.json"),
                table.drop(columns="source").set_index("run"),
                table,
            ),
            *differing(results),
        ),
    )


def differing(results: Sequence[Results]) -> list[Exhibit]:
    """What differs between runs, or between the stages of one, by their manifests; nothing if none.

    Averages are taken over such runs all the same: whoever reads them shall know.
    """
    facts = [manifest.facts(result.run.manifest) for result in results]
    names = [name for result in results for name in manifest.mixed(result.run.manifest)]
    rows = {name: [held.get(name, "") for held in facts] for name in names}
    rows |= manifest.differences(facts)
    if not rows:
        return []
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[r.name for r in results])
    table = table.rename_axis(index="fact").fillna("")
    everything = table.reset_index().melt("fact", var_name="run")
    source = {result.name: result.source(manifest.FILE) for result in results}
    return [
        Exhibit(
            "made_differently",
            "What differs between the runs, or between the stages of one.",
            sources(results, manifest.FILE),
            table.map(lambda value: value if len(value) <= LONGEST else f"{value[:LONGEST]}…"),
            everything.assign(source=everything["run"].map(source)),
        )
    ]

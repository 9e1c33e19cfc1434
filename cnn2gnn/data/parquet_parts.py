"""Which part of a data set the rows of a table belong to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow

from cnn2gnn.data.names import shown
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PART_NAMES, PARTS

COLUMN, NAMES, NOTHING = "by the column split", "by the names of files and folders", "nothing"


def parts_of(root: Path, file: Path, table: pyarrow.Table) -> tuple[list[str], str]:
    """Return the part of each row, and what told it: `COLUMN`, `NAMES` or `NOTHING`.

    Args:
        root: the folder that was asked for; the names of those above it tell nothing.
        file: in `root` or below: `test.parquet`, `default/test/0000.parquet`,
            `split=test/part-0.parquet`, `test-00000-of-00003.parquet`, …
        table: its rows, perhaps with a column `split`.

    Raises:
        DataError: the column holds what is no part.
    """
    if "split" in table.column_names:
        values = table["split"].to_pylist()
        unknown = {str(value) for value in values if str(value).lower() not in PART_NAMES}
        if unknown:
            raise DataError(
                f"split={min(unknown)!r} in {shown(file)} must be one of {', '.join(PART_NAMES)}"
            )
        return [PART_NAMES[value.lower()] for value in values], COLUMN
    # The file's own name first, then its folders from the nearest on.
    for name in (file.stem, *reversed(file.relative_to(root).parent.parts)):
        words = [word for word in re.split(r"[^a-z]+", name.lower()) if word in PART_NAMES]
        if words:
            return [PART_NAMES[words[-1]]] * len(table), NAMES
    return ["train"] * len(table), NOTHING


def told(parts: Sequence[str], ways: Mapping[str, Path]) -> str:
    """Return in words how the parts of all rows were told.

    Args:
        parts: of all rows.
        ways: the results of `parts_of`, each with a file of which it is true.
    """
    if set(ways) == {NOTHING}:
        return "no column split and no name of a file or folder tells parts: all is train"
    how = [way for way in (COLUMN, NAMES) if way in ways]
    if NOTHING in ways:
        how.append(f"train where nothing does, as in {shown(ways[NOTHING].name)}")
    counts = Counter(parts)
    sizes = ", ".join(f"{part} {counts[part]}" for part in PARTS if counts[part])
    return f"parts told {', '.join(how)}: {sizes}"

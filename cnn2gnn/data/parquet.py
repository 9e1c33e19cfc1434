"""Images from parquet files: encoded bytes in a column, or Hugging Face's `{bytes, path}`."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cnn2gnn.data.listing import absolute, files_below
from cnn2gnn.data.names import LeftOut, shown
from cnn2gnn.data.parquet_columns import check_labels, class_names, image_column, numbered
from cnn2gnn.data.parquet_parts import parts_of, told
from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.data.source import Request, Samples, Source


def parquet_source(asked: Request) -> Source:
    """Find the files of a glob, a file, or all `*.parquet` in a folder and in its folders.

    - Images: the column `image` or `img`, else the only column of bytes.
    - Parts: the column `split` (train, val, test, …); a file without one belongs to the part that
      its name or a folder of its path says (`cifar-test.parquet`, `split=test/0.parquet`), or to
      train.
    - Class names: the file metadata's `dataset` (JSON with `classes`), or Hugging Face's features,
      or the sorted label values.

    Raises:
        DataError: no file matches. The files themselves are checked when they are read.
    """
    path, left_out = absolute(asked.place), LeftOut()
    root, pattern = _literal(path)
    if pattern:
        names = glob.glob(pattern, root_dir=root, recursive=True)
        files = [root / name for name in sorted(names) if (root / name).is_file()]
    elif path.is_dir():
        below = files_below(path, left_out)
        files = [file for file in below if file.suffix.lower() == ".parquet"]
    else:
        root, files = path.parent, [path]
    if not files:
        raise DataError(f"no parquet file matches {shown(asked.place)!r} in {Path.cwd()}")
    return Source(
        f"parquet:{shown(path.name)}",
        tuple(files),
        lambda: _read(root, files, asked.label_column),
        (asked.label_column, str(root)),
        left_out.notes(),
    )


def _literal(path: Path) -> tuple[Path, str]:
    """Divide a path into what exists by that very name, brackets and all, and the pattern below."""
    root = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    return root, "" if root == path else str(path.relative_to(root))


def _read(root: Path, files: Sequence[Path], label_column: str) -> Samples:
    left_out = LeftOut()
    items: list[Item] = []
    values: list[Any] = []
    parts: list[str] = []
    ways: dict[str, Path] = {}  # how parts were told, with a file each
    names: dict[tuple[str, ...] | None, Path] = {}
    for file in files:
        table = _table(file, label_column)
        of_rows, way = parts_of(root, file, table)
        ways[way] = file
        names[class_names(table.schema, label_column)] = file
        labels = table[label_column].to_pylist()
        for row, item in enumerate(_items(file, table)):
            if item is None:
                left_out.add("rows without image", f"row {row} of {file.name}")
            else:
                items.append(item)
                values.append(labels[row])
                parts.append(of_rows[row])
    if len(names) > 1:
        first, second, *_ = names.values()
        raise DataError(f"{shown(first)} and {shown(second)} name different classes")
    numbers, classes = numbered(values, items, label_column, next(iter(names)))
    return Samples(items, numbers, parts, classes, notes=(told(parts, ways), *left_out.notes()))


def _table(file: Path, label_column: str) -> pyarrow.Table:
    try:
        # Opened here: pyarrow itself takes no path that is not UTF-8.
        with file.open("rb") as opened, pyarrow.parquet.ParquetFile(opened) as content:
            schema = content.schema_arrow
            check_labels(file, schema, label_column)
            columns = {image_column(file, schema), label_column}
            columns |= {"split"} & set(schema.names)
            return content.read(columns=sorted(columns))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shown(file)} cannot be read as parquet: {error}") from error


def _items(file: Path, table: pyarrow.Table) -> list[Item | None]:
    """The images of a table; None where a row has none."""
    items: list[Item | None] = []
    for row, value in enumerate(table[image_column(file, table.schema)].to_pylist()):
        if isinstance(value, dict):
            path = value.get("path")
            # Without bytes, the path says where the image lies beside the parquet file.
            value = value["bytes"] or (file.parent / path if path else None)
        items.append(Item(value, f"row {row} of {shown(file)}") if value else None)
    return items

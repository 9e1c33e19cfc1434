"""Samples from tables: parquet files of images, recordings, texts or features; texts as csv, json.

Files are encoded bytes in a column, or Hugging Face's `{bytes, path}`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from cnn2gnn.data.grouping import apart
from cnn2gnn.data.listing import absolute, below, files_below
from cnn2gnn.data.names import LeftOut, shown
from cnn2gnn.data.parquet_columns import (
    check_labels,
    class_names,
    content_column,
    modality_of,
    numbered,
)
from cnn2gnn.data.parquet_parts import parts_of, told
from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.data.source import Request, Samples, Source
from cnn2gnn.registry import MODALITIES

BESIDE = ("logits", "preview")  # of numbers: what a teacher said, and what they look like
TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def parquet_source(asked: Request) -> Source:
    """Find parquet files; the columns of the first tell whether they hold images or what else."""
    return table_source(asked, None, (".parquet",))


def text_source(asked: Request) -> Source:
    """Find tables of texts: csv, tsv, json lines or parquet."""
    return table_source(asked, "text", TEXT_SUFFIXES)


def table_source(asked: Request, modality: str | None, suffixes: Sequence[str]) -> Source:
    """Find the files of a glob, a file, or all of these suffixes in a folder and in its folders.

    - Samples: the column `image`, `img`, `audio`, `text`, …, as each modality says; else the only
      column of bytes.
    - Parts: the column `split` (train, val, test, …); a file without one belongs to the part that
      its name or a folder of its path says (`cifar-test.parquet`, `split=test/0.parquet`), or to
      train.
    - Class names: the file metadata's `dataset` (JSON with `classes`), or Hugging Face's features,
      or the sorted label values; of csv and tsv these are what is written there.

    Args:
        modality: of the samples; None: what the columns of the first file tell.

    Raises:
        DataError: no file matches. The files themselves are checked when they are read.
    """
    path, left_out = absolute(asked.place), LeftOut()
    root, pattern = _literal(path)
    if pattern:
        names = glob.glob(pattern, root_dir=root, recursive=True)
        files = [root / name for name in sorted(names) if (root / name).is_file()]
    elif path.is_dir():
        inside = files_below(path, left_out)
        files = [file for file in inside if file.suffix.lower() in suffixes]
    else:
        root, files = path.parent, [path]
    if not files:
        kinds = " or ".join(suffix[1:] for suffix in suffixes)
        raise DataError(f"no {kinds} file matches {shown(asked.place)!r} in {Path.cwd()}")
    kind = modality or _modality(files[0])
    return Source(
        f"{asked.name}:{shown(path.name)}",
        tuple(files),
        lambda: _read(root, files, asked, kind),
        (asked.label_column, asked.group_column or "", str(root)),
        left_out.notes(),
        kind,
    )


def _modality(file: Path) -> str:
    """What a file holds; of one that cannot be read, reading will complain."""
    try:
        with file.open("rb") as opened, pyarrow.parquet.ParquetFile(opened) as content:
            return modality_of(content.schema_arrow)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        return "image"


def _literal(path: Path) -> tuple[Path, str]:
    """Divide a path into what exists by that very name, brackets and all, and the pattern below."""
    root = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    return root, "" if root == path else str(path.relative_to(root))


def _read(root: Path, files: Sequence[Path], asked: Request, modality: str) -> Samples:
    left_out, label_column = LeftOut(), asked.label_column
    items: list[Item] = []
    values: list[Any] = []
    parts: list[str] = []
    ways: dict[str, Path] = {}  # how parts were told, with a file each
    names: dict[tuple[str, ...] | None, Path] = {}
    groups: list[Any] = []
    beside: dict[str, list[Any]] = {name: [] for name in BESIDE}
    for file in files:
        table = _table(file, asked, modality)
        of_rows, way = parts_of(root, file, table)
        ways[way] = file
        names[class_names(table.schema, label_column)] = file
        labels = table[label_column].to_pylist()
        grouped = table[asked.group_column].to_pylist() if asked.group_column else None
        for row, item in enumerate(_items(file, table, asked, modality)):
            if item is None:
                left_out.add(f"rows without {modality}", f"row {row} of {file.name}")
            else:
                groups += [grouped[row]] if grouped is not None else []
                for name, held in beside.items():
                    held += [table[name][row].as_py()] if name in table.column_names else []
                items.append(item)
                values.append(labels[row])
                parts.append(of_rows[row])
    if len(names) > 1:
        first, second, *_ = names.values()
        raise DataError(f"{shown(first)} and {shown(second)} name different classes")
    numbers, classes = numbered(values, items, label_column, next(iter(names)))
    how = told(parts, ways)
    if asked.group_column:
        parts, how = apart(groups, numbers, asked.group_column)
    logits, previews = beside.values()
    if MODALITIES[modality].holds != "numbers":
        logits = previews = []
    return Samples(
        items,
        numbers,
        parts,
        classes,
        notes=(how, *left_out.notes()),
        logits=logits or None,
        originals=as_bytes(previews) if previews else None,
    )


def as_bytes(previews: Sequence[Any]) -> list[bytes]:
    """Return previews, texts or files of pictures, as bytes; nothing where there is none."""
    return [one if isinstance(one, bytes) else str(one or "").encode() for one in previews]


def _table(file: Path, asked: Request, modality: str) -> pyarrow.Table:
    kind = file.suffix.lower()[1:] or "parquet"
    try:
        # Opened here: pyarrow itself takes no path that is not UTF-8.
        with file.open("rb") as opened:
            if kind in ("csv", "tsv"):
                comma = "\t" if kind == "tsv" else ","
                signs = pyarrow.csv.ParseOptions(delimiter=comma, newlines_in_values=True)
                whole = pyarrow.csv.ReadOptions(block_size=_whole(file))
                table = pyarrow.csv.read_csv(opened, whole, signs, _as_text(asked, modality))
                return table.select(_columns(file, table.schema, asked, modality))
            if kind in ("json", "jsonl", "ndjson"):
                options = pyarrow.json.ReadOptions(block_size=_whole(file))
                table = pyarrow.json.read_json(opened, options)
                return table.select(_columns(file, table.schema, asked, modality))
            with pyarrow.parquet.ParquetFile(opened) as content:
                columns = _columns(file, content.schema_arrow, asked, modality)
                return content.read(columns=columns)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # names of columns too
        raise DataError(f"{shown(file)} cannot be read as {kind}: {error}") from error


def _as_text(asked: Request, modality: str) -> pyarrow.csv.ConvertOptions:
    """Read labels, groups and texts as they stand: 01 and 1 are two classes, a year is a text."""
    names = {*_others(asked, modality), *MODALITIES[modality].columns}
    return pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pyarrow.string()))


def _whole(file: Path) -> int:
    """Bytes read at a time: all of a table of up to a GB, for no row may lie across two blocks."""
    return min(max(file.stat().st_size, 2**20), 2**30)


def _columns(file: Path, schema: pyarrow.Schema, asked: Request, modality: str) -> list[str]:
    """Return the columns that are read, as far as the table has them.

    Raises:
        DataError: one that is needed is missing or of another type, or one is there twice.
    """
    others = _others(asked, modality)
    wanted = {content_column(file, schema, modality, others), *others}
    found = [name for name in schema.names if name in wanted]
    if double := [name for name in found if found.count(name) > 1]:
        raise DataError(f"{shown(file)} has {found.count(double[0])} columns {double[0]!r}")
    check_labels(file, schema, asked.label_column)
    if asked.group_column and asked.group_column not in found:
        raise DataError(
            f"group_column={asked.group_column!r} is not in {shown(file)}; its columns: "
            f"{', '.join(schema.names)}"
        )
    return found


def _others(asked: Request, modality: str) -> set[str]:
    """Columns that are read, if they are there, and hold no samples, whatever their type."""
    beside = BESIDE if MODALITIES[modality].holds == "numbers" else ()
    grouped = [asked.group_column] if asked.group_column else []
    return {asked.label_column, "split", *grouped, *beside}


def _items(file: Path, table: pyarrow.Table, asked: Request, modality: str) -> list[Item | None]:
    """The samples of a table; None where a row has none."""
    items: list[Item | None] = []
    name = content_column(file, table.schema, modality, _others(asked, modality))
    column = table[name].to_pylist()
    for row, value in enumerate(column):
        origin = f"row {row} of {shown(file)}"
        if MODALITIES[modality].holds == "text" and value is not None:
            value = str(value) if str(value).strip() else None
        if isinstance(value, dict):
            path = value.get("path")
            # Without bytes, the path says where the image lies beside the parquet file.
            value = value["bytes"] or (below(file.parent, path, origin) if path else None)
        items.append(Item(value, origin) if value else None)
    return items

"""Images from parquet files: encoded bytes in a column, or Hugging Face's `{bytes, path}`."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.data.source import PART_NAMES, Samples, Source

IMAGE_COLUMNS = ("image", "img")


def parquet_source(pattern: str, label_column: str) -> Source:
    """Find the files of `pattern` (a glob, a file, or a folder of `*.parquet`).

    - Images: the column `image` or `img`, else the only column of bytes.
    - Parts: the column `split` (train, val, test, …); a file without one belongs to the part its
      name says (`cifar-test.parquet`), or to train.
    - Class names: the file metadata's `dataset` (JSON with `classes`), or Hugging Face's features,
      or the sorted label values.

    Raises:
        DataError: no file matches. The files themselves are checked when they are read.
    """
    path = Path(pattern).expanduser()
    names = glob.glob(str(path / "*.parquet" if path.is_dir() else path), recursive=True)
    files = tuple(Path(name).resolve() for name in sorted(names))
    if not files:
        raise DataError(f"no parquet file matches {pattern!r} in {Path.cwd()}")
    return Source(
        f"parquet:{path.name}", files, lambda: _read(files, label_column), (label_column,)
    )


def _read(files: Sequence[Path], label_column: str) -> Samples:
    items: list[Item] = []
    values: list[Any] = []
    parts: list[str] = []
    names: dict[tuple[str, ...] | None, Path] = {}
    for file in files:
        table = _table(file, label_column)
        items += _items(file, table)
        values += table[label_column].to_pylist()
        parts += _parts(file, table)
        names[_class_names(table.schema, label_column)] = file
    if len(names) > 1:
        first, second, *_ = names.values()
        raise DataError(f"{first} and {second} name different classes")
    labels, classes = _labels(values, items, label_column, next(iter(names)))
    return Samples(items, labels, parts, classes)


def _table(file: Path, label_column: str) -> pyarrow.Table:
    try:
        schema = pyarrow.parquet.read_schema(file)
        columns = {_image_column(file, schema), _label_column(file, schema, label_column)}
        columns |= {"split"} & set(schema.names)
        return pyarrow.parquet.read_table(file, columns=sorted(columns), partitioning=None)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as parquet: {error}") from error


def _label_column(file: Path, schema: pyarrow.Schema, name: str) -> str:
    if name not in schema.names:
        raise DataError(
            f"label_column={name!r} is not in {file}; its columns: {', '.join(schema.names)}"
        )
    kind, is_ = schema.field(name).type, pyarrow.types
    allowed = (is_.is_integer, is_.is_string, is_.is_large_string, is_.is_dictionary)
    if not any(test(kind) for test in allowed):
        raise DataError(f"label_column={name!r} in {file} must hold integers or text, not {kind}")
    return name


def _image_column(file: Path, schema: pyarrow.Schema) -> str:
    found = [field.name for field in schema if _holds_bytes(field.type)]
    named = [name for name in IMAGE_COLUMNS if name in found]
    if not named and len(found) != 1:
        raise DataError(
            f"{file} has no column `image` of bytes; its columns: {', '.join(schema.names)}"
        )
    return (named or found)[0]


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_struct(kind):
        return "bytes" in [field.name for field in kind]
    return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)


def _items(file: Path, table: pyarrow.Table) -> list[Item]:
    items = []
    for row, value in enumerate(table[_image_column(file, table.schema)].to_pylist()):
        origin = f"row {row} of {file}"
        if isinstance(value, dict):
            path = value.get("path")
            # Without bytes, the path says where the image lies beside the parquet file.
            value = value["bytes"] or (file.parent / path if path else None)
        if value is None:
            raise DataError(f"{origin} has no image")
        items.append(Item(value, origin))
    return items


def _parts(file: Path, table: pyarrow.Table) -> list[str]:
    if "split" in table.column_names:
        values = table["split"].to_pylist()
        unknown = {value for value in values if str(value).lower() not in PART_NAMES}
        if unknown:
            raise DataError(
                f"split={sorted(map(str, unknown))[0]!r} in {file} must be one of "
                f"{', '.join(PART_NAMES)}"
            )
        return [PART_NAMES[value.lower()] for value in values]
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word in PART_NAMES]
    return [PART_NAMES[words[-1]] if words else "train"] * len(table)


def _class_names(schema: pyarrow.Schema, label_column: str) -> tuple[str, ...] | None:
    """The class names that the file's metadata give, if they do."""
    metadata = {key: _json(value) for key, value in (schema.metadata or {}).items()}
    names = _inside(metadata, b"dataset", "classes") or _inside(
        metadata, b"huggingface", "info", "features", label_column, "names"
    )
    return tuple(map(str, names)) if isinstance(names, list) else None


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _inside(content: Any, *keys: Any) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _labels(
    values: list[Any], items: list[Item], label_column: str, names: tuple[str, ...] | None
) -> tuple[list[int], tuple[str, ...]]:
    """Return labels as indices into the class names, and these names."""
    if names is not None and all(isinstance(value, int) for value in values):
        allowed: dict[Any, int] = {index: index for index in range(len(names))}
    elif names is not None:
        allowed = {name: index for index, name in enumerate(names)}
    else:
        known = sorted({value for value in values if value is not None})
        allowed = {value: index for index, value in enumerate(known)}
        names = tuple(map(str, known))
    for value, item in zip(values, items, strict=True):
        if value not in allowed:
            raise DataError(f"{label_column}={value!r} in {item.origin} is none of the classes")
    return [allowed[value] for value in values], names

"""The columns of a table: which holds the samples, and what its labels mean."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow

from cnn2gnn.data.names import composed, shown
from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.registry import MODALITIES


def modality_of(schema: pyarrow.Schema) -> str:
    """Return what a table holds: the first modality, as registered, one of whose columns it has.

    A table without any holds images, in its only column of bytes.
    """
    for name, modality in MODALITIES.items():
        if set(modality.columns) & set(_fitting(schema, name)):
            return name
    return "image"


def content_column(
    file: Path, schema: pyarrow.Schema, modality: str, others: Collection[str]
) -> str:
    """Return the name of the column of samples: one that the modality names, or the only fit one.

    Args:
        others: columns that hold something else, labels or groups: never the samples.

    Raises:
        DataError: there is none, or one of several, or the one so named is of another type.
    """
    kind = MODALITIES[modality]
    found = [name for name in _fitting(schema, modality) if name not in others]
    named = [name for name in kind.columns if name in found]
    for name in kind.columns:
        if not named and name in schema.names and name not in others:
            raise DataError(
                f"column `{name}` of {shown(file)} must hold {kind.holds}, not "
                f"{schema.field(name).type}{_hint(schema.field(name).type, kind.holds)}"
            )
    if not named and len(found) != 1:
        raise DataError(
            f"{shown(file)} has no column `{[*kind.columns, modality][0]}` of {kind.holds}; "
            f"its columns: {', '.join(schema.names)}"
        )
    return (named or found)[0]


def _hint(given: pyarrow.DataType, holds: str) -> str:
    """What is wrong most likely: text that is not UTF-8 is read as bytes."""
    return ": its text is not UTF-8" if holds == "text" and _holds_bytes(given) else ""


def _fitting(schema: pyarrow.Schema, modality: str) -> list[str]:
    """The columns whose type may hold such samples."""
    tests = _TYPES.get(MODALITIES[modality].holds)
    if tests is None:
        return [field.name for field in schema if _holds_bytes(field.type)]
    kinds = [(field.name, _plain(field.type)) for field in schema if field.name != "split"]
    return [name for name, kind in kinds if any(test(kind) for test in tests)]


def check_labels(file: Path, schema: pyarrow.Schema, name: str) -> None:
    """Check that there is a column `name` and that it may hold labels.

    Raises:
        DataError: there is none, or it holds neither integers nor text.
    """
    if name not in schema.names:
        raise DataError(
            f"label_column={name!r} is not in {shown(file)}; its columns: {', '.join(schema.names)}"
        )
    kind, is_ = _plain(schema.field(name).type), pyarrow.types
    allowed = (is_.is_integer, is_.is_boolean, is_.is_string, is_.is_large_string)
    if not any(test(kind) for test in (*allowed, is_.is_string_view)):
        raise DataError(
            f"label_column={name!r} in {shown(file)} must hold integers or text, not {kind}"
        )


def class_names(schema: pyarrow.Schema, label_column: str) -> tuple[str, ...] | None:
    """Return the class names that the file's metadata give, if they do."""
    metadata = {key: _json(value) for key, value in (schema.metadata or {}).items()}
    names = _inside(metadata, b"dataset", "classes") or _inside(
        metadata, b"huggingface", "info", "features", label_column, "names"
    )
    return tuple(map(composed, names)) if isinstance(names, list) else None


def numbered(
    values: list[Any], items: Sequence[Item], label_column: str, names: tuple[str, ...] | None
) -> tuple[list[int], tuple[str, ...]]:
    """Return labels as indices into the class names, and these names.

    Args:
        values: numbers, or names of classes.
        items: for each value, whence it came.
        names: of the classes, if they are known; else the values are their names.

    Raises:
        DataError: a label is missing, none of the classes, or one of two of the same name.
    """
    values = [composed(value) if isinstance(value, str) else value for value in values]
    held = zip(values, items, strict=True)
    kinds = {type(value): item.origin for value, item in held if value is not None}  # last of each
    if len(kinds) > 1:
        where = " and ".join(f"{kind.__name__} ({origin})" for kind, origin in kinds.items())
        raise DataError(
            f"label_column={label_column!r} must hold one type in all files, not {where}"
        )
    if names is not None and str not in kinds:
        allowed: dict[Any, int] = {index: index for index in range(len(names))}
    elif names is not None:
        allowed = {name: index for index, name in enumerate(names)}
        if len(allowed) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{label_column}={double!r} may be either of two classes of this name")
    else:
        known = _sorted({value for value in values if value not in (None, "")})
        allowed = {value: index for index, value in enumerate(known)}
        names = tuple(map(str, known))
    for value, item in zip(values, items, strict=True):
        if value not in allowed:
            raise DataError(f"{label_column}={value!r} in {item.origin} is none of the classes")
    return [allowed[value] for value in values], names


def _sorted(values: Collection[Any]) -> list[Any]:
    """Sort label values; whole numbers, also as text, by their size: 2 comes before 10."""
    whole = all(re.fullmatch(r"[+-]?\d{1,18}", str(value)) for value in values)
    return sorted(values, key=lambda value: (int(value), value) if whole else value)


_IS = pyarrow.types
# The types of columns of samples that are no bytes, by what they hold.
_TYPES: dict[str, tuple[Any, ...]] = {
    "text": (_IS.is_string, _IS.is_large_string, _IS.is_string_view),
    "numbers": (_IS.is_list, _IS.is_large_list, _IS.is_fixed_size_list),
}


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type of the values of a dictionary, as pandas writes its categories."""
    return kind.value_type if pyarrow.types.is_dictionary(kind) else kind


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    kind, is_ = _plain(kind), pyarrow.types
    if is_.is_struct(kind):
        return "bytes" in [field.name for field in kind]
    return is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_binary_view(kind)


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _inside(content: Any, *keys: Any) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content

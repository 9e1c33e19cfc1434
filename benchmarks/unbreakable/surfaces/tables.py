"""Files of images, texts and features: tables with odd columns, archives, and any bytes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
from hypothesis import strategies as st

from cnn2gnn.base.signs import visible
from surfaces.folders import encoded, loaded
from surfaces.outcomes import Kind

ROWS = 16  # of a table, at least: fewer cannot be cut into parts


@dataclass(frozen=True)
class Table:
    """A table: columns by name."""

    kind: str  # of the data set: parquet, text, features
    suffix: str
    columns: dict[str, list[Any]]
    options: dict[str, Any]


_GREYS = [encoded(10 * at + 5, "L", (4, 4), "PNG") for at in range(4)]
_BYTES = st.lists(st.sampled_from(_GREYS), min_size=ROWS, max_size=24)
_WORDS = st.lists(st.text(min_size=1, max_size=12), min_size=ROWS, max_size=24)
_VECTORS = st.lists(
    st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3), min_size=ROWS, max_size=24
)
_CONTENT = {
    "parquet": ("image", _BYTES), "text": ("text", _WORDS), "features": ("features", _VECTORS)
}  # fmt: skip
_ODD = st.one_of(
    st.none(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=5), st.booleans(),
    st.binary(max_size=5), st.dates(), st.decimals(allow_nan=False, places=2, max_value=99),
    st.lists(st.integers(0, 9), max_size=2), st.lists(st.floats(), max_size=3),
    st.dictionaries(st.sampled_from(["bytes", "path"]), st.text(max_size=5), max_size=2),
)  # fmt: skip
_LABELS = st.sampled_from(
    [
        st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.sampled_from("ab"),
        st.sampled_from("ab"), st.sampled_from("abc"),
        st.sampled_from(["a", "a\u0301", "\u00e1"]), st.sampled_from(["", " ", "a"]),
        st.booleans(), st.integers(-3, 3), st.integers(), st.sampled_from(["\x1b[2J", "\u202e"]),
    ]
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn, kind: str) -> Table:
    """A table that could be read, with perhaps something odd in it."""
    name, content = _CONTENT[kind]
    values = draw(content)
    labels = draw(_LABELS)
    columns = {name: values, "label": [draw(labels) for _ in values]}
    if draw(st.booleans()):
        odd = draw(st.sampled_from([name, "label", "split", "group", "logits", "preview", "x"]))
        of_one_kind = draw(st.sampled_from(_ODD.original_strategies))
        columns[odd] = [draw(of_one_kind) for _ in values]
    if draw(st.integers(0, 9)) == 0:  # a cell, or none at all
        at = draw(st.integers(0, len(values) - 1))
        columns[draw(st.sampled_from([*columns]))][at] = None
    if draw(st.integers(0, 9)) == 0:
        columns.pop(draw(st.sampled_from([*columns])))
    if draw(st.integers(0, 9)) == 0:
        columns = {n: column[:1] * len(column) for n, column in columns.items()}
    options = draw(
        st.sampled_from([{}, {}, {}, {}, {}, {}, {"group_column": "group"}, {"label_column": "x"}])
    )
    suffix = draw(st.sampled_from([".csv", ".tsv", ".jsonl"])) if kind == "text" else ".parquet"
    return Table(kind, suffix, columns, options)


def read_table(given: Table) -> None:
    """Write and load a table; the number of samples is that of the rows, or it is told why not."""
    with tempfile.TemporaryDirectory(prefix="table-") as place:
        path = Path(place, "own" + given.suffix)
        write_table(given, path)
        splits = loaded(f"{given.kind}:{path}", Path(place), **given.options)
        rows = len(next(iter(given.columns.values())))
        counted = sum(map(len, splits))
        assert counted == rows or "left out" in " ".join(splits.train.notes), "rows are missing"
        assert counted <= rows


def write_table(given: Table, path: Path) -> None:
    """Write a table as users do, by pandas or pyarrow."""
    import pandas

    frame = pandas.DataFrame(given.columns)
    if given.suffix == ".parquet":
        try:
            pyarrow.parquet.write_table(pyarrow.table(given.columns), path)
        except (pyarrow.ArrowException, OverflowError, TypeError):  # no column holds such a mixture
            frame.map(str).to_parquet(path)
    elif given.suffix == ".jsonl":
        cells = zip(*given.columns.values(), strict=True)
        rows = (dict(zip(given.columns, row, strict=True)) for row in cells)
        path.write_text("".join(json.dumps(row, default=repr) + "\n" for row in rows))
    else:
        frame.to_csv(path, index=False, sep="," if given.suffix == ".csv" else "\t")


@dataclass(frozen=True)
class Bytes:
    """A file that may be a table and is damaged, or something else."""

    kind: str
    suffix: str
    content: bytes


def any_bytes() -> st.SearchStrategy[Bytes]:
    """Short files of any content under names of tables."""
    content = st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode())
    content |= st.sampled_from(
        [b"text,label\n" + b"a b,0\nc d,1\n" * 12, b'{"text": 1}\n', b"PAR1"]
    )
    suffixes = st.sampled_from([".parquet", ".csv", ".tsv", ".jsonl", ".json", ".npz", ".txt"])
    return st.builds(Bytes, st.sampled_from(["parquet", "text", "features"]), suffixes, content)


def read_bytes(given: Bytes) -> None:
    """Write and load them."""
    with tempfile.TemporaryDirectory(prefix="bytes-") as place:
        path = Path(place, "own" + given.suffix)
        path.write_bytes(given.content)
        loaded(f"{given.kind}:{path}", Path(place))


@dataclass(frozen=True)
class Archive:
    """The arrays of a `features:FILE.npz`: kind of their numbers and shape, by name."""

    arrays: dict[str, tuple[str, tuple[int, ...]]]
    classes: tuple[str, ...]
    seed: int


def archives() -> st.SearchStrategy[Archive]:
    """Archives that could be read, with perhaps something odd in them."""
    types = st.sampled_from(["float32"] * 6 + ["float16", "float64", "int64", "U3", "bool"])
    types |= st.sampled_from(["complex64", "NaN", "uint8", "datetime64[s]"])
    rows = st.sampled_from([20] * 40 + [0, 1, 19])
    features = st.tuples(types, st.tuples(rows, st.sampled_from([4] * 6 + [0, 1, 300])))
    labels = st.tuples(st.sampled_from(["int64"] * 6 + ["U1", "float64", "bool"]), st.tuples(rows))
    other = st.tuples(types | st.sampled_from(["U5"]), st.tuples(rows) | st.tuples(rows, rows))
    arrays = st.fixed_dictionaries({"features": features, "labels": labels})
    more = st.dictionaries(st.sampled_from(["split", "logits", "preview", "labels", "x"]), other)
    both = st.builds(lambda a, b, c: a | (b if c else {}), arrays, more, st.booleans())
    names = st.sampled_from([("a", "b")] * 6 + [("a",), ("a", "a"), ("", "\x1b[2J"), (), ()])
    return st.builds(Archive, both, names, st.integers(0, 9))


def read_archive(given: Archive) -> None:
    """Write and load an archive."""
    chance = np.random.default_rng(given.seed)
    arrays = {}
    for name, (kind, shape) in given.arrays.items():
        values = chance.integers(0, 2, shape) if name != "features" else chance.normal(size=shape)
        values = np.where(values > 0.5, np.nan, values) if kind == "NaN" else values
        arrays[name] = values if kind == "NaN" else values.astype("int64").astype(kind)
        if kind.startswith("float") and name == "features":
            arrays[name] = values.astype(kind)
    if given.classes:
        arrays["classes"] = np.array(given.classes)
    with tempfile.TemporaryDirectory(prefix="archive-") as place:
        path = Path(place, "own.npz")
        np.savez(path, **arrays)
        splits = loaded(f"features:{path}", Path(place))
        assert sum(map(len, splits)) == len(arrays["features"]), "rows are missing"


def names_of(given: Any) -> tuple[str, ...]:
    """What a refusal of a file must name one of: the file, a column, or a class."""
    options = [f"{name}=" for name in getattr(given, "options", ())]
    columns = ("split=", "group_column=", "label_column=", "logits", "labels")
    return ("own", *columns, *options, *map(visible, getattr(given, "classes", ())))


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    for kind in _CONTENT:
        yield Kind("loaders", f"{kind} tables", tables(kind), read_table, names_of)
    yield Kind("loaders", "archives of features", archives(), read_archive, names_of)
    yield Kind("loaders", "any bytes", any_bytes(), read_bytes, names_of)

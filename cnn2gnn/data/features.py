"""Feature vectors computed elsewhere (CLIP, wav2vec, sentence encoders): any data, in one command.

`features:FILE.npz` holds the arrays `features` (N, d), `labels` (N,) and perhaps `split` (N,),
`classes`, `logits` (N, classes) and `preview` (N,); `features:FILE.parquet` the columns `features`
(lists of numbers), `label` and perhaps `split`, `logits` (lists) and `preview`. Previews are texts,
or files of pictures as bytes. With logits, `teacher=given` teaches what they say.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from cnn2gnn.data.listing import absolute
from cnn2gnn.data.modality import Modality
from cnn2gnn.data.names import shown
from cnn2gnn.data.numbers import as_float32
from cnn2gnn.data.parquet_columns import numbered
from cnn2gnn.data.pixels import FORMATS, DataError, Item
from cnn2gnn.data.source import PART_NAMES, Request, Samples, Source
from cnn2gnn.data.tables import as_bytes, table_source
from cnn2gnn.data.text import picture, player, words


def features_source(asked: Request) -> Source:
    """Find a file of features.

    Raises:
        DataError: there is no such file, or it is of another kind.
    """
    path = absolute(asked.place)
    if path.suffix.lower() != ".npz":
        return table_source(asked, "features", (".parquet",))
    if not path.is_file():
        raise DataError(f"there is no file {shown(path)}")
    return Source(f"features:{shown(path.name)}", (path,), lambda: _read(path), modality="features")


def decode(items: Sequence[Item], size: int | None, title: str) -> Tensor:
    """Return vectors as float32 `(N, d, 1, 1)`.

    Raises:
        DataError: a vector is of another length, or holds NaN or infinity.
    """
    if size is not None:
        raise DataError(f"image_size={size} is of no use for features: leave it out")
    rows: list[np.ndarray] = []
    for item in items:
        try:
            row = as_float32(item.content)  # (d,)
        except ValueError as error:
            raise DataError(f"{item.origin} holds no numbers: {error}") from None
        if row.ndim != 1 or not len(row) or (rows and row.shape != rows[0].shape):
            raise DataError(f"{item.origin} has the shape {row.shape}, another than the first row")
        if not np.isfinite(row).all():
            raise DataError(f"{item.origin} holds NaN or infinity")
        rows.append(row)
    return torch.from_numpy(np.stack(rows))[:, :, None, None]


def check(features: Tensor) -> None:
    """Raise a `DataError` for what is no set of features."""
    shape = tuple(features.shape)
    if features.dtype != torch.float32 or len(shape) != 4 or shape[2:] != (1, 1):
        raise DataError(f"features must be float32 (N, d, 1, 1), not {features.dtype} {shape}")


def coerce(features: Any, channels: int, size: int, codec: str) -> Tensor:
    """Return a user's vectors `(N, d)` or `(d,)` as the models take them.

    Raises:
        DataError: they are no numbers, have another number of dimensions, or hold NaN or infinity.
    """
    try:
        rows = torch.from_numpy(as_float32(features))
    except ValueError as error:
        raise DataError(f"features must be numbers (N, {channels}): {error}") from None
    shape = tuple(rows.shape)
    rows = rows.flatten(1) if rows.ndim > 1 else rows[None]  # (N, d)
    if not len(rows) or rows.shape[1] != channels:
        raise DataError(f"features of shape {shape} must be (N, {channels})")
    if not rows.isfinite().all():
        raise DataError("features hold NaN or infinity")
    return rows[:, :, None, None]


def _same(features: Tensor, indices: Tensor, view: int, augmentation: str) -> Tensor:
    """Features have no views: what they were computed from is not here."""
    return features


def _preview(features: Tensor) -> Image.Image:
    """A vector as a square of grey cells, row by row."""
    values = features.flatten().cpu()
    side = int(np.ceil(len(values) ** 0.5))
    low, high = values.aminmax()
    grey = ((values - low) / (high - low).clamp(min=1e-12) * 255).byte()
    cells = torch.zeros(side * side, dtype=torch.uint8)
    cells[: len(grey)] = grey
    picture = Image.fromarray(cells.view(side, side).numpy())
    return picture.resize((64, 64), Image.Resampling.NEAREST)


def _opened(preview: bytes) -> Image.Image | None:
    """The picture that a preview is, if it is one."""
    try:
        return Image.open(io.BytesIO(preview), formats=FORMATS).convert("RGB")
    except Exception:  # a text, or what Pillow stumbles over
        return None


def _picture(preview: bytes) -> Image.Image:
    return _opened(preview) or picture(_text(preview))


def _player(preview: bytes) -> Markup:
    return Markup() if not preview or _opened(preview) else player(_text(preview))


def _words(preview: bytes) -> str:
    return "" if not preview or _opened(preview) else words(_text(preview))


def _text(preview: bytes) -> bytes:
    return preview.decode("utf-8", "replace").encode()


def _unpacked(file: Any) -> dict[str, np.ndarray]:
    """Return the arrays of an opened npz.

    Raises:
        ValueError: it is a single array, or would not fit into the memory that is free.
        MemoryError: an array claims more than its archive holds.
    """
    if not isinstance(file, np.lib.npyio.NpzFile) or file.zip is None:
        raise ValueError("it is a single array")
    with file:
        size = sum(entry.file_size for entry in file.zip.infolist())
        free = psutil.virtual_memory().available
        if size > free:
            raise ValueError(f"it unpacks to {size / 1e9:,.1f} GB, and {free / 1e9:,.1f} are free")
        return {name: file[name] for name in file.files}


def _read(path: Path) -> Samples:
    try:
        # opened here: numpy leaves a damaged archive open
        with path.open("rb") as opened:
            held = _unpacked(np.load(opened, allow_pickle=False))
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{shown(path)} cannot be read as npz: {error}") from error
    missing = [name for name in ("features", "labels") if name not in held]
    if missing:
        raise DataError(
            f"{shown(path)} has no array {missing[0]!r}; its arrays: {', '.join(held) or 'none'}"
        )
    held |= {n: _texts(path, n, held[n]) for n in ("labels", "split", "classes") if n in held}
    features, labels = held["features"], held["labels"]
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(
            f"{shown(path)}: features {features.shape} must be (N, d), labels {labels.shape} (N,)"
        )
    for name in ("split", "classes", "preview"):
        if name in held and held[name].ndim != 1:
            raise DataError(f"{shown(path)}: {name} {held[name].shape} must be a list")
    items = [Item(row, f"row {at} of {shown(path)}") for at, row in enumerate(features)]
    numbers, classes = _numbered(path, labels, held.get("classes"), items)
    parts = [str(part).lower() for part in held.get("split", ["train"] * len(labels))]
    unknown = sorted(set(parts) - set(PART_NAMES))
    if unknown or len(parts) != len(labels):
        raise DataError(
            f"{shown(path)}: split must name for each row one of {', '.join(PART_NAMES)}"
            + (f", not {unknown[0]!r}" if unknown else "")
        )
    return Samples(
        items,
        numbers,
        [PART_NAMES[part] for part in parts],
        classes,
        logits=held.get("logits"),
        originals=as_bytes(held["preview"].tolist()) if "preview" in held else None,
    )


def _texts(path: Path, name: str, held: np.ndarray) -> np.ndarray:
    """An array of labels or names, whose bytes are text."""
    try:
        return np.char.decode(held, "utf-8") if held.dtype.kind == "S" else held
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(path)}: {name} are bytes that are not UTF-8") from error


def _numbered(
    path: Path, labels: np.ndarray, names: np.ndarray | None, items: Sequence[Item]
) -> tuple[list[int], tuple[str, ...]]:
    """Return labels as indices into the class names, and these names.

    Args:
        names: of the classes; None: the labels are their names.
        items: for each label, whence it came.

    Raises:
        DataError: a label is missing (NaN, NaT), or none of the classes.
    """
    lacking = np.flatnonzero(labels != labels)
    if len(lacking):
        raise DataError(
            f"{shown(path)}: labels are missing in {len(lacking)} of {len(labels)} rows, the first "
            f"of them {lacking[0]}"
        )
    if names is None and labels.dtype.kind == "U":
        return numbered(labels.tolist(), items, "labels", None)
    if names is None:
        values, numbers = np.unique(labels, return_inverse=True)
        return numbers.tolist(), tuple(map(str, values))
    if labels.dtype.kind not in "iu" or not np.isin(labels, range(len(names))).all():
        raise DataError(f"{shown(path)}: labels must be 0 to {len(names) - 1}, as classes are")
    return labels.tolist(), tuple(map(str, names))


FEATURES = Modality(
    decode,
    check,
    _same,
    _preview,
    picture=_picture,
    player=_player,
    words=_words,
    coerce=coerce,
    columns=("features", "embedding", "embeddings"),
    holds="numbers",
    augmentations=("none",),
    stems=("features",),
    teachers=("mlp", "given"),
)

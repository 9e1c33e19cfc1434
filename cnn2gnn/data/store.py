"""Decoded images kept on disk, so that each data set is decoded once.

One safetensors file for each (source files, options), with a checksum of its pixels. The folder may
be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.data.decode import decode
from cnn2gnn.data.imageset import checksum
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PARTS, Source
from cnn2gnn.files import BrokenFileError, load_tensors, save_tensors

# To be raised whenever the rules of decoding change.
VERSION = 1
log = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """A whole data set before it is cut: images `(N, C, S, S)`, labels `(N,)`, parts `(N,)`."""

    images: Tensor
    labels: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    test_share: float


def cache_folder() -> Path:
    """Where decoded images are kept: the environment's CNN2GNN_CACHE, or ~/.cache/cnn2gnn."""
    return Path(os.environ.get("CNN2GNN_CACHE") or "~/.cache/cnn2gnn").expanduser()


def decoded(source: Source, image_size: int | None) -> Decoded:
    """Return the decoded images of `source`, from the cache if they are there and whole."""
    if not source.files:  # in memory anyway
        return _decode(source, image_size)
    path = (
        cache_folder() / "images" / f"{_slug(source.name)}-{_key(source, image_size)}.safetensors"
    )
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    except BrokenFileError as error:
        log.warning("decoding %s again: %s", source.name, error)
    made = _decode(source, image_size)
    try:
        _save(path, made)
    except OSError as error:  # a full or read-only disk costs time, not the run
        log.warning("decoded images of %s are not kept: %s", source.name, error)
    return made


def _decode(source: Source, image_size: int | None) -> Decoded:
    samples = source.read()
    if not samples.items:
        raise DataError(f"{source.name} holds no images")
    parts = torch.tensor([PARTS.index(part) for part in samples.parts], dtype=torch.uint8)
    return Decoded(
        decode(samples.items, image_size, source.name),
        torch.tensor(samples.labels, dtype=torch.int64),
        parts,
        samples.classes,
        samples.test_share,
    )


def _save(path: Path, made: Decoded) -> None:
    tensors = {"images": made.images, "labels": made.labels, "parts": made.parts}
    facts = {"classes": made.classes, "test_share": made.test_share, "checksum": _checksum(made)}
    save_tensors(path, tensors, facts)


def _load(path: Path) -> Decoded:
    tensors, facts = load_tensors(path)
    try:
        found = Decoded(
            tensors["images"],
            tensors["labels"],
            tensors["parts"],
            tuple(facts["classes"]),
            facts["test_share"],
        )
        whole = facts["checksum"] == _checksum(found)
    except (KeyError, TypeError) as error:
        raise BrokenFileError(f"{path} is of another kind") from error
    if not whole:
        raise BrokenFileError(f"{path} does not have the checksum it was written with")
    return found


def _checksum(made: Decoded) -> str:
    return checksum(made[:3], json.dumps([made.classes, made.test_share]))


def _key(source: Source, image_size: int | None) -> str:
    """Names, sizes and times of change of the source's files, and all options, as one hash."""
    digest = hashlib.sha256(json.dumps([VERSION, source.name, source.options, image_size]).encode())
    for file in source.files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error}") from error
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)

"""Decoded images kept on disk, so that each data set is decoded once.

One safetensors file for each (source, options, decoder), with a checksum of its pixels, which is
mapped into memory: what is not looked at takes none. It is used while every file that decides the
result has the size and times it had. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cnn2gnn.base.disk import cache_folder, is_large
from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors, sweep
from cnn2gnn.base.fingerprints import fingerprint
from cnn2gnn.data.imageset import checksum
from cnn2gnn.data.names import class_names, shown
from cnn2gnn.data.numbers import as_float32
from cnn2gnn.data.originals import Originals
from cnn2gnn.data.pixels import DataError
from cnn2gnn.data.source import PARTS, Samples, Source
from cnn2gnn.data.splitting import check_training, with_test
from cnn2gnn.registry import MODALITIES

# To be raised whenever the rules of listing and labelling change; a modality has its own version.
VERSION = 6
_TENSORS, _ORIGINALS = ("images", "labels", "parts"), ("originals", "ends")  # in the file
log = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """A whole data set before it is cut: images `(N, C, S, S)`, labels `(N,)`, parts `(N,)`.

    `notes` are those of `Samples`, and what was done to the names of the classes; `codec`,
    `originals` and `logits` are as of `ImageSet`.
    """

    images: Tensor
    labels: Tensor
    parts: Tensor
    classes: tuple[str, ...]
    test_share: float
    notes: tuple[str, ...]
    codec: str = ""
    originals: Originals | None = None
    logits: Tensor | None = None


def decoded(source: Source, image_size: int | None) -> Decoded:
    """Return the decoded images of `source`, from the cache if they are there and whole.

    Raises:
        DataError: the source is broken, or its labels serve no classifier.
    """
    if not source.files:  # in memory anyway
        return _decode(source, source.read(), image_size)
    key = _key(source, image_size)
    try:
        path = cache_folder() / "images" / f"{_slug(source.name)}-{key}.safetensors"
        sweep(path.parent)
        found = _load(path)
    except BrokenFileError as error:
        log.warning("decoding %s again: %s", source.name, error)
        found = None
    except OSError as error:  # no home, or another's: that costs time, not the run
        log.warning("decoded images of %s are not kept: %s", source.name, error)
        return _decode(source, source.read(), image_size)
    if found is not None:
        return found
    samples = source.read()
    references = _references(source, samples)
    state = _state(references)  # before they are read: a file that changes meanwhile is noticed
    made = _decode(source, samples, image_size)
    try:
        _save(path, made, references, state)
        # a large set lies on disk twice by now: what it was decoded into goes
        return (_load(path) or made) if is_large(made.images.nbytes) else made
    except OSError as error:  # a full or read-only disk
        log.warning("decoded images of %s are not kept: %s", source.name, error)
    return made


def _decode(source: Source, samples: Samples, image_size: int | None) -> Decoded:
    if not samples.items:
        raise DataError(f"{source.name} holds no images")
    classes, notes = class_names(samples.classes, source.name)
    labels = torch.tensor(samples.labels, dtype=torch.int64)
    parts = torch.tensor([PARTS.index(part) for part in samples.parts], dtype=torch.uint8)
    check_training(labels, (parts == 0).nonzero().flatten(), classes, source.name)
    modality, codec = MODALITIES[source.modality], ""
    decode = modality.decode
    if modality.learn is not None:
        rows = {part: (parts == code).nonzero().flatten() for code, part in enumerate(PARTS)}
        train = with_test(labels, rows, samples.test_share, source.name)["train"]
        codec = modality.learn([samples.items[row] for row in train.tolist()])
        decode = partial(decode, codec=codec)
    images = decode(samples.items, image_size, source.name)
    kept = samples.originals
    if kept is None and modality.originals is not None:
        kept = modality.originals(samples.items, codec)
    return Decoded(
        images,
        labels,
        parts,
        classes,
        samples.test_share,
        (*samples.notes, *notes),
        codec,
        _originals(kept, samples, source.name),
        _logits(samples, len(classes), source.name),
    )


def _originals(kept: Sequence[bytes] | None, samples: Samples, source: str) -> Originals | None:
    if kept is not None and len(kept) != len(samples.items):
        raise DataError(f"{source}: {len(kept)} previews for {len(samples.items)} rows")
    return None if kept is None else Originals.of(kept)


def _logits(samples: Samples, classes: int, source: str) -> Tensor | None:
    """What came with the samples as a teacher's answers, `(N, classes)`."""
    if samples.logits is None:
        return None
    try:
        logits = torch.from_numpy(as_float32(samples.logits))
    except ValueError:
        logits = torch.empty(0)
    if logits.shape != (len(samples.items), classes) or not logits.isfinite().all():
        raise DataError(
            f"{source}: logits must be finite, and {classes} for each of {len(samples.items)} rows"
        )
    return logits


def _save(path: Path, made: Decoded, references: list[Path], state: str) -> None:
    facts = {
        "classes": made.classes,
        "test_share": made.test_share,
        "notes": made.notes,
        "references": [str(file) for file in references],
        "state": state,
        "codec": made.codec,
    }
    tensors = {"images": made.images, "labels": made.labels, "parts": made.parts}
    if made.originals is not None:
        tensors |= {"originals": made.originals.content, "ends": made.originals.ends}
    if made.logits is not None:
        tensors["logits"] = made.logits
    save_tensors(
        path, tensors, facts | {"checksum": checksum(list(tensors.values()), json.dumps(facts))}
    )


def _load(path: Path) -> Decoded | None:
    """Return what is kept; None if there is nothing, or an image that it names has changed."""
    if not path.is_file():
        return None
    tensors, facts = load_tensors(path)
    try:
        images, labels, parts = (tensors[name] for name in _TENSORS)
        kept = [tensors[name] for name in (*_TENSORS, *_ORIGINALS, "logits") if name in tensors]
        whole = facts.pop("checksum") == checksum(kept, json.dumps(facts))
        if not whole:
            raise BrokenFileError(f"{path} does not have the checksum it was written with")
        if facts["state"] != _state([Path(file) for file in facts["references"]]):
            return None
        classes, notes = tuple(facts["classes"]), tuple(facts["notes"])
        originals = None
        if _ORIGINALS[0] in tensors:
            content, ends = (tensors[name] for name in _ORIGINALS)
            originals = Originals(content, ends, torch.arange(len(ends)))
        share, codec = facts["test_share"], facts["codec"]
        logits = tensors.get("logits")
        return Decoded(images, labels, parts, classes, share, notes, codec, originals, logits)
    except (AttributeError, KeyError, TypeError) as error:
        raise BrokenFileError(f"{path} is of another kind") from error


def _references(source: Source, samples: Samples) -> list[Path]:
    """The files that hold images, but were not known before the source was read."""
    known = set(source.files)
    paths = [item.content for item in samples.items if isinstance(item.content, Path)]
    return [path for path in paths if path not in known]


def _key(source: Source, image_size: int | None) -> str:
    """All that decides the result, and is known before the source is read, as one hash."""
    modality = MODALITIES[source.modality]
    decoder = [source.modality, modality.decode_version, *map(_version, modality.libraries)]
    # of a source that was registered from outside, what reads it as well
    kit = source.read.__module__.split(".")[0] == "cnn2gnn"
    reader = [] if kit else [fingerprint(source.read)]
    options = [VERSION, *decoder, source.name, source.options, image_size, *reader]
    text = json.dumps(options) + _state(source.files)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # decoding will say so
        return ""


def _state(files: Iterable[Path]) -> str:
    """Names, sizes and times of files, as one hash.

    The time of the last change of content or name stands beside that of the content, for copying
    and unpacking may set the latter back.
    """
    digest = hashlib.sha256()
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise DataError(f"{shown(file)} cannot be read: {error.strerror}") from error
        times = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        digest.update(os.fsencode(file) + f"\0{times}\n".encode())
    return digest.hexdigest()


def _slug(name: str) -> str:
    """The beginning of a name as part of a file name, of which file systems take 255 bytes."""
    return re.sub(r"[^\w.-]+", "_", name).encode()[:100].decode(errors="ignore")

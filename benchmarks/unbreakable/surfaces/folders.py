"""Class folders of pictures: odd names, odd and broken files."""

from __future__ import annotations

import io
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from cnn2gnn.base.signs import visible
from cnn2gnn.data import Splits, load
from surfaces.outcomes import Kind

MODES = ("L", "RGB", "RGBA", "LA", "P", "I;16", "1", "CMYK", "F", "I")
OF_ONE_GREY = ("L", "RGB", "RGBA", "LA", "P")  # whose pixels are the class's grey, exactly
FORMATS = ("PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
BROKEN = ("cut short", "empty", "garbage", "text", "a bit flipped")

# what file systems take: no /, no NUL, nothing that is a folder already, at most 255 bytes
FOLDERS = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), max_size=12)
FOLDERS = FOLDERS.filter(lambda name: name not in ("", ".", ".."))
PLAIN = st.sampled_from(
    ["cat", "dog", "Bär", "鳥", "a b", "train", "0", "<b>", "cafe\u0301", "%s{}"]
)


def encoded(grey: int, mode: str, size: tuple[int, int], kind: str) -> bytes:
    """A picture of one grey in any mode."""
    buffer = io.BytesIO()
    picture = Image.new("L", size, grey)
    if mode == "I;16":
        picture = Image.fromarray(np.full(size[::-1], grey * 257, np.uint16))
    elif mode != "L":
        picture = picture.convert(mode)
    try:
        picture.save(buffer, kind)
    except (OSError, ValueError):  # a format without this mode
        buffer = io.BytesIO()
        picture.convert("L").save(buffer, "PNG")
    return buffer.getvalue()


def broken(content: bytes, how: str) -> bytes:
    """The same, as a disk or a download leaves it."""
    middle = len(content) // 2
    return {
        "cut short": content[:middle],
        "empty": b"",
        "garbage": bytes(range(256)),
        "text": b"<html>404 not found</html>",
        "a bit flipped": content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :],
    }[how]


@dataclass(frozen=True)
class Picture:
    """One file of a class folder."""

    mode: str
    size: tuple[int, int]
    format_: str
    damage: str | None = None

    def content(self, grey: int) -> bytes:
        """Its bytes."""
        content = encoded(grey, self.mode, self.size, self.format_)
        return content if self.damage is None else broken(content, self.damage)


def pictures(*, whole: bool) -> st.SearchStrategy[Picture]:
    """Pictures of any kind; `whole`: of one size, none of them broken."""
    sides = st.just(4) if whole else st.sampled_from([4, 4, 4, 1, 3, 200])
    return st.builds(
        Picture,
        st.sampled_from(OF_ONE_GREY if whole else MODES),
        st.just((4, 4)) if whole else st.tuples(sides, sides),
        st.sampled_from(FORMATS[:1] if whole else FORMATS),
        st.none() if whole else st.sampled_from([None] * 30 + [*BROKEN]),
    )


@dataclass(frozen=True)
class Folder:
    """Class folders: names and what lies in each; the i-th class is of grey 20·i + 5."""

    classes: dict[str, list[Picture]]
    image_size: int | None
    suffix: str


def folders() -> st.SearchStrategy[Folder]:
    """Folders that may be read, and others."""
    whole = st.lists(pictures(whole=True), min_size=6, max_size=8)
    odd = st.lists(pictures(whole=False), max_size=8)
    classes = [
        st.dictionaries(names, files, min_size=low, max_size=4)
        for names, files, low in (
            (PLAIN, whole, 2), (PLAIN, whole, 3), (FOLDERS, whole, 2), (PLAIN, odd, 2),
            (PLAIN | FOLDERS, odd, 0),
        )
    ]  # fmt: skip
    suffixes = st.sampled_from([".png"] * 6 + [".PNG", ".jpg", ".txt", ""])
    return st.builds(Folder, st.one_of(*classes), st.sampled_from([None, 4, 8, 1]), suffixes)


def read_folder(given: Folder) -> None:
    """Write and load them; every picture must come back in its class."""
    with tempfile.TemporaryDirectory(prefix="folder-") as place:
        root, greys = Path(place, "own"), {}
        root.mkdir()
        for number, (name, files) in enumerate(given.classes.items()):
            grey = 20 * number + 5
            try:
                (root / name).mkdir()
            except OSError:  # too long, or the same to the file system
                continue
            greys.setdefault(unicodedata.normalize("NFC", name), set()).add(grey)
            for at, picture in enumerate(files):
                path = root / name / f"{at}{given.suffix}"
                path.write_bytes(picture.content(grey))
        splits = loaded(f"folder:{root}", Path(place), image_size=given.image_size)
        count = sum(map(len, given.classes.values()))
        assert sum(map(len, splits)) <= count, "more images than files"
        told = " ".join(splits.train.notes)
        assert sum(map(len, splits)) == count or "left out" in told, "left out without a word"
        exact = all(p.mode in OF_ONE_GREY for files in given.classes.values() for p in files)
        for part in splits if exact and splits.train.channels in (1, 3) else ():
            for image, label in zip(part.images, part.labels, strict=True):
                there = greys[part.classes[label]]
                assert image.unique().numel() == 1 and int(image.max()) in there, "another class"


def loaded(name: str, place: Path, **more: Any) -> Splits:
    """Load a data set and assert what every one is; the cache keeps nothing half written."""
    try:
        splits = load(name, **more)
    finally:
        left = [path for path in place.rglob(".*.*-*-*") if path.is_file()]
        assert not left, f"left behind: {left}"
    classes = splits.train.classes
    for part in splits:
        assert len(part) and part.classes == classes
        assert 0 <= part.labels.min() and part.labels.max() < len(classes)
        assert not part.images.is_floating_point() or part.images.isfinite().all()
    assert len(set(splits.train.labels.tolist())) > 1, "one class only"
    again = load(name, **more)
    assert [p.fingerprint for p in again] == [p.fingerprint for p in splits], "other data again"
    return splits


def names_of(given: Folder) -> tuple[str, ...]:
    """What a refusal must name one of: the folder, the size or a class."""
    return ("own", "image_size=", *map(visible, given.classes))


def kinds() -> Iterator[Kind]:
    """The rows of this surface."""
    yield Kind("loaders", "class folders", folders(), read_folder, names_of)

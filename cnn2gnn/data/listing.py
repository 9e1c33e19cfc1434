"""The files below a folder, as every source lists them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnn2gnn.data.names import LeftOut, shown
from cnn2gnn.data.pixels import DataError

# Copies and previews that macOS and Synology put among one's files.
MACHINES_OWN = ("__MACOSX", "@eaDir")


def absolute(path: str | Path) -> Path:
    """Return the path from the root, `..` undone; links stay, for their names may tell the part."""
    return Path(os.path.abspath(Path(path).expanduser()))


def below(folder: Path, name: str, origin: str) -> Path:
    """Return the file in `folder` that a table names.

    Args:
        origin: which row it is, for the error.

    Raises:
        DataError: it lies elsewhere: a table of somebody else's could show any file of yours.
    """
    path = absolute(folder / name)
    if not path.is_relative_to(absolute(folder)):
        raise DataError(f"{origin} names the file {shown(name)!r}, which is not in {shown(folder)}")
    return path


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is no part of a data set."""
    return name.startswith(".") or name in MACHINES_OWN


def subfolders(root: Path) -> list[Path]:
    """Return the folders in `root` that are not hidden, by name."""
    return sorted(p for p in root.iterdir() if os.path.isdir(p) and not is_hidden(p.name))


def files_below(root: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield all files in `root` and its folders, by name; linked folders are followed.

    Hidden files and folders, links to nothing and what is no file are left out.

    Raises:
        DataError: there is no such folder, it may not be read, or a link leads back into it.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {shown(root)}")
    yield from _below(root, root, (os.path.realpath(root),), left_out)


def _below(root: Path, folder: Path, around: tuple[str, ...], left_out: LeftOut) -> Iterator[Path]:
    """`around` are the true paths of `folder` and of all that it lies in."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{shown(folder)} cannot be listed: {error.strerror}") from error
    for name in names:
        path = folder / name
        is_folder = os.path.isdir(path)
        if is_hidden(name):
            left_out.add("hidden folders" if is_folder else "hidden files", path.relative_to(root))
        elif is_folder:
            true = os.path.realpath(path)
            if true in around:
                raise DataError(f"{shown(path)} is a link to {shown(true)}, in which it lies")
            yield from _below(root, path, (*around, true), left_out)
        elif os.path.isfile(path):
            yield path
        else:
            left_out.add("links to nothing and special files", path.relative_to(root))

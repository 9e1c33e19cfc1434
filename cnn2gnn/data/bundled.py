"""The data sets that libraries know: scikit-learn's digits, and torchvision's with checksums."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from cnn2gnn.data.listing import absolute
from cnn2gnn.data.pixels import DataError, Item
from cnn2gnn.data.source import Request, Samples, Source

TORCHVISION = {
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "stl10": "STL10",
}
DEFAULT_DATA_DIR = "data"
# Where Debian's package dataset-fashion-mnist puts the four idx.gz files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def digits_source(asked: Request) -> Source:
    """scikit-learn's 1,797 digits, 8×8, 0..16 scaled to 0..255; no part of theirs is a test."""
    return Source(asked.name, (), _read_digits)


def _read_digits() -> Samples:
    # what `sklearn.datasets.load_digits` reads, once SciPy and pandas are imported: two seconds
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")  # (N, 64 + 1)
    pixels = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    labels = rows[:, -1].astype(int).tolist()
    classes = tuple(map(str, range(10)))
    return Samples(_items(pixels, "digits"), labels, ["train"] * len(pixels), classes)


def torchvision_source(asked: Request) -> Source:
    """Find a data set of torchvision in `data_dir` (none: `data`), or fetch it there.

    `data_dir` may hold torchvision's folder or be that folder. Fashion-MNIST may also lie there as
    its four idx.gz files, and where Debian puts them.

    Raises:
        DataError: it is not there and `download` is false, or it cannot be fetched.
    """
    import torchvision.datasets

    name = asked.name
    kind = getattr(torchvision.datasets, TORCHVISION[name])
    folder = absolute(asked.data_dir or DEFAULT_DATA_DIR)
    found = _find(name, kind, folder)
    if found is None and asked.download:
        try:
            kind(folder, download=True)
        except Exception as error:  # no network, a wrong checksum, a full disk
            raise DataError(f"{name} could not be downloaded to {folder}: {error}") from error
        found = _find(name, kind, folder)
    if found is None:
        raise DataError(
            f"{name} is not in data_dir={str(folder)!r}: name the folder that holds "
            f"{_files(kind, Path())[0]}, or pass download=True"
        )
    root, files = found
    notes = ("left out: 100,000 unlabelled images",) if name == "stl10" else ()
    deciding = files + _class_file(kind, root)
    return Source(name, deciding, lambda: _read_torchvision(name, kind, root, files), notes=notes)


def _find(name: str, kind: Any, folder: Path) -> tuple[Path, tuple[Path, ...]] | None:
    """The root that torchvision wants, or the folder of the idx.gz files; and the files there."""
    places = [(root, _files(kind, root)) for root in (folder, folder / name, folder.parent)]
    if name == "fashion-mnist":
        archives = [file for file, _ in kind.resources]
        places += [
            (root, tuple(root / file for file in archives))
            for root in (folder, folder / name, DEBIAN_FASHION_MNIST)
        ]
    return next((place for place in places if all(file.is_file() for file in place[1])), None)


def _files(kind: Any, root: Path) -> tuple[Path, ...]:
    """Where torchvision expects the files of the data set `kind` under `root`."""
    if hasattr(kind, "resources"):
        return tuple(
            root / kind.__name__ / "raw" / file.removesuffix(".gz") for file, _ in kind.resources
        )
    return tuple(root / kind.base_folder / file for file, _ in kind.train_list + kind.test_list)


def _class_file(kind: Any, root: Path) -> tuple[Path, ...]:
    """The file of the class names, where they lie in one."""
    if hasattr(kind, "resources"):
        return ()
    named = kind.class_names_file if hasattr(kind, "class_names_file") else kind.meta["filename"]
    path = root / kind.base_folder / named
    return (path,) if path.is_file() else ()


def _read_torchvision(name: str, kind: Any, root: Path, files: Iterable[Path]) -> Samples:
    try:
        with tempfile.TemporaryDirectory() as unpacked:
            if all(file.suffix == ".gz" for file in files):
                root = _unpack(kind, files, Path(unpacked))
            parts = [kind(root, **_part(name, train)) for train in (True, False)]
    except Exception as error:  # whatever a damaged file makes the readers stumble over
        raise DataError(
            f"{name} in {root} is damaged ({error}); delete it and load it with download=True"
        ) from error
    items: list[Item] = []
    labels: list[int] = []
    names: list[str] = []
    for part, title in zip(parts, ("train", "test"), strict=True):
        pixels = np.asarray(part.data)  # (N, H, W[, 3]), STL-10: (N, 3, H, W)
        pixels = pixels.transpose(0, 2, 3, 1) if name == "stl10" else pixels
        items += _items(pixels, f"{name}'s {title} part")
        labels += np.asarray(part.labels if name == "stl10" else part.targets).tolist()
        names += [title] * len(pixels)
    classes = getattr(parts[0], "classes", None) or map(str, range(max(labels) + 1))
    return Samples(items, labels, names, tuple(classes))


def _part(name: str, train: bool) -> dict[str, Any]:
    return {"split": "train" if train else "test"} if name == "stl10" else {"train": train}


def _unpack(kind: Any, archives: Iterable[Path], root: Path) -> Path:
    """Unpack idx.gz files to where torchvision expects them; gzip checks its own checksum."""
    from torchvision.datasets.utils import extract_archive

    for archive, file in zip(archives, _files(kind, root), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        extract_archive(str(archive), str(file.parent))
    return root


def _items(pixels: np.ndarray, title: str) -> list[Item]:
    return [Item(image, f"image {index} of {title}") for index, image in enumerate(pixels)]

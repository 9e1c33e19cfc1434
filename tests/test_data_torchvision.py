"""torchvision's data sets, from small files in their own formats, and the real Fashion-MNIST."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from torch import Tensor

from cnn2gnn.data import DataError, load
from cnn2gnn.data.bundled import DEBIAN_FASHION_MNIST

CIFAR = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNN2GNN_CACHE", str(tmp_path / "cache"))


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def write_cifar(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Write CIFAR's pickles, 20 images each, with checksums to match; return the test pixels."""
    kind = CIFAR[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    sums, pixels = {}, np.empty(0)
    for file, _ in kind.train_list + kind.test_list:
        pixels = RNG.integers(0, 256, (20, 3 * 32 * 32), dtype=np.uint8)
        key = "labels" if name == "cifar10" else "fine_labels"
        content = pickle.dumps({"data": pixels, key: [0, 1] * 10})
        (folder / file).write_bytes(content)
        sums[file] = hashlib.md5(content).hexdigest()
    meta = pickle.dumps({kind.meta["key"]: ["airplane", "automobile"]})
    (folder / kind.meta["filename"]).write_bytes(meta)
    for listing in ("train_list", "test_list"):
        files = [[file, sums[file]] for file, _ in getattr(kind, listing)]
        monkeypatch.setattr(kind, listing, files)
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": hashlib.md5(meta).hexdigest()})
    return pixels.reshape(20, 3, 32, 32)


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("inside", ["", "deeper"])
def test_cifar_files(
    name: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_pixels = write_cifar(tmp_path, name, monkeypatch)
    splits = load(name, data_dir=tmp_path / (CIFAR[name].base_folder if inside else ""))
    np.testing.assert_array_equal(splits.test.images.numpy(), test_pixels)
    assert splits.test.labels.tolist() == [0, 1] * 10
    assert splits.train.classes == ("airplane", "automobile")
    assert len(splits.train) + len(splits.validation) == 20 * len(CIFAR[name].train_list)


def test_a_damaged_file_fails_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, "cifar10", monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"\x80")
    with pytest.raises(DataError, match=r"cifar10 in .* is damaged .* download=True"):
        load("cifar10", data_dir=tmp_path)


def write_stl10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write STL-10's binary format, 20 images each; return images (N, 3, 96, 96) and labels."""
    folder.mkdir(parents=True)
    images, labels = np.empty(0), np.empty(0)
    for part in ("train", "test"):
        images = RNG.integers(0, 256, (20, 3, 96, 96), dtype=np.uint8)
        labels = np.arange(20, dtype=np.uint8) % 10
        # Column-major pixels, and labels from 1: http://ai.stanford.edu/~acoates/stl10
        images.transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        (labels + 1).tofile(folder / f"{part}_y.bin")
    (folder / "unlabeled_X.bin").write_bytes(b"")
    (folder / "class_names.txt").write_text("\n".join("abcdefghij") + "\n")
    return images, labels


def fix_stl10_checksums(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for listing in ("train_list", "test_list"):
        files = [
            [file, md5(folder / file)] for file, _ in getattr(torchvision.datasets.STL10, listing)
        ]
        monkeypatch.setattr(torchvision.datasets.STL10, listing, files)


def test_stl10_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = write_stl10(tmp_path / "stl10_binary")
    fix_stl10_checksums(tmp_path / "stl10_binary", monkeypatch)
    splits = load("stl10", data_dir=tmp_path)
    np.testing.assert_array_equal(splits.test.images.numpy(), images)
    assert splits.test.labels.tolist() == labels.tolist()
    assert splits.test.classes == tuple("abcdefghij")
    assert load("stl10", data_dir=tmp_path, image_size=48).test.size == 48


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server of the folder `served`, at the address it yields."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


def test_download_is_explicit_and_checked(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = write_stl10(tmp_path / "made" / "stl10_binary")
    fix_stl10_checksums(tmp_path / "made" / "stl10_binary", monkeypatch)
    archive = tmp_path / "served" / "stl10_binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "stl10_binary", "stl10_binary")
    kind = torchvision.datasets.STL10
    monkeypatch.setattr(kind, "url", f"{server}/{archive.name}")
    where = tmp_path / "data"
    with pytest.raises(DataError, match="stl10 could not be downloaded"):  # the real checksum
        load("stl10", data_dir=where, download=True)
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    with pytest.raises(DataError, match=r"stl10 is not in data_dir=.* or pass download=True"):
        load("stl10", data_dir=where)
    splits = load("stl10", data_dir=where, download=True)
    np.testing.assert_array_equal(splits.test.images.numpy(), images)
    assert load("stl10", data_dir=where).test.fingerprint == splits.test.fingerprint


def write_idx(root: Path, suffix: str, count: int = 20) -> np.ndarray:
    """Write Fashion-MNIST's four files as idx or idx.gz; return the test pixels."""
    root.mkdir(parents=True)
    pixels = np.empty(0)
    for part in ("train", "t10k"):
        pixels = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        header = [b"".join(n.to_bytes(4, "big") for n in ns) for ns in (
            (0x803, count, 28, 28), (0x801, count)
        )]  # fmt: skip
        files = {
            "images-idx3": header[0] + pixels.tobytes(),
            "labels-idx1": header[1] + labels.tobytes(),
        }
        for name, content in files.items():
            content = gzip.compress(content) if suffix else content
            (root / f"{part}-{name}-ubyte{suffix}").write_bytes(content)
    return pixels


@pytest.mark.parametrize(
    ("inside", "suffix"), [("FashionMNIST/raw", ""), ("", ".gz"), ("fashion-mnist", ".gz")]
)
def test_fashion_mnist_is_found(tmp_path: Path, inside: str, suffix: str) -> None:
    pixels = write_idx(tmp_path / "data" / inside, suffix)
    splits = load("fashion-mnist", data_dir=tmp_path / "data")
    np.testing.assert_array_equal(splits.test.images[:, 0].numpy(), pixels)
    assert splits.test.classes[9] == "Ankle boot" and splits.test.labels[9] == 9


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "data", ".gz")
    file = tmp_path / "data" / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataError, match="fashion-mnist in .*data is damaged"):
        load("fashion-mnist", data_dir=tmp_path / "data")


def test_the_real_fashion_mnist() -> None:
    if not DEBIAN_FASHION_MNIST.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    splits = load("fashion-mnist", train_images=1000)
    assert [len(part) for part in splits] == [1000, 6000, 10_000]
    assert splits.validation.labels.bincount().tolist() == [600] * 10
    raw = gzip.decompress((DEBIAN_FASHION_MNIST / "t10k-images-idx3-ubyte.gz").read_bytes())
    pixels: Tensor = splits.test.images[:, 0]
    assert pixels.numpy().tobytes() == raw[16:]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_what_is_absent_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} is not in data_dir=.*download=True"):
        load(name, data_dir=tmp_path)


def test_unknown_names_and_numbers_are_refused() -> None:
    with pytest.raises(
        DataError, match="'cifar11': did you mean 'cifar10'.* known are digits, fas"
    ):
        load("cifar11")
    with pytest.raises(DataError, match="unknown data set 'parquet:'"):
        load("parquet:")
    with pytest.raises(DataError, match="image_size=0 must be at least 1"):
        load("digits", image_size=0)
    with pytest.raises(DataError, match="split_seed=-1 must be at least 0"):
        load("digits", split_seed=-1)

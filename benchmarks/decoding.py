"""Images a second from files to pixels in memory: our loader beside a plain `ImageFolder` loop.

JPEG files of 96 x 96 of random colours in class folders, to 84 pixels a side, on one core. The
second time ours reads what it has decoded once.

    python benchmarks/decoding.py [--images 2000] [--rounds 5]      (with cnn2gnn installed)
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import Times, in_turns, keep, ratios, spread
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cnn2gnn import load_data

SIZE, CLASSES = 84, 10
OURS = "ours, decoded anew"


def write_images(folder: Path, count: int) -> None:
    """JPEG files, smooth as photographs are, so that they are as fast to decode."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        target = folder / f"class-{number % CLASSES}"
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((96, 96)).save(target / f"{number}.jpg", quality=90)


def image_folder(folder: Path) -> None:
    """What everybody writes, without workers: one pass."""
    steps = [v2.PILToTensor(), v2.Resize((SIZE, SIZE)), v2.ToDtype(torch.float32, scale=True)]
    for _ in DataLoader(ImageFolder(str(folder), v2.Compose(steps)), batch_size=128):
        pass


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder, cache = Path(temporary, "images"), Path(temporary, "cache")
        write_images(folder, options.images)

        def ours(where: Path) -> None:
            os.environ["CNN2GNN_CACHE"] = str(where)
            load_data(f"folder:{folder}", image_size=SIZE)

        number = iter(range(10**6))
        times = in_turns(
            {
                "ImageFolder and DataLoader": lambda: image_folder(folder),
                OURS: lambda: ours(cache / str(next(number))),
                "ours, the second time": lambda: ours(cache / "0"),
            },
            options.rounds,
        )
    keep(
        "decoding",
        f"Decoding, {options.images:,} JPEG files to {SIZE} x {SIZE}, one core",
        ["way", "images a second", "time, ours = 1"],
        _rows(times, options.images),
        "A plain loop decodes in every epoch, ours once for all runs.",
    )


def _rows(times: Times, images: int) -> list[list[str]]:
    return [
        [way, spread([images / second for second in taken]), spread(ratios(times, way, OURS))]
        for way, taken in times.items()
    ]


if __name__ == "__main__":
    main()

"""A small run on class folders, which `kill_nine`, `damage` and `fuzz` do their worst to."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnn2gnn.config import Config


def write_photos(folder: Path, count: int) -> None:
    """Write so many of scikit-learn's digits as class folders of PNG files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images[:count] * (255 / 16)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, digits.target[:count], strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def config(folder: Path, photos: Path) -> Config:
    """A run that goes through every stage in seconds."""
    return Config.from_parameters(
        dataset=f"folder:{photos}",
        runs_dir=str(folder / "runs"),
        run="r",
        device="cpu",
        precision="32-true",
        stem="conv-tiny",
        hidden=32,
        k=5,
        teacher_epochs=2,
        epochs=3,
        graph_epochs=2,
        views=2,
        graph_views=2,
        graph_batch_size=64,
        eval_batch_size=50,
        eval_repeats=2,
    )

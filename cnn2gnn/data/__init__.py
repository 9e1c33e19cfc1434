"""Images in, uint8 tensors out: loading, splitting, augmentation. Knows no model."""

from cnn2gnn.data.augment import RECIPES, augment
from cnn2gnn.data.imageset import (
    ImageSet,
    Splits,
    channel_statistics,
    normalise,
)
from cnn2gnn.data.loading import DATASETS, load
from cnn2gnn.pixels import DataError

__all__ = [
    "DATASETS",
    "RECIPES",
    "DataError",
    "ImageSet",
    "Splits",
    "augment",
    "channel_statistics",
    "load",
    "normalise",
]

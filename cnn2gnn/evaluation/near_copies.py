"""An audit: what remains of the graph's gain without test images that have near copies in the bank?

Some test images of CIFAR are near duplicates of training images (Barz and Denzler, Do We Train on
Test Data?, Journal of Imaging 2020). A graph into the training images finds them.
"""

from __future__ import annotations

import pandas as pd
from torch import Tensor

from cnn2gnn.base.disk import collected
from cnn2gnn.data import Splits
from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.registry import MODALITIES

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)  # of the test images, the nearest to the bank first


def near_copies(splits: Splits, logits: Tensor, beside: Tensor) -> pd.DataFrame:
    """Accuracies without the share of test images nearest to a training image as raw samples.

    Args:
        splits: the images.
        logits: of the test images `(N, C)`, with their graph.
        beside: of the test images `(N, C)`, by the twin or whatever else has no graph.

    Returns:
        One row a share: without (as text), images that are left, accuracy and beside in [0, 1], and
        gain, their difference.
    """
    vectors = MODALITIES[splits.train.modality].vectors
    queries, keys = (
        collected((vectors(some) for some in part.images.split(500)), len(part))
        for part in (splits.test, splits.train)
    )
    distances = chosen_distances(queries, keys, 1)[1][:, 0]  # (N,)
    labels = splits.test.labels
    right, right_beside = ((said.argmax(1) == labels).float() for said in (logits, beside))
    rows = []
    for share in SHARES:
        kept = distances.argsort(descending=True)[: round((1 - share) * len(distances))]
        accuracy, other = right[kept].mean().item(), right_beside[kept].mean().item()
        rows.append((f"{share:.0%}", len(kept), other, accuracy, accuracy - other))
    return pd.DataFrame(rows, columns=["without", "images", "beside", "accuracy", "gain"])

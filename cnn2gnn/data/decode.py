"""Encoded images into one uint8 tensor, with all cores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed
from torch import Tensor
from tqdm.auto import tqdm

from cnn2gnn.base.disk import empty
from cnn2gnn.data.pixels import Item, decode_chunk, native_size

CHUNK = 256  # images a task: progress stays smooth, hand-over stays cheap
TURN_BYTES = 2**26  # of pixels that workers are asked for at a time: they may outrun the disk
# Starting worker processes takes a second: fewer images than this are decoded in this one.
WORKERS_FROM = 2048


def decode(items: Sequence[Item], image_size: int | None, title: str) -> Tensor:
    """Return all images as uint8 `(N, C, S, S)`; C is 1 if every image is grey, else 3 for all.

    Args:
        items: N images; `cnn2gnn.data.pixels` says how each kind is treated.
        image_size: S in pixels, to which images are resized. None keeps their own size.
        title: what the progress bar calls them.

    Raises:
        DataError: an image is broken (its file or row is named), or sizes differ and no
            `image_size` was given.
    """
    size = image_size or native_size(items[0])
    chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
    # Pixels need no decoding: to hand them to workers would take longer than to do it here.
    encoded = not isinstance(items[0].content, np.ndarray)
    workers = -1 if encoded and len(items) >= WORKERS_FROM else 1
    together = max(cpu_count(), TURN_BYTES // (CHUNK * 3 * size**2))
    turns = [chunks[i : i + together] for i in range(0, len(chunks), together)]
    task = delayed(decode_chunk)
    with (
        Parallel(n_jobs=workers) as parallel,
        tqdm(total=len(items), desc=f"decoding {title}", unit="image", disable=None) as bar,
    ):
        whole, filled = torch.empty(0, 0, size, size), 0
        decoded = (parallel(task(c, size, image_size is not None) for c in turn) for turn in turns)
        for part in chain.from_iterable(decoded):  # (n, C, S, S)
            if part.shape[1] > whole.shape[1]:  # none yet, or all grey and now colour
                before = whole
                whole = empty((len(items), *part.shape[1:]), torch.uint8)  # (N, C, S, S)
                if filled:
                    whole[:filled] = before[:filled]
            whole[filled : filled + len(part)] = torch.from_numpy(part)
            filled += len(part)
            bar.update(len(part))
    return whole

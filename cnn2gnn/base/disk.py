"""Tensors that may be larger than memory.

Up to a limit a tensor lies in memory. A larger one lies in a file without a name, mapped into
memory: the system reads what is used, and lets go of it where memory is needed for something else.
The file ends with the process, however that ends.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnn2gnn.base.values import InputError

IN_MEMORY = 2048  # MB (2²⁰ bytes), unless the environment says otherwise
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where decoded images are kept: the environment's CNN2GNN_CACHE, or ~/.cache/cnn2gnn.

    Raises:
        OSError: this user has no home.
    """
    try:
        return Path(os.environ.get("CNN2GNN_CACHE") or "~/.cache/cnn2gnn").expanduser()
    except RuntimeError as error:
        raise OSError(f"{error}; the environment's CNN2GNN_CACHE may name a folder") from error


def is_large(nbytes: int) -> bool:
    """Whether so many bytes are to lie on disk: more than the environment's CNN2GNN_IN_MEMORY MB.

    Raises:
        InputError: that is no number of at least 0.
    """
    told = os.environ.get("CNN2GNN_IN_MEMORY") or IN_MEMORY
    try:
        limit = float(told)
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise InputError(f"CNN2GNN_IN_MEMORY={told!r} must be a number of MB, at least 0")
    return nbytes > limit * 2**20


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Return a tensor to be filled; a large one on the CPU lies on disk, in `cache_folder`.

    Where the disk has no room for it, or may not be written, it lies in memory, and that is told.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if torch.device(device).type == "cpu" and is_large(nbytes):
        try:
            return _mapped(nbytes).view(dtype).view(*shape)
        except OSError as error:
            log.warning("%.1f GB are held in memory, for not on disk: %s", nbytes / 1e9, error)
    return torch.empty(*shape, dtype=dtype, device=device)


def collected(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Return parts `(m, …)` below each other, `(rows, …)`: `torch.cat` that may be large.

    Raises:
        ValueError: the parts have another number of rows.
    """
    whole, filled = torch.empty(0), 0
    for part in parts:
        if not filled:
            whole = empty((rows, *part.shape[1:]), part.dtype, part.device)
        if filled + len(part) <= rows:
            whole[filled : filled + len(part)] = part
        filled += len(part)
    if filled != rows:
        raise ValueError(f"parts of {filled} rows are no {rows}")
    return whole


def _mapped(nbytes: int) -> Tensor:
    """So many bytes on disk, `(nbytes,)` uint8."""
    folder = cache_folder() / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
            os.posix_fallocate(file.fileno(), 0, nbytes)
        return torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=(nbytes,)))

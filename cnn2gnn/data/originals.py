"""What samples were before they were decoded, to be shown and heard: bytes, one string each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cnn2gnn.base.disk import empty


@dataclass(frozen=True, eq=False)
class Originals:
    """N byte strings in one tensor, of which subsets share the memory.

    Attributes:
        content: uint8, all strings behind one another; ends: int64, where each of them ends.
        rows: int64 `(N,)`, which of them this set holds.
    """

    content: Tensor
    ends: Tensor
    rows: Tensor

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Originals:
        """Return these strings."""
        ends = torch.tensor([len(string) for string in strings]).cumsum(0)
        content = empty((int(ends[-1]) + 1,), torch.uint8)  # one more: none is no tensor to be kept
        content[-1] = 0
        places = content.numpy()
        for string, end in zip(strings, ends.tolist(), strict=True):
            places[end - len(string) : end] = np.frombuffer(string, np.uint8)
        return cls(content, ends, torch.arange(len(strings)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> bytes:
        row = int(self.rows[index])
        start = int(self.ends[row - 1]) if row else 0
        return self.content[start : int(self.ends[row])].numpy().tobytes()

    def subset(self, indices: Tensor) -> Originals:
        """Return those at `indices` `(M,)`, in that order."""
        return Originals(self.content, self.ends, self.rows[indices.cpu()])

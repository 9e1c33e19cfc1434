"""What several processes tell each other within a step, with gradients across them.

The loop weighs a process's loss by its share of the batch, and the mean of the gradients makes the
sum of these losses what is minimised. A gradient that has crossed processes is therefore a plain
sum: each process adds what its own loss makes of a row, and the row's owner gets them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # what each process makes of the sum comes back to every summand
        return _AllReduce.apply(gradients[0])


def all_reduced(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over all processes, with gradients to every process's summand."""
    return _AllReduce.apply(tensor)


def several_processes() -> bool:
    """Whether this process is one of several that train together."""
    return distributed.is_initialized() and distributed.get_world_size() > 1


@dataclass(frozen=True)
class Shares:
    """How many rows each process has, in order of rank.

    Attributes:
        sizes: n_r, which may differ.
        rank: of this process.
    """

    sizes: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, rows: Tensor) -> Shares:
        """Ask all processes how many `rows` `(n_r, …)` each has."""
        if not several_processes():
            return cls((len(rows),), 0)
        rank = distributed.get_rank()
        sizes = torch.zeros(
            distributed.get_world_size(), dtype=torch.int64, device=rows.device
        )  # fmt: skip
        sizes[rank] = len(rows)
        return cls(tuple(all_reduced(sizes).tolist()), rank)

    @property
    def mine(self) -> slice:
        """Which of all n rows are this process's."""
        start = sum(self.sizes[: self.rank])
        return slice(start, start + self.sizes[self.rank])

    def gathered(self, rows: Tensor) -> Tensor:
        """Return the rows `(n_r, …)` of all processes, `(n, …)`, with gradients to their owners.

        A sum of shares with zeros around them is exact, takes shares of any size, and has a
        backward on every backend.
        """
        if len(self.sizes) == 1:
            return rows
        before, after = self.mine.start, sum(self.sizes) - self.mine.stop
        zeros = (rows.new_zeros(count, *rows.shape[1:]) for count in (before, after))
        return all_reduced(torch.cat([next(zeros), rows, next(zeros)]))

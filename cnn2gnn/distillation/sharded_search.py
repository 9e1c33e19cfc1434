"""The search in a bank of which each process has a part, as one that has it whole does it."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from cnn2gnn.distillation.collectives import Shares
from cnn2gnn.graph.sharded import merge_parts, nearest_in_part


class ShardedSearch:
    """A `Search` that all processes call at once, each with its queries and its part of the keys.

    Of M keys a process makes, holds and searches M / P, not M: keys are made anew in every step,
    and together with what the search prepares of them take up to 12·d bytes a node (6 kB for the
    488 dimensions of conv-small's keys). What they are made of and what the nodes are (features,
    labels, residuals) every process has of all.

    Args:
        count: M, of keys in all parts.
    """

    def __init__(self, count: int) -> None:
        part = torch.arange(count).tensor_split(distributed.get_world_size())
        mine = part[distributed.get_rank()]
        self.rows = slice(int(mine[0]), int(mine[-1]) + 1)  # this process's keys among all
        self.count = count

    def __call__(self, queries: Tensor, keys: Tensor, k: int, exclude: Tensor | None) -> Tensor:
        """Return the k nearest of all keys for this process's queries, at most all M.

        Args:
            queries: `(n_r, d)`; keys: `(m, d)`, this process's.
            exclude: int64 `(n_r,)`, the key among all that a query must not get, −1 for none.

        Returns:
            int64 `(n_r, k)`, indices among all keys.

        Raises:
            ValueError: as `nearest`.
        """
        k = min(k, self.count)
        shares, start = Shares.of(queries), self.rows.start
        if exclude is not None:
            exclude = shares.gathered(exclude) - start  # of another part: no key of this one
        found, apart = nearest_in_part(shares.gathered(queries), keys, k, exclude)  # (n, k)
        found = (found + start).where(found >= 0, -1)
        # every process answers every query, (P, n, k); this one merges the answers to its own
        answers = Shares((len(found),) * len(shares.sizes), shares.rank)
        found, apart = (
            answers.gathered(each).unflatten(0, (-1, len(each)))[:, shares.mine]
            for each in (found, apart)
        )  # (P, n_r, k)
        return merge_parts(found, apart)

"""A part of a tensor that is too large to be copied: its rows are gathered when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_map

from cnn2gnn.base.disk import is_large


class Rows(Tensor):
    """The rows of `base` `(N, …)` that `rows` int64 `(M,)` names, as a read-only tensor `(M, …)`.

    Indexing the first dimension reads no more than it asks for; a slice that is large again, and
    the parts of a split, are `Rows`. Whatever else is done to it gathers all.
    """

    base: Tensor
    rows: Tensor

    @staticmethod
    def __new__(cls, base: Tensor, rows: Tensor) -> Rows:
        """Return the rows; nothing is read."""
        shape = (len(rows), *base.shape[1:])
        made = Tensor._make_wrapper_subclass(cls, shape, dtype=base.dtype, device=base.device)
        made.base, made.rows = base, rows
        return made

    def gathered(self) -> Tensor:
        """Return them as a plain tensor."""
        return self.base[self.rows]

    def __getitem__(self, index: Any) -> Tensor:
        """As of a tensor."""
        if isinstance(index, slice):
            return part_of(self.base, self.rows[index])
        if isinstance(index, tuple):
            return (
                self[index[0]][index[1:]] if isinstance(index[0], int) else self.gathered()[index]
            )
        return self.base[self.rows[index]]

    def __setitem__(self, index: Any, value: Any) -> None:
        """Refuse: what is gathered is a copy.

        Raises:
            TypeError: always.
        """
        raise TypeError("images of a set on disk are read-only: change a clone() of them")

    def __iter__(self) -> Iterator[Tensor]:
        """As of a tensor."""
        return (self[row] for row in range(len(self)))

    def split(self, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:  # type: ignore[override]
        """As of a tensor, along the first dimension."""
        if dim:
            return self.gathered().split(split_size, dim)
        return tuple(Rows(self.base, rows) for rows in self.rows.split(split_size))

    def numpy(self, **options: Any) -> np.ndarray:
        """Return them as an array; `options` as of `Tensor.numpy`."""
        return self.gathered().numpy(**options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and other processes get a plain tensor."""
        return self.gathered().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Return a plain tensor."""
        return self.gathered()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Do to the gathered rows what is asked."""
        args, kwargs = tree_map(_whole, (args, kwargs or {}))
        return function(*args, **kwargs)


def part_of(tensor: Tensor, rows: Tensor) -> Tensor:
    """Return the `rows` int64 `(M,)` of a tensor: a copy, or `Rows` where that would be large."""
    if isinstance(tensor, Rows):
        return part_of(tensor.base, tensor.rows[rows])
    if tensor.device.type == "cpu" and is_large(len(rows) * tensor[:1].nbytes):
        return Rows(tensor, rows)
    return tensor[rows]


def _whole(argument: Any) -> Any:
    return argument.gathered() if isinstance(argument, Rows) else argument

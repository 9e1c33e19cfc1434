"""Keys that are searched again and again, with what the search needs of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cnn2gnn.graph.rough import RoundedKeys


@dataclass(frozen=True)
class Prepared:
    """What the search needs of keys, whoever asks.

    Attributes:
        points: the keys `(M, d)`, moved by −`centre` `(d,)` where that is not None.
        norms: squared norms of the points, `(M,)`.
        raised: whether every query is 0 in the last dimension, as of points that `local_scaling`
            has raised: it then lengthens no product, and is nothing that rounding could change.
        held: whether the keys will be searched again, so that what is made of them is worth it.
    """

    points: Tensor
    norms: Tensor
    centre: Tensor | None
    raised: bool = False
    held: bool = False

    @cached_property
    def rounded(self) -> RoundedKeys:
        """The points in bf16: made where they are asked for, and kept."""
        return RoundedKeys.of(self.points, self.raised)

    def moved(self, queries: Tensor) -> Tensor:
        """Queries `(N, d)` moved as the points are."""
        return queries if self.centre is None else queries - self.centre


class SearchKeys(Tensor):
    """Keys `(M, d)` that are searched again and again, and hold what the search needs of them.

    A tensor like any other, as `nn.Parameter` is one: whatever is computed from it is a plain
    tensor again, which holds nothing. Make one by `SearchKeys.of(keys)`; it shares their memory, so
    they must not change.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    prepared: Prepared
    derived: dict[Hashable, Any]  # what a learner searches in the keys' place, see `derived_from`

    @classmethod
    def of(cls, keys: Tensor, raised: bool = False) -> SearchKeys:
        """Return `keys` as they are, ready to be searched.

        Args:
            raised: the last dimension of every query will be 0, see `Prepared`.

        Raises:
            ValueError: they are no `(M, d)`, M >= 1, or hold values that are not finite.
        """
        if keys.ndim != 2 or len(keys) == 0:
            raise ValueError(f"keys must be of shape (M, d), M >= 1, not {tuple(keys.shape)}")
        held = keys.as_subclass(cls)
        with torch.no_grad(), torch.autocast(keys.device.type, enabled=False):
            dtype = torch.promote_types(keys.dtype, torch.float32)
            held.prepared = replace(_prepare(keys, dtype, raised), held=True)
        held.derived = {}
        return held


def derived_from(
    keys: Tensor, what: Hashable, make: Callable[[Tensor], Sequence[Tensor]]
) -> Sequence[Tensor]:
    """Return what `make` makes of keys: parts of them, say, which are then searched.

    `SearchKeys` hold it, by the name `what`, and prepared as they are; of plain keys it is made
    anew, as of keys with a gradient, which is this step's alone, and in a recorded program.
    """
    recorded = torch.compiler.is_exporting()
    if not isinstance(keys, SearchKeys) or keys.requires_grad or recorded:
        return make(plain(keys))
    if what not in keys.derived:
        raised = keys.prepared.raised
        keys.derived[what] = [SearchKeys.of(each, raised) for each in make(plain(keys))]
    return keys.derived[what]


def plain(keys: Tensor) -> Tensor:
    """Return keys as a tensor that holds nothing more, as a recorded program needs them."""
    return keys.as_subclass(Tensor) if isinstance(keys, SearchKeys) else keys


def prepared_of(keys: Tensor, dtype: torch.dtype) -> Prepared:
    """The preparation that keys hold, if it is of this type, or a new one."""
    held = getattr(keys, "prepared", None)
    return held if held is not None and held.norms.dtype == dtype else _prepare(keys, dtype)


def _prepare(keys: Tensor, dtype: torch.dtype, raised: bool = False) -> Prepared:
    """Prepare keys `(M, d)`, moved where their norms would drown the distances.

    Distances do not change when all points move together, but ‖x‖² − 2 q·x cancels digits where
    the points lie far from the origin. Up to nine tenths of the mean norm, one digit is lost and
    the copies are saved. Called without gradient and autocast.
    """
    points = plain(keys).to(dtype)
    norms = checked_norms("keys", points)
    centre = points.mean(0)  # (d,)
    if raised:
        centre[-1] = 0  # there, queries stay 0
    # a program cannot decide by what the numbers are: it always moves them
    if not torch.compiler.is_exporting() and centre @ centre <= 0.9 * norms.mean():
        return Prepared(points, norms, None, raised)
    points = points - centre
    return Prepared(points, torch.linalg.vecdot(points, points), centre, raised)


def checked_norms(name: str, values: Tensor) -> Tensor:
    """Squared norms of the rows `(N, d)`; their finiteness tells that of the values at no cost."""
    norms = torch.linalg.vecdot(values, values)  # (N,)
    if torch.compiler.is_exporting():  # a program has no way to complain
        return norms
    finite = torch.isfinite(norms)
    if not finite.all():
        raise ValueError(
            f"{name}: {int((~finite).sum())} of {len(values)} rows hold NaN, infinity "
            "or values too large to square"
        )
    return norms

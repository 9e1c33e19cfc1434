"""Which of several solutions are beaten by none: the Pareto front."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto(points: ArrayLike) -> NDArray[np.bool_]:
    """Return which points no other one beats, bool `(n,)`.

    One point beats another if it is at most as large in every column, and smaller in one. Equal
    points do not beat each other.

    Args:
        points: costs `(n, m)`, finite: less is better. What is to be large is given negated.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    costs = np.asarray(points, dtype=float)  # (n, m)
    if costs.ndim != 2 or not np.isfinite(costs).all():
        raise ValueError(f"points of shape {costs.shape} must be finite numbers (n, m)")
    at_most = (costs[:, None] <= costs).all(2)  # (n, n): row i beats or equals column j
    smaller = (costs[:, None] < costs).any(2)  # (n, n)
    beaten: NDArray[np.bool_] = np.any(at_most & smaller, axis=0)
    return np.logical_not(beaten)
